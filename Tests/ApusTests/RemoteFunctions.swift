import Apus
import Foundation

// The functions that the tests' engines run; the engines are this test program, started again.

@Remote
func squared(_ x: Double) -> Double { x * x }

@Remote
func add(_ left: Int, _ right: Int) -> Int { left + right }

@Remote
func shout(_ text: String) -> String {
    print("shouting \(text)")
    return text.uppercased() + "!"
}

struct Unlucky: Error, CustomStringConvertible {
    let number: Int
    var description: String { "\(self.number) brings bad luck" }
}

@Remote
func avoidThirteen(_ number: Int) throws -> Int {
    if number == 13 { throw Unlucky(number: number) }
    return number
}

@Remote
func engineProcess() -> Int { Int(ProcessInfo.processInfo.processIdentifier) }

/// Blocks the engine's worker, as long computations do.
@Remote
func sleepFor(_ seconds: Double) -> Double {
    Thread.sleep(forTimeInterval: seconds)
    return seconds
}

@Remote
func sleepAsync(_ seconds: Double) async throws -> Double {
    try await Task.sleep(for: .seconds(seconds))
    return seconds
}

/// Ends the engine's process at once, as a crash does.
@Remote
func crash() -> Int { exit(99) }

struct Particle: Codable, Sendable, Equatable {
    var name: String
    var position: [Double]
    var partner: Int?
}

@Remote
func shift(_ particle: Particle, by step: Double) -> Particle {
    var particle = particle
    particle.position = particle.position.map { $0 + step }
    return particle
}

@Remote
func sumOf(of name: String) throws -> Double {
    guard let engine = EngineContext.current else { return 0 }
    return try engine.namespace.get(name, as: [Double].self)?.reduce(0, +) ?? 0
}

/// The number of tasks in a tree of this depth; each prints when it begins and when it has waited for those below it.
@Remote
func talkingTree(_ depth: Int) async throws -> Int {
    print("\(depth) begins")
    var count = 1
    if depth > 0 {
        let view = try await EngineContext.client().loadBalancedView()
        async let left = view.apply($talkingTree, depth - 1)
        async let right = view.apply($talkingTree, depth - 1)
        count += try await left + right
    }
    print("\(depth) ends")
    return count
}
