import ApusController
import ApusTransport
import ApusWire
import NIOCore
import Testing
import ZMTPTransport

@Suite("Absurd numbers")
struct AbsurdNumberTests {
    static let numbers: [JSONValue] = [.double(1e300), .double(-1e300), .int(.max), .int(.min), .double(9.3e18), -1, "x", .null]

    @Test("Of a request, an engine or a query are clamped or refused, and later requests work", arguments: numbers)
    func clamped(number: JSONValue) async throws {
        let world = try await World()
        let engine = try await world.startEngine(
            "ada", apus: ["python": true, "recall": true, "resources": ["gpu": number, "memory": 1]])
        let client = world.socket(.dealer, world.client.task)
        let members = [
            "timeout", "retries", "apus_priority", "apus_depth", "apus_limit", "apus_retry", "apus_results", "targets", "after",
        ]
        for member in members { client.send(world.message(.applyRequest, metadata: [member: number])) }
        client.send(world.message(.applyRequest, metadata: ["apus_resources": ["gpu": number, "memory": number]]))
        client.send(
            world.message(.applyRequest, metadata: ["apus_retry": ["pause": number, "factor": number, "longest": number]]))
        let broadcast = world.socket(.dealer, world.client.broadcast ?? 0)
        broadcast.send(world.message(.applyRequest, metadata: ["targets": [["ada", number], [number, number]]]))
        let query = world.socket(.dealer, world.client.common.registration)
        for content: JSONObject in [["targets": number], ["targets": [number]], ["msg_ids": number], ["engine_ids": [number]]] {
            for type: MessageType in [.queueRequest, .loadRequest, .purgeRequest] {
                _ = try await query.ask(world.message(type, content: content))
            }
        }
        for test: JSONObject in [["$mod": [number, number]], ["$mod": [2, number]], ["$lt": number], ["$regex": number]] {
            let content: JSONObject = ["query": ["submitted": .object(test), "header.version": .object(test)]]
            _ = try await query.ask(world.message(.databaseRequest, content: content))
        }
        query.send(world.message(.unregistrationRequest, content: ["id": number]))
        let last = world.message(.applyRequest, metadata: ["targets": ["ada"]])
        client.send(last)
        var arrived = try await engine.task.next()
        while arrived.id != last.id {
            engine.task.send(engine.reply(to: arrived, more: ["apus_work": number]))
            arrived = try await engine.task.next()
        }
        await world.stop()
    }
}

@Suite("A controller's limits, over TCP", .timeLimit(.minutes(1)))
struct LimitTests {
    private func options(message: Int? = nil, unread: Int? = nil) -> ControllerOptions {
        var options = ControllerOptions()
        options.maximumMessageSize = message
        options.maximumUnread = unread
        return options
    }

    @Test("A stranger that sends more than 16 MiB is cut off, and so is one that plays a known message's head again")
    func stranger() async throws {
        let world = try await World(transport: ZMTPTransport())
        let engine = try await world.startEngine("ada")
        let large = ByteBuffer(repeating: 1, count: MessageSize.strangers + 1)
        let client = world.socket(.dealer, world.client.mux)
        let request = world.message(.applyRequest, identities: [ByteBuffer(string: "ada")], buffers: [large])
        // The signed frames come before the buffer, so the sender is known by then.
        client.send(request)
        #expect(try await engine.mux.next().id == request.id)
        let copy = world.socket(.dealer, world.client.mux)
        copy.send(request)
        await copy.nextLoss()
        var forged = world.message(.applyRequest, identities: [ByteBuffer(string: "ada")], buffers: [large]).frames
        forged[2] = ByteBuffer(string: String(repeating: "0", count: 64))
        let stranger = world.socket(.dealer, world.client.mux)
        stranger.send(forged)
        await stranger.nextLoss()
        #expect(engine.mux.received == 1)
        await world.stop()
    }

    @Test("A request that is larger than the limit is answered with an error, and the connection goes on")
    func largeRequest() async throws {
        let limit = 1 << 20
        let world = try await World(self.options(message: limit), transport: ZMTPTransport())
        let engine = try await world.startEngine("ada")
        let large = ByteBuffer(repeating: 1, count: limit)
        let ada = ByteBuffer(string: "ada")
        for (port, targets, side) in [
            (world.client.mux, [ada], engine.mux), (world.client.task, [], engine.task),
        ] {
            let client = world.socket(.dealer, port)
            let request = world.message(.applyRequest, identities: targets, buffers: [large, large, large])
            let answer = try await client.ask(request)
            #expect(answer.type == "apply_reply")
            #expect(answer.json["evalue"]?.string?.contains("larger than 1048576 bytes") == true)
            #expect(answer.parent.textMember("msg_id") == request.id)
            let small = world.message(.applyRequest, identities: targets)
            client.send(small)
            #expect(try await side.next().id == small.id)
        }
        let broadcast = world.socket(.dealer, world.client.broadcast ?? 0)
        let request = world.message(
            .applyRequest, metadata: ["targets": [["ada", 0], ["bob", 1]], "is_broadcast": true], buffers: [large])
        broadcast.send(request)
        for uuid in ["ada", "bob"] {
            let answer = try await broadcast.next()
            #expect(answer.json["ename"] == "ValueError")
            #expect(answer.parent.textMember("msg_id") == "\(request.id)_\(uuid)")
        }
        await world.stop()
    }

    @Test("A reply that is larger than the limit becomes an error, which ends its task")
    func largeReply() async throws {
        let limit = 1 << 20
        let world = try await World(self.options(message: limit), transport: ZMTPTransport())
        let engine = try await world.startEngine("ada")
        for (port, targets, side) in [
            (world.client.mux, [ByteBuffer(string: "ada")], engine.mux), (world.client.task, [], engine.task),
        ] {
            let client = world.socket(.dealer, port)
            let request = world.message(.applyRequest, identities: targets)
            client.send(request)
            var frames = engine.reply(to: try await side.next()).frames
            frames.append(ByteBuffer(repeating: 1, count: limit))
            side.send(frames)
            let answer = try await client.next()
            #expect(answer.json["ename"] == "ValueError")
            #expect(answer.parent.textMember("msg_id") == request.id)
            #expect(answer.buffers.isEmpty)
            let query = world.socket(.dealer, world.client.common.registration)
            let status = world.message(.resultRequest, content: ["msg_ids": [.string(request.id)], "status_only": true])
            #expect(try await query.ask(status).json["completed"] == [.string(request.id)])
        }
        await world.stop()
    }

    @Test("A client that does not read is cut off when more waits for it than it may let wait; others go on")
    func deafClient() async throws {
        let world = try await World(self.options(unread: 1 << 20), transport: ZMTPTransport())
        let engine = try await world.startEngine("ada")
        let deaf = world.socket(.dealer, world.client.mux)
        let other = world.socket(.dealer, world.client.mux)
        let ada = [ByteBuffer(string: "ada")]
        deaf.send(world.message(.applyRequest, identities: ada))
        let request = try await engine.mux.next()
        deaf.setReading(false)
        // The operating system keeps some megabytes more for it.
        for _ in 0..<40 {
            var frames = engine.reply(to: request).frames
            frames.append(ByteBuffer(repeating: 1, count: 1 << 20))
            engine.mux.send(frames)
        }
        other.send(world.message(.applyRequest, identities: ada))
        engine.mux.send(engine.reply(to: try await engine.mux.next()))
        #expect(try await other.next().texts == ["result of ada"])
        deaf.setReading(true)
        await deaf.nextLoss()
        #expect(deaf.received < 40)
        await world.stop()
    }
}
