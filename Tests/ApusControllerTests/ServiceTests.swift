import Logging
import ApusCore
import ApusTransport
import ApusController
import ApusStore
import ApusWire
import NIOCore
import Testing

@Suite("A controller")
struct ServiceTests {
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
        #expect(reply.json["evalue"]?.string == "Engine b'ada' died while running task '\(request.id)'")
        let notice = try await notices.next()
        #expect(notice.type == "unregistration_notification")
        #expect(notice.json == ["id": 0, "uuid": "ada"])
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

    @Test("With a store that lasts, a client is told of a result when its record lasts")
    func storedBeforeTold() async throws {
        let store = SlowStore()
        let world = try await World(store: store)
        let engine = try await world.startEngine("ada")
        for (port, target) in [(world.client.task, []), (world.client.mux, [ByteBuffer(string: "ada")])] {
            let client = world.socket(.dealer, port)
            client.send(world.message(.applyRequest, identities: target))
            let side = port == world.client.task ? engine.task : engine.mux
            side.send(engine.reply(to: try await side.next()))
            // The store has the record and has not said that it lasts.
            await store.waitUntilAsked()
            #expect(client.received == 0)
            store.finishFlush()
            #expect(try await client.next().json["status"] == "ok")
        }
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

    @Test("A result that waits for the store when the controller stops is told before it ends")
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
        // A query goes another way, and is answered after whatever was read before it.
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
