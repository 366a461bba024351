import ApusController
import ApusTransport
import ApusWire
import Testing

@Suite("A controller and tasks that wait for tasks of their own")
struct WaitNoticeTests {
    private func notice(_ world: World, _ task: String, waits: JSONValue) -> Message {
        world.message(.waitNotice, content: ["msg_id": .string(task), "waits": waits])
    }

    @Test("An engine whose task waits gets another task, deeper tasks first; nonsense changes nothing")
    func waits() async throws {
        var options = ControllerOptions()
        options.highWaterMark = 1
        let world = try await World(options)
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let requests = [0, 0, 1].map { world.message(.applyRequest, metadata: ["apus_depth": .int($0)]) }
        for request in requests { client.send(request) }
        let first = try await engine.task.next()
        #expect(first.id == requests[0].id)
        for nonsense in [self.notice(world, "nobody's", waits: true), self.notice(world, first.id, waits: "perhaps")] {
            engine.task.send(nonsense)
        }
        engine.task.send(self.notice(world, first.id, waits: true))
        let inner = try await engine.task.next()
        #expect(inner.id == requests[2].id)
        engine.task.send(engine.reply(to: inner))
        #expect(try await engine.task.next().id == requests[1].id)
        engine.task.send(self.notice(world, first.id, waits: false))
        engine.task.send(engine.reply(to: first))
        #expect(try await client.next().parent.textMember("msg_id") == inner.id)
        #expect(try await client.next().parent.textMember("msg_id") == first.id)
        #expect(await world.service.badMessages == 1)
        await world.stop()
    }

    @Test("An engine is told where clients connect to, but not the key that it has")
    func clientConnection() async throws {
        let world = try await World()
        let registrar = world.socket(.dealer, world.engine.common.registration, identity: "ada")
        let reply = try await registrar.ask(world.message(.registrationRequest, content: ["uuid": "ada"])).json
        #expect(reply["apus"]?["client"]?["task"]?.int == world.client.task)
        #expect(reply["apus"]?["client"]?["key"] == nil)
        #expect(world.client.common.key != "")
        #expect(!reply.description.contains(world.client.common.key))
        await world.stop()
    }
}
