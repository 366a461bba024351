import ApusFunctions
import Pickle
import Testing

/// Runs a closure as an engine does: found by its name, given values alone.
private func runAsEngine<Output, each Input>(
    _ function: RemoteFunction<Output, repeat each Input>, _ argument: repeat each Input
) async throws -> Output {
    let call = FunctionCall(
        arguments: try function.encodeArguments(repeat each argument), captured: try function.capturedValues())
    return try function.decodeResult(await record(function.name).invoke(call))
}

private let atFileScope = #remote { (x: Int) in x + 100 }

private struct Scale {
    var factor = 5.0
    let offset = #remote { (x: Double) in x + 1 }

    func closure() -> RemoteFunction<Double, Double> {
        #remote { [factor = self.factor as Double] (x: Double) in x * factor }
    }

    var fromProperty: RemoteFunction<Double, Double> {
        #remote { [factor = factor as Double] (x: Double) in x + factor }
    }

    static func plain() -> RemoteFunction<Int> { #remote { 42 } }
}

private actor Owner {
    var step = 2
    func closure() -> RemoteFunction<Int, Int> { #remote { [step = step as Int] (x: Int) in x + step } }
}

@MainActor private func onMain() -> RemoteFunction<Int, Int> { #remote { (x: Int) in x - 1 } }

@Suite("Closures made by #remote")
struct RemoteClosureTests {
    @Test("Captured values travel, and the code is found in the engine")
    func captures() async throws {
        let k = 3
        let point = Point(x: 1, y: 2)
        let f = #remote { [k = k as Int, point = point as Point] (x: Double) in (x + point.y) * Double(k) }
        #expect(try f.capturedValues().count == 2)
        #expect(try await runAsEngine(f, 4) == 18)
        #expect(try await f(4) == 18)
    }

    @Test("A capture is a value at the time the closure was made")
    func captureTime() async throws {
        var k = 1
        let f = #remote { [k = k as Int] in k }
        k = 2
        #expect(k == 2)
        #expect(try await runAsEngine(f) == 1)
    }

    @Test("Closures are found in methods, properties, initial values, actors and at file scope")
    func places() async throws {
        #expect(try await runAsEngine(Scale(factor: 3).closure(), 2) == 6)
        #expect(try await runAsEngine(Scale().fromProperty, 2) == 7)
        #expect(try await runAsEngine(Scale().offset, 2) == 3)
        #expect(try await runAsEngine(Scale.plain()) == 42)
        #expect(try await runAsEngine(Owner().closure(), 2) == 4)
        #expect(try await runAsEngine(onMain(), 2) == 1)
        #expect(try await runAsEngine(atFileScope, 2) == 102)
    }

    @Test("A closure in a closure captures from it")
    func nested() async throws {
        let make = { (j: Int) in
            let inner = { #remote { [j = j as Int] (x: Int) in j * x } }
            return inner()
        }
        #expect(try await runAsEngine(make(2), 10) == 20)
        #expect(try await runAsEngine(make(3), 10) == 30)
    }

    @Test("Two closures on one line are two functions")
    func sameLine() async throws {
        let (one, two) = (#remote { 1 }, #remote { 2 })
        #expect(one.name != two.name)
        #expect(try await runAsEngine(one) == 1)
        #expect(try await runAsEngine(two) == 2)
    }

    @Test("A closure of several statements may wait and throw, its result's type written or inferred")
    func statements() async throws {
        let waits = #remote { (x: Int) in
            let y = x * 2
            await Task.yield()
            return y
        }
        #expect(try record(waits.name).isAsynchronous)
        #expect(try await runAsEngine(waits, 4) == 8)

        let fails = #remote { (x: Double) throws -> Double in
            guard x >= 0 else { throw NegativeInput(value: x) }
            return x
        }
        #expect(try !record(fails.name).isAsynchronous)
        #expect(try await runAsEngine(fails, 4) == 4)
        await #expect(throws: NegativeInput(value: -1)) { try await runAsEngine(fails, -1) }
    }

    @Test("A closure may give nothing")
    func noResult() async throws {
        let f = #remote { (name: String) throws -> Void in
            try EngineContext.current?.namespace.set(name, to: 1)
        }
        let g = #remote { (x: Int) in await Task.yield() }
        let _: RemoteFunction<Void, Int> = g
        try await runAsEngine(f, "x")
        try await runAsEngine(g, 1)
    }

    @Test("Arguments of a closure may be given by name")
    func keywords() throws {
        let f = #remote { (x: Int, y: Int) in x - y }
        let call = FunctionCall(arguments: [.int(5)], keywords: ["y": .int(2)])
        #expect(try record(f.name).invokeSynchronously(call) == .int(3))
    }

    @Test("A request without the captured values is refused")
    func missingCaptures() throws {
        let k = 1
        let f = #remote { [k = k as Int] in k }
        let error = #expect(throws: FunctionCallError.self) { try record(f.name).invokeSynchronously(FunctionCall()) }
        #expect(error?.message.hasSuffix("captures more values than the call brings, which is 0") == true)
    }
}
