import ApusController
import ApusTransport
import ApusWire
import NIOCore
import Testing

@Suite("A controller and what engines refuse")
struct RefusalTests {
    /// A refusal as ipyparallel's engines write it.
    private func refusal(_ engine: FakeEngine, of request: Message, _ value: String, traceback: [String] = []) -> Message {
        engine.world.message(
            .applyReply,
            content: ErrorContent(name: "UnmetDependency", value: value, traceback: traceback).json,
            metadata: ["status": "error", "engine": .string(engine.uuid), "dependencies_met": false], parent: request.header,
            identities: Array(request.identities))
    }

    private static let requireTraceback = [
        "\u{1B}[31m---\u{1B}[0m", "File \u{1B}[32mdependency.py:74\u{1B}[0m, in \u{1B}[36m_require\u{1B}[0m(*modules, **mapping)",
    ]

    @Test(
        "A module that no engine has is named in the error, whichever engine's words say so",
        arguments: [
            ("gurobipy", requireTraceback), ("engine 1 has no Python module 'gurobipy'", []),
            ("No module named 'gurobipy'", ["<string> in <lambda>"]),
        ])
    func missingModule(value: String, traceback: [String]) async throws {
        let world = try await World()
        let engines = [try await world.startEngine("ada"), try await world.startEngine("bob")]
        let client = world.socket(.dealer, world.client.task)
        client.send(world.message(.applyRequest))
        // The engine that came last has been idle the shortest.
        for engine in engines.reversed() {
            engine.task.send(self.refusal(engine, of: try await engine.task.next(), value, traceback: traceback))
        }
        let reply = try await client.next()
        #expect(reply.json["ename"] == "ImpossibleDependency")
        #expect(
            reply.json["evalue"]
                == "no engine that may run it has the module 'gurobipy'; asked were engine 0, engine 1")
        await world.stop()
    }

    @Test("A condition is not taken for a module; it is asked again when something else has run on an engine")
    func condition() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let query = world.socket(.dealer, world.client.common.registration)
        let direct = world.socket(.dealer, world.client.mux)
        client.send(world.message(.applyRequest))
        let request = try await engine.task.next()
        engine.task.send(self.refusal(engine, of: request, "busy", traceback: ["in check"]))
        let content: JSONObject = ["targets": .null, "verbose": false, "apus_tasks": [.string(request.id), "unheard of"]]
        var waiting: JSONValue = .null
        while waiting[request.id] == nil {
            waiting = try await query.ask(world.message(.queueRequest, content: content)).json["apus_waiting"] ?? .null
        }
        #expect(waiting.object?.count == 1)
        #expect(waiting[request.id]?.string?.hasPrefix("no engine meets its dependencies: engine 0 does not") == true)
        // A push.
        direct.send(world.message(.applyRequest, identities: [ByteBuffer(string: "ada")]))
        engine.mux.send(engine.reply(to: try await engine.mux.next()))
        let again = try await engine.task.next()
        #expect(again.id == request.id)
        #expect(again.signature != request.signature, "an engine takes no message twice")
        engine.task.send(engine.reply(to: again))
        #expect(try await client.next().json["status"] == "ok")
        // Nothing waits, so the reply has no member that ipyparallel's clients do not know.
        let status = try await query.ask(world.message(.queueRequest, content: ["targets": .null])).json
        #expect(status.object?.keys.sorted() == ["0", "status", "unassigned"])
        await world.stop()
    }
}
