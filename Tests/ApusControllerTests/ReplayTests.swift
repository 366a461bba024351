import ApusController
import ApusTransport
import ApusWire
import NIOCore
import Testing

@Suite("A signed message that is played again")
struct ReplayTests {
    private let ada = ByteBuffer(string: "ada")

    /// Waits until the controller has read all that was sent before, by any socket: the hub answers after it.
    private func settle(_ world: World) async throws {
        let query = world.socket(.dealer, world.client.common.registration)
        // Messages leave the loop in order, so the earlier ones are with the controller by then.
        for _ in 0..<2 { _ = try await query.ask(world.message(.connectionRequest)) }
    }

    @Test("At another port does nothing: an engine's shutdown at the hub, and a task at the ports of direct requests")
    func otherPort() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let notices = world.socket(.subscriber, world.client.notification)
        // The notification of the engine, which each new subscriber gets.
        _ = try await notices.next()
        let hub = world.socket(.dealer, world.client.common.registration)
        let control = world.socket(.dealer, world.client.control)
        let mux = world.socket(.dealer, world.client.mux)
        let broadcast = world.socket(.dealer, world.client.broadcast ?? 0)
        let client = world.socket(.dealer, world.client.task)

        // As stock clients ask engines, and as they ask the hub: one is nothing to the other.
        for content: JSONObject in [["restart": false], [:]] {
            let shutdown = world.message(.shutdownRequest, content: content, identities: [self.ada])
            control.send(shutdown)
            #expect(try await engine.control.next().id == shutdown.id)
            hub.send(shutdown.readdressed(to: []))
        }
        let task = world.message(.applyRequest)
        client.send(task)
        let arrived = try await engine.task.next()
        mux.send(task.readdressed(to: [self.ada]))
        broadcast.send(task.readdressed(to: []))
        control.send(task.readdressed(to: [self.ada]))
        // A message from the engine's side is no request either.
        let answer = engine.reply(to: arrived)
        engine.task.send(answer)
        _ = try await client.next()
        engine.mux.send(answer)
        mux.send(answer.readdressed(to: [self.ada]))
        world.socket(.publisher, world.engine.iopub).send(answer)

        try await self.settle(world)
        #expect(engine.mux.received == 0 && engine.broadcast.received == 0 && engine.control.received == 2)
        #expect(notices.received == 1 && hub.received == 0)
        #expect(await world.service.badMessages == 8)
        await world.stop()
    }

    @Test("Is known also where the controller signed it anew: a broadcast's copy, a task that is tried again")
    func signedByController() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let broadcast = world.socket(.dealer, world.client.broadcast ?? 0)
        let client = world.socket(.dealer, world.client.task)
        let mux = world.socket(.dealer, world.client.mux)
        broadcast.send(world.message(.applyRequest, metadata: ["targets": [["ada", 0]], "is_broadcast": true]))
        let copy = try await engine.broadcast.next()
        client.send(world.message(.applyRequest, metadata: ["retries": 1]))
        let first = try await engine.task.next()
        engine.task.send(engine.reply(to: first, status: "error"))
        let again = try await engine.task.next()
        #expect(again.id == first.id && again.signature != first.signature)
        for overheard in [copy, again] { mux.send(overheard.readdressed(to: [self.ada])) }
        // The controller's own messages are dropped as well.
        let told = try await world.socket(.dealer, world.client.common.registration).ask(world.message(.connectionRequest))
        engine.mux.send(told.readdressed(to: [self.ada]))
        try await self.settle(world)
        #expect(engine.mux.received == 0)
        #expect(await world.service.badMessages == 3)
        await world.stop()
    }

    @Test("Is not published again, nor is a broadcast's reply passed on again")
    func output() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let listener = world.socket(.subscriber, world.client.iopub)
        let output = world.message(.stream, content: ["name": "stdout", "text": "once"])
        engine.iopub.send(output)
        engine.iopub.send(output)
        let last = world.message(.stream, content: ["name": "stdout", "text": "last"])
        engine.iopub.send(last)
        #expect(try await listener.next().id == output.id)
        #expect(try await listener.next().id == last.id)

        let client = world.socket(.dealer, world.client.broadcast ?? 0)
        let request = world.message(
            .applyRequest, metadata: ["targets": [["ada", 0]], "is_broadcast": true, "apus_copies": true])
        client.send(request)
        let reply = engine.reply(to: try await engine.broadcast.next(), more: ["original_msg_id": .string(request.id)])
        engine.broadcast.send(reply)
        engine.broadcast.send(reply)
        _ = try await client.next()
        try await self.settle(world)
        #expect(client.received == 1)
        #expect(await world.service.badMessages == 2)
        await world.stop()
    }

    @Test("Requests are not forgotten for all that engines print")
    func lanes() {
        var memory = ReplayMemory(limit: 2, lanes: 2)
        func text(_ number: Int) -> ByteBuffer { ByteBuffer(string: String(repeating: "\(number)", count: 64)) }
        let outcomes = [memory.remember(text(0))] + (1..<9).map { memory.remember(text($0), lane: 1) }
        #expect(outcomes.allSatisfy { $0 })
        let again = memory.remember(text(0), lane: 1)
        #expect(!again)
        #expect(!memory.contains(text(1)))
    }
}

@Suite("An id that was here before")
struct RepeatedIDTests {
    /// The request under the id of an earlier one, with another signature.
    private func again(_ world: World, _ request: Message, _ metadata: JSONObject = [:]) -> Message {
        var parts = request.parts
        if !metadata.isEmpty { parts.metadata = JSONValue.object(metadata).packed }
        parts.content = ByteBuffer(string: "{ }")
        return world.signed(parts)
    }

    @Test("Is refused for a task, which leaves no record without an end, and its client is told")
    func task() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let query = world.socket(.dealer, world.client.common.registration)
        let request = world.message(.applyRequest)
        client.send(request)
        engine.task.send(engine.reply(to: try await engine.task.next()))
        _ = try await client.next()
        _ = try await query.ask(world.message(.purgeRequest, content: ["msg_ids": "all"]))
        let answer = try await client.ask(self.again(world, request))
        #expect(answer.json["ename"] == "EngineError")
        #expect(answer.json["evalue"]?.string?.contains("needs a new id") == true)
        let records = try await query.ask(world.message(.databaseRequest, content: ["query": [:], "keys": ["msg_id"]]))
        #expect(records.json["records"] == [])
        #expect(engine.task.received == 1)
        await world.stop()
    }

    @Test("Is refused for a broadcast that is under way, whose client has its own answers", arguments: [false, true])
    func broadcast(isCoalescing: Bool) async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.broadcast ?? 0)
        let other = world.socket(.dealer, world.client.broadcast ?? 0)
        let metadata: JSONObject = [
            "targets": [["ada", 0], ["ada", 0]], "is_broadcast": true, "is_coalescing": .bool(isCoalescing),
            "apus_copies": true,
        ]
        let request = world.message(.applyRequest, metadata: metadata)
        client.send(request)
        let arrived = try await engine.broadcast.next()
        other.send(self.again(world, request, metadata))
        let query = world.socket(.dealer, world.client.common.registration)
        while await world.service.badMessages == 0 { _ = try await query.ask(world.message(.connectionRequest)) }
        let echoed: JSONObject = ["is_coalescing": .bool(isCoalescing), "original_msg_id": .string(request.id)]
        engine.broadcast.send(engine.reply(to: arrived, more: echoed))
        #expect(try await client.next().texts == ["result of ada"])
        #expect(engine.broadcast.received == 1)
        #expect(other.received == 0)
        // When it is over the id may be used again, also by a request that differs in its signature alone: an engine would take
        // an equal copy for the first one played again, and never answer.
        var parts = request.parts
        parts.metadata.writeStaticString(" ")
        other.send(world.signed(parts))
        let copy = try await engine.broadcast.next()
        #expect(copy.id == arrived.id)
        #expect(copy.signature != arrived.signature)
        await world.stop()
    }
}
