import ApusFunctions
import Pickle
import Testing

@Suite("The engine around a function")
struct EngineContextTests {
    @Test("A function keeps values in the engine's namespace, and finds none when no engine runs it")
    func namespace() throws {
        let count = try record("countUp")
        let call = FunctionCall(arguments: [.string("calls")])
        let namespace = InMemoryNamespace()
        let engine = EngineContext(engineID: 3, uuid: "e-3", namespace: namespace)
        try EngineContext.$current.withValue(engine) { () throws in
            #expect(try count.invokeSynchronously(call) == .int(1))
            #expect(try count.invokeSynchronously(call) == .int(2))
        }
        #expect(try count.invokeSynchronously(call) == .int(0))
        #expect(namespace.names == ["calls"])
        #expect(namespace.pickled("calls") == .int(2))
    }

    @Test("Values of any Codable type are kept, read and removed")
    func values() throws {
        let namespace = InMemoryNamespace()
        try namespace.set("point", to: Point(x: 1, y: 2))
        #expect(try namespace.get("point", as: Point.self) == Point(x: 1, y: 2))
        #expect(try namespace.get("line", as: Point.self) == nil)
        #expect(throws: (any Error).self) { try namespace.get("point", as: [Int].self) }
        namespace.remove("point")
        #expect(namespace.names == [])
    }
}
