import Logging
import ApusCore
import ApusTransport
import ApusController
import ApusFunctions
import ApusStore
import ApusWire
import NIOCore
import Testing

@Suite("A controller")
struct ServiceTests {
    @Test("An IPv6 address in brackets is listened on, and in brackets in the connection file", arguments: ["::1", "[::1]"])
    func ipv6(address: String) async throws {
        var options = ControllerOptions()
        options.clientAddress = address
        let world = try await World(options)
        #expect(world.client.common.interface == "tcp://[::1]")
        #expect(world.engine.common.interface == "tcp://127.0.0.1")
        await world.stop()
    }

    @Test("Runs a task on an engine and brings the reply back to its client")
    func task() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let request = world.message(.applyRequest, buffers: [ByteBuffer(string: "f")])
        client.send(request)
        let arrived = try await engine.task.next()
        #expect(arrived.id == request.id)
        #expect(arrived.signature == request.signature)
        engine.task.send(engine.reply(to: arrived))
        let reply = try await client.next()
        #expect(reply.identities.map { String(buffer: $0) } == ["ada"])
        #expect(reply.parent.textMember("msg_id") == request.id)
        #expect(reply.texts == ["result of ada"])
        await world.stop()
    }

    @Test("Tries a task again on the only engine there is, and ends with its last error")
    func retries() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        client.send(world.message(.applyRequest, metadata: ["retries": 1]))
        let first = try await engine.task.next()
        engine.task.send(engine.reply(to: first, status: "error"))
        let second = try await engine.task.next()
        #expect(second.id == first.id)
        // An engine does not take a signature twice.
        #expect(second.signature != first.signature)
        engine.task.send(engine.reply(to: second, status: "error"))
        #expect(try await client.next().json["status"] == "error")
        await world.stop()
    }

    @Test("A client that subscribes late is told of engines that registered meanwhile")
    func lateSubscriber() async throws {
        let world = try await World()
        _ = try await world.startEngine("ada")
        let notices = world.socket(.subscriber, world.client.notification)
        let notice = try await notices.next()
        #expect(notice.type == "registration_notification")
        #expect(notice.json["uuid"] == "ada")
        await world.stop()
    }

    @Test("Says which engine died with a task, and tells clients that it is gone")
    func engineLoss() async throws {
        let world = try await World()
        let notices = world.socket(.subscriber, world.client.notification)
        let engine = try await world.startEngine("ada")
        #expect(try await notices.next().type == "registration_notification")
        let client = world.socket(.dealer, world.client.task)
        let request = world.message(.applyRequest)
        client.send(request)
        _ = try await engine.task.next()
        engine.die()
        let reply = try await client.next()
        #expect(reply.json["ename"] == "EngineError")
        let why = reply.json["evalue"]?.string ?? ""
        #expect(why.hasPrefix("engine 0 died while running task '\(request.id)', tried once: its connections dropped"))
        let notice = try await notices.next()
        #expect(notice.type == "unregistration_notification")
        #expect(notice.json == ["id": 0, "uuid": "ada"])
        // From a client that has not heard of it yet.
        let direct = world.socket(.dealer, world.client.mux)
        let late = world.message(.applyRequest, identities: [ByteBuffer(string: "ada")])
        let undelivered = try await direct.ask(late).json["evalue"]?.string ?? ""
        #expect(
            undelivered.hasPrefix("engine 0 was gone before task '\(late.id)' could be delivered: its connections dropped"),
            "\(undelivered)")
        let stray = world.message(.applyRequest, identities: [ByteBuffer(string: "bob")])
        let unknown = try await direct.ask(stray).json["evalue"]?.string
        #expect(unknown == "engine 'bob' is not registered; task '\(stray.id)' was not delivered")
        await world.stop()
    }

    @Test("A dead engine's task is failed or tried elsewhere within 100 ms of its connections dropping", arguments: [0, 1])
    func promptLoss(retries: Int) async throws {
        let world = try await World()
        let ada = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        client.send(world.message(.applyRequest, metadata: ["retries": .int(retries)]))
        _ = try await ada.task.next()
        let bob = try await world.startEngine("bob")
        await ada.dieNow()
        // On the controller's own loop, whose timers fire in the order of their deadlines however busy the machine is.
        let seen = await withCheckedContinuation { continuation in
            world.eventLoop.scheduleTask(in: .milliseconds(100)) {
                continuation.resume(returning: (failed: client.received, again: bob.task.received))
            }
        }
        #expect(seen.failed == 1 - retries)
        #expect(seen.again == retries)
        await world.stop()
    }

    @Test("With a durable store, a client gets a result when the task's record is durable")
    func storedBeforeTold() async throws {
        let store = SlowStore()
        let world = try await World(store: store)
        let engine = try await world.startEngine("ada")
        for (port, target) in [(world.client.task, []), (world.client.mux, [ByteBuffer(string: "ada")])] {
            let client = world.socket(.dealer, port)
            client.send(world.message(.applyRequest, identities: target))
            let side = port == world.client.task ? engine.task : engine.mux
            side.send(engine.reply(to: try await side.next()))
            // The store has the record and has not said that it is durable.
            await store.waitUntilAsked()
            #expect(client.received == 0)
            store.finishFlush()
            #expect(try await client.next().json["status"] == "ok")
        }
        await world.stop()
    }

    @Test("Of many results that come at once, each is sent when its own record is durable")
    func eachStoredBeforeTold() async throws {
        let store = SlowStore()
        let world = try await World(store: store)
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.mux)
        let hub = world.socket(.dealer, world.client.common.registration)
        let count = 600
        var requests: [Message] = []
        for _ in 0..<count { client.send(world.message(.applyRequest, identities: [ByteBuffer(string: "ada")])) }
        for _ in 0..<count { requests.append(try await engine.mux.next()) }
        for request in requests { engine.mux.send(engine.reply(to: request)) }
        var lasting = 0
        while lasting < count {
            await store.waitUntilAsked()
            // All that the controller sent before is here when it has answered this.
            _ = try await hub.ask(world.message(.connectionRequest))
            #expect(client.received == lasting)
            lasting = store.completedWhenAsked
            store.finishFlush()
        }
        for _ in 0..<count { #expect(try await client.next().json["status"] == "ok") }
        await world.stop()
    }

    @Test("Ports are taken from the pools in the protocol's order, then from the common one")
    func portOrder() async throws {
        var options = ControllerOptions()
        options.enginePorts = Array(101...104)
        options.clientPorts = Array(201...203)
        options.ports = Array(301...320)
        let world = try await World(options)
        let (engine, client) = (world.engine, world.client)
        #expect(engine.common.registration == 101 && client.common.registration == 101)
        #expect([engine.control, engine.mux, engine.task] == [102, 103, 104])
        #expect([engine.iopub, engine.heartbeatPing, engine.heartbeatPong] + engine.broadcast == [301, 302, 303, 304, 305])
        #expect([client.control, client.mux, client.task] == [201, 202, 203])
        #expect([client.iopub, client.notification, client.broadcast] == [306, 307, 308])
        await world.stop()
    }

    @Test("A result that waits for the store when the controller stops is sent before the controller ends")
    func storedBeforeStopped() async throws {
        let store = SlowStore()
        let world = try await World(store: store)
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        client.send(world.message(.applyRequest))
        engine.task.send(engine.reply(to: try await engine.task.next()))
        await store.waitUntilAsked()
        let stopping = Task { await world.stop() }
        store.finishFlush()
        #expect(try await client.next().json["status"] == "ok")
        await stopping.value
    }

    @Test("While the store is behind, clients wait and engines' replies do not")
    func storeIsBehind() async throws {
        let store = SlowStore(flushesAtOnce: true)
        let world = try await World(store: store)
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        client.send(world.message(.applyRequest))
        let request = try await engine.task.next()
        store.setBacklog(1 << 30)
        engine.task.send(engine.reply(to: request))
        #expect(try await client.next().json["status"] == "ok")
        client.send(world.message(.applyRequest))
        // A query comes by another socket, and is answered after everything that was read before it.
        let hub = world.socket(.dealer, world.client.common.registration)
        _ = try await hub.ask(world.message(.connectionRequest))
        #expect(engine.task.received == 1)
        store.setBacklog(0)
        _ = try await engine.task.next()
        await world.stop()
    }

    @Test("Swaps addresses between a client and the engine that it names")
    func direct() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.mux)
        let request = world.message(.applyRequest, identities: [ByteBuffer(string: "ada")])
        client.send(request)
        let arrived = try await engine.mux.next()
        #expect(arrived.id == request.id)
        engine.mux.send(engine.reply(to: arrived))
        let reply = try await client.next()
        #expect(reply.identities.map { String(buffer: $0) } == ["ada"])
        let nobody = try await client.ask(world.message(.applyRequest, identities: [ByteBuffer(string: "bob")]))
        #expect(nobody.type == "apply_reply")
        #expect(nobody.json["ename"] == "EngineError")
        await world.stop()
    }

    @Test(
        "Sends a broadcast to each target under an id of its own, and gathers what comes into one reply when asked",
        arguments: [false, true])
    func broadcast(isCoalescing: Bool) async throws {
        let world = try await World()
        let engines = [try await world.startEngine("ada"), try await world.startEngine("bob")]
        let client = world.socket(.dealer, world.client.broadcast ?? 0)
        let request = world.message(
            .applyRequest,
            metadata: ["targets": [["ada", 0], ["bob", 1]], "is_broadcast": true, "is_coalescing": .bool(isCoalescing)])
        client.send(request)
        for engine in engines {
            let arrived = try await engine.broadcast.next()
            #expect(arrived.id == "\(request.id)_\(engine.uuid)")
            let echoed: JSONObject = [
                "is_broadcast": true, "is_coalescing": .bool(isCoalescing), "original_msg_id": .string(request.id),
            ]
            engine.broadcast.send(engine.reply(to: arrived, more: echoed))
        }
        let first = try await client.next()
        #expect(first.identities.isEmpty)
        if isCoalescing {
            #expect(first.texts == ["result of ada", "result of bob"])
            let metadata = try JSONValue(parsing: first.metadata)
            #expect(metadata["broadcast_targets"] == [["ada", 0], ["bob", 1]])
        } else {
            let closing = try await client.next()
            #expect(MessageHeader.messageID(scanning: closing.parent) == MessageID(request.id))
            #expect((closing.type, closing.json["status"]) == ("apply_reply", "aborted"))
            let second = try await client.next()
            #expect(Set(first.texts + second.texts) == ["result of ada", "result of bob"])
        }
        await world.stop()
    }

    @Test("Gives engines of an earlier controller their ids again when they reconnect")
    func restore() async throws {
        let world = try await World(restoring: ["0": "ada", "4": "bob"])
        let query = world.socket(.dealer, world.client.common.registration)
        #expect(try await query.ask(world.message(.connectionRequest)).json["engines"] == [:])
        let bob = try await world.startEngine("bob", restored: true)
        #expect(try await query.ask(world.message(.connectionRequest)).json["engines"] == ["4": "bob"])
        _ = try await world.startEngine("eve")
        #expect(try await query.ask(world.message(.connectionRequest)).json["engines"] == ["4": "bob", "5": "eve"])
        bob.die()
        await world.stop()
    }

    @Test("Refuses an engine whose uuid is in use")
    func sameUUID() async throws {
        let world = try await World()
        _ = try await world.startEngine("ada")
        let impostor = world.socket(.dealer, world.engine.common.registration)
        let reply = try await impostor.ask(world.message(.registrationRequest, content: ["uuid": "ada"]))
        #expect(reply.type == "registration_reply")
        #expect(reply.json["status"] == "error")
        await world.stop()
    }

    @Test("An engine that its launcher started in the place of another has that one's id, however soon; what that one held ends")
    func restartedInPlace() async throws {
        let world = try await World()
        let notices = world.socket(.subscriber, world.client.notification)
        let client = world.socket(.dealer, world.client.task)
        let apus: JSONObject = ["python": true, "pid": 1, "host": "here", "replaces": true]
        let old = try await world.startEngine("ada", apus: apus)
        client.send(world.message(.applyRequest))
        _ = try await old.task.next()
        // The hub has not noticed its end yet when the new engine comes.
        await old.dieNow()
        let new = try await world.startEngine("ada", apus: apus.merging(["pid": 2]) { $1 })
        #expect(try await client.next().json["ename"] == "EngineError")
        // A subscriber may hear of an engine twice.
        var news: [MessageType] = []
        while news.count < 3 {
            let notice = try await notices.next()
            #expect(notice.json["id"]?.int == 0)
            if notice.type != news.last?.rawValue { news.append(MessageType(rawValue: notice.type)) }
        }
        #expect(news == [.registrationNotification, .unregistrationNotification, .registrationNotification])
        client.send(world.message(.applyRequest))
        new.task.send(new.reply(to: try await new.task.next()))
        #expect(try await client.next().texts == ["result of ada"])
        await world.stop()
    }

    @Test("An engine that answers pings and was given up is told to register again; its late answers are dropped")
    func givenUp() async throws {
        var options = ControllerOptions()
        options.heartbeatPeriod = 50
        options.maximumMisses = 3
        let world = try await World(options)
        let client = world.socket(.dealer, world.client.task)
        let apus: JSONObject = ["python": true, "pid": 1, "host": "here"]
        let engine = try await world.startEngine("ada", apus: apus)
        let heart = try engine.beat()
        let (balanced, direct) = (
            world.message(.applyRequest), world.message(.applyRequest, identities: [ByteBuffer(string: "ada")])
        )
        client.send(balanced)
        let mux = world.socket(.dealer, world.client.mux)
        mux.send(direct)
        let held = (try await engine.task.next(), try await engine.mux.next())
        heart.cancel()
        #expect(try await client.next().json["evalue"]?.string?.contains("it no longer answered heartbeats") == true)
        #expect(try await mux.next().json["ename"] == "EngineError")
        engine.task.send(engine.reply(to: held.0))
        engine.mux.send(engine.reply(to: held.1))
        let secondHeart = try engine.beat()
        let order = try await engine.control.next()
        #expect(order.type == "apus_register_again_request")
        #expect(order.json["uuid"] == "ada")
        let again = try await engine.registrar.ask(
            world.message(.registrationRequest, content: ["uuid": "ada", "apus": .object(apus)]))
        #expect(again.json["id"] == 0)
        secondHeart.cancel()
        #expect((client.received, mux.received) == (1, 1))
        let query = world.socket(.dealer, world.client.common.registration)
        let records = try await query.ask(
            world.message(.resultRequest, content: ["msg_ids": [.string(balanced.id)], "status_only": false]))
        #expect(records.json[balanced.id]?["result_content"]?["ename"] == "EngineError")
        await world.stop()
    }

    @Test(
        "An engine that tells how it ends fails what it ran at once, with all that is known of it, and leaves the rest to others")
    func endsInWords() async throws {
        var options = ControllerOptions()
        options.highWaterMark = 2
        let world = try await World(options)
        let (client, mux) = (world.socket(.dealer, world.client.task), world.socket(.dealer, world.client.mux))
        let notices = world.socket(.subscriber, world.client.notification)
        let ada = try await world.startEngine("ada")
        let function = ObjectBuffers.serialize(.reference("divide"))
        let requests = (0..<2).map { _ in world.message(.applyRequest, metadata: ["retries": 0], buffers: function) }
        for request in requests { client.send(request) }
        for _ in requests { _ = try await ada.task.next() }
        let direct = world.message(.applyRequest, identities: [ByteBuffer(string: "ada")], buffers: function)
        mux.send(direct)
        _ = try await ada.mux.next()
        let bob = try await world.startEngine("bob")
        let end = EngineEnd(.signal(4), lastLines: ["a line", "Fatal error: Division by zero"], begun: [TaskID(requests[0].id)])
        // Its connections stay open, as they do for seconds while a backtrace is made.
        ada.task.send(world.message(.engineEnded, session: "ada", content: end.json))
        let failure = try await client.next()
        #expect(failure.parent.textMember("msg_id") == requests[0].id)
        #expect(
            failure.json["evalue"]?.string == """
                engine 0 died while running divide (task '\(requests[0].id)', tried once): signal 4 (SIGILL). Fatal error: Division by zero
                The last lines of its error output:
                    a line
                    Fatal error: Division by zero
                """)
        #expect(try await bob.task.next().id == requests[1].id)
        let answer = try await mux.next()
        #expect(answer.parent.textMember("msg_id") == direct.id)
        #expect(
            answer.json["evalue"]?.string?.hasPrefix("engine 0 died while running divide (task '\(direct.id)'): signal 4") == true
        )
        var notice = try await notices.next()
        while notice.type != "unregistration_notification" { notice = try await notices.next() }
        #expect(notice.json["id"] == 0)
        await world.stop()
    }

    @Test("Another engine's last words, or a client's, end nothing")
    func forgedLastWords() async throws {
        let world = try await World()
        let client = world.socket(.dealer, world.client.task)
        let (ada, bob) = (try await world.startEngine("ada"), try await world.startEngine("bob"))
        bob.task.send(world.message(.engineEnded, session: "ada", content: EngineEnd(.signal(9)).json))
        ada.task.send(world.message(.engineEnded, content: EngineEnd(.signal(9)).json))
        for engine in [ada, bob] { engine.task.send(world.message(.waitNotice, content: ["msg_id": "x", "waits": true])) }
        client.send(world.message(.applyRequest))
        client.send(world.message(.applyRequest))
        for engine in [ada, bob] { engine.task.send(engine.reply(to: try await engine.task.next())) }
        for _ in 0..<2 { #expect(try await client.next().json["status"] == "ok") }
        await world.stop()
    }

    @Test("A controller without a scheduler says so")
    func noScheduler() async throws {
        var options = ControllerOptions()
        options.scheme = "none"
        let world = try await World(options)
        let client = world.socket(.dealer, world.client.task)
        #expect(try await client.ask(world.message(.applyRequest)).json["ename"] == "EngineError")
        await world.stop()
    }
}
