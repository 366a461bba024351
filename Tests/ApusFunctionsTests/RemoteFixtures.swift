import ApusFunctions

// The functions that the tests of this target call, declared as users declare them.

struct Point: Codable, Sendable, Equatable {
    var x: Double
    var y: Double
}

struct NegativeInput: Error, Equatable {
    let value: Double
}

@Remote func doNothing() {}

@Remote func squaredNumber(_ x: Double) -> Double { x * x }

@Remote func squareRoot(of x: Double) throws -> Double {
    guard x >= 0 else { throw NegativeInput(value: x) }
    return x.squareRoot()
}

@Remote func successor(_ x: Int) async -> Int {
    await Task.yield()
    return x + 1
}

@Remote func failLater(_ x: Double) async throws {
    await Task.yield()
    throw NegativeInput(value: x)
}

@Remote func move(_ point: Point, by distance: Double, `in` direction: String = "x") -> Point {
    direction == "x" ? Point(x: point.x + distance, y: point.y) : Point(x: point.x, y: point.y + distance)
}

@MainActor @Remote func onMainActor(_ x: Int) -> Int { x + 1 }

@Remote
@available(*, deprecated, message: "an old function is a remote function all the same")
func oldFunction(_ x: Int) -> Int { x }

@Remote func `repeat`(_ text: String, times: Int) -> String { String(repeating: text, count: times) }

@Remote func countUp(_ name: String) throws -> Int {
    guard let engine = EngineContext.current else { return 0 }
    let next = (try engine.namespace.get(name, as: Int.self) ?? 0) + 1
    try engine.namespace.set(name, to: next)
    return next
}

enum Statistics {
    @Remote static func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

    struct Weighted {
        @Remote fileprivate static func mean(_ values: [Double], _ weights: [Double]) -> Double {
            zip(values, weights).map(*).reduce(0, +) / weights.reduce(0, +)
        }
        static var remoteMean: RemoteFunction<Double, [Double], [Double]> { self.$mean }
    }
}

extension Statistics.Weighted {
    @Remote static func total(_ weights: [Double]) -> Double { weights.reduce(0, +) }
}

@MainActor struct Screen {
    @Remote static func draw(_ text: String) -> Int { text.count }
}

actor Counter {
    @Remote static func half(_ x: Double) -> Double { x / 2 }
}

final class Machine {
    @Remote class func identity(_ x: Bool) -> Bool { x }
}
