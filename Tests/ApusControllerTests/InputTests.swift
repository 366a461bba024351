import ApusController
import ApusFunctions
import ApusStore
import ApusTransport
import ApusWire
import NIOCore
import Pickle
import Testing

@Suite("A controller puts results in the place of arguments")
struct ResultInputTests {
    /// A call of `f` with these arguments.
    private func call(_ arguments: [PickleValue]) -> [ByteBuffer] {
        ApplyPayload(function: .reference("f"), arguments: arguments).encode()
    }

    private func request(_ world: World, taking results: [(Int, String)], metadata: JSONObject = [:]) -> Message {
        var metadata = metadata
        metadata["apus_results"] = .array(results.map { [.int($0.0), .string($0.1)] })
        return world.message(.applyRequest, metadata: metadata, buffers: self.call([.none, 7]))
    }

    @Test("The result's buffers, however many, stand where the place holder stood, at each try")
    func splice() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let giving = world.message(.applyRequest, buffers: self.call([]))
        client.send(giving)
        let first = try await engine.task.next()
        client.send(self.request(world, taking: [(2, giving.id)], metadata: ["retries": 1]))
        let result = ObjectBuffers.serialize(.list([.bytes(ByteBuffer(repeating: 5, count: 4000)), 3]))
        #expect(result.count == 2)
        engine.task.send(engine.reply(to: first).replacingBuffers(result))
        for attempt in 0..<2 {
            let taking = try await engine.task.next()
            let call = try ApplyPayload(decoding: taking.buffers)
            #expect(call.arguments == [.list([.bytes(ByteBuffer(repeating: 5, count: 4000)), 3]), 7])
            engine.task.send(engine.reply(to: taking, status: attempt == 0 ? "error" : "ok"))
        }
        #expect(try await client.next().parent.textMember("msg_id") == giving.id)
        #expect(try await client.next().json["status"] == "ok")
        await world.stop()
    }

    @Test("Without a task database results of tasks that live can be arguments, and others cannot")
    func noDatabase() async throws {
        let world = try await World(store: NoTaskStore())
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let giving = world.message(.applyRequest, buffers: self.call([]))
        client.send(giving)
        let first = try await engine.task.next()
        client.send(self.request(world, taking: [(2, giving.id)]))
        engine.task.send(engine.reply(to: first).replacingBuffers(ObjectBuffers.serialize("here")))
        let taking = try await engine.task.next()
        #expect(try ApplyPayload(decoding: taking.buffers).arguments == ["here", 7])
        engine.task.send(engine.reply(to: taking))
        for _ in 0..<2 { _ = try await client.next() }
        let late = try await client.ask(self.request(world, taking: [(2, giving.id)]))
        #expect(late.json["ename"] == "ImpossibleDependency")
        #expect(late.json["evalue"]?.string?.contains("keeps no task records") == true)
        await world.stop()
    }

    @Test("A result is waited for while the task database cannot be read")
    func fullDisk() async throws {
        let store = SlowStore(flushesAtOnce: true)
        let world = try await World(store: store)
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let giving = world.message(.applyRequest, buffers: self.call([]))
        client.send(giving)
        engine.task.send(engine.reply(to: try await engine.task.next()).replacingBuffers(ObjectBuffers.serialize("here")))
        _ = try await client.next()
        store.failLookUps(2)
        client.send(self.request(world, taking: [(2, giving.id)]))
        #expect(try ApplyPayload(decoding: try await engine.task.next().buffers).arguments == ["here", 7])
        await world.stop()
    }

    @Test("A result that is taken before its task is submitted is waited for")
    func takenFirst() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let direct = world.socket(.dealer, world.client.mux)
        let giving = world.message(.applyRequest, identities: [ByteBuffer(string: "ada")], buffers: self.call([]))
        direct.send(giving)
        let first = try await engine.mux.next()
        let taking = self.request(world, taking: [(3, giving.id)])
        client.send(taking)
        // The scheduler knows it by now, because its own abort finds it.
        let other = self.request(world, taking: [(2, giving.id)])
        client.send(other)
        engine.mux.send(engine.reply(to: first).replacingBuffers(ObjectBuffers.serialize(1)))
        let arrived = try await engine.task.next()
        #expect(try ApplyPayload(decoding: arrived.buffers).arguments == [.none, 1])
        engine.task.send(engine.reply(to: arrived))
        #expect(try ApplyPayload(decoding: try await engine.task.next().buffers).arguments == [1, 7])
        await world.stop()
    }

    @Test("A request that says what cannot be is dropped, and the next is served")
    func nonsense() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        for places in [[(0, "x")], [(1, "x")], [(9, "x")], [(-1, "x")]] {
            client.send(self.request(world, taking: places))
        }
        client.send(world.message(.applyRequest, metadata: ["apus_results": [["x"]]], buffers: self.call([1])))
        client.send(world.message(.applyRequest, metadata: ["apus_results": [[2, "x"]]]))
        let good = world.message(.applyRequest, buffers: self.call([1]))
        client.send(good)
        #expect(try await engine.task.next().id == good.id)
        #expect(await world.service.badMessages == 6)
        await world.stop()
    }

    @Test("A request to an engine that says what cannot be is not run again, and the hub says why", arguments: [0, 9])
    func nonsenseAgain(place: Int) async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let direct = world.socket(.dealer, world.client.mux)
        let given = world.message(
            .applyRequest, metadata: ["apus_results": [[.int(place), "x"]]], identities: [ByteBuffer(string: "ada")],
            buffers: self.call([1]))
        direct.send(given)
        engine.mux.send(engine.reply(to: try await engine.mux.next()))
        _ = try await direct.next()
        let hub = world.socket(.dealer, world.client.common.registration)
        let answer = try await hub.ask(world.message(.resubmitRequest, content: ["msg_ids": [.string(given.id)]]))
        #expect(answer.json["status"] == "error")
        #expect(answer.json["evalue"]?.string?.contains("cannot be run again") == true)
        await world.stop()
    }

    @Test("An ok without a result leaves the call short of an argument")
    func emptyResult() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let giving = world.message(.applyRequest, buffers: self.call([]))
        client.send(giving)
        let first = try await engine.task.next()
        client.send(self.request(world, taking: [(2, giving.id)]))
        engine.task.send(engine.reply(to: first).replacingBuffers([]))
        let taking = try await engine.task.next()
        #expect(throws: PickleError.self) { try ApplyPayload(decoding: taking.buffers) }
        await world.stop()
    }
}

extension Message {
    /// Buffers are not signed.
    fileprivate func replacingBuffers(_ buffers: [ByteBuffer]) -> Message {
        Message(identities: Array(self.identities), signature: self.signature, parts: self.parts, buffers: buffers)
    }
}
