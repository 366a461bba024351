import ApusController
import ApusStore
import ApusTransport
import ApusWire
import NIOCore
import Testing

@Suite("Tasks whose client is gone", .timeLimit(.minutes(1)))
struct AbandonmentTests {
    private let call = [ByteBuffer(string: "function")]

    private func request(in world: World, after seconds: Double?) -> Message {
        world.message(
            .applyRequest, session: "customer", metadata: seconds.map { ["apus_abandoned_after": .double($0)] } ?? [:],
            buffers: self.call)
    }

    @Test("Are aborted after the time that it gave, if it gave one and no engine has them")
    func aborted() async throws {
        var options = ControllerOptions()
        options.highWaterMark = 1
        let world = try await World(options)
        let ada = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        let requests = [
            self.request(in: world, after: 0.05), self.request(in: world, after: 0.05), self.request(in: world, after: nil),
        ]
        for request in requests { client.send(request) }
        let running = try await ada.task.next()
        let asking = world.socket(.dealer, world.client.common.registration)
        await client.closeNow()
        func status(_ request: Message) async throws -> JSONValue {
            try await asking.ask(
                world.message(
                    .databaseRequest, content: ["query": ["msg_id": .string(request.id)], "keys": ["result_content"]])
            )
            .json["records"]?.array?.first?["result_content"] ?? .null
        }
        while try await status(requests[1])["status"] == nil {}
        #expect(try await status(requests[1])["status"] == "aborted")
        ada.task.send(ada.reply(to: running))
        // The task behind it, which may run without its client.
        let next = try await ada.task.next()
        #expect(next.id == requests[2].id)
        ada.task.send(ada.reply(to: next))
        while try await status(requests[2])["status"] == nil {}
        #expect(try await status(requests[0])["status"] == "ok")
        #expect(try await status(requests[2])["status"] == "ok")
        await world.stop()
    }

    @Test("Are not aborted when the same session asks for something in time, by whichever socket")
    func back() async throws {
        let world = try await World()
        let client = world.socket(.dealer, world.client.task)
        let request = self.request(in: world, after: 0.1)
        client.send(request)
        let asking = world.socket(.dealer, world.client.common.registration)
        func ask() async throws -> JSONValue {
            try await asking.ask(
                world.message(
                    .resultRequest, session: "customer", content: ["msg_ids": [.string(request.id)], "status_only": true])
            ).json
        }
        while try await ask()["pending"] != [.string(request.id)] {}
        await client.closeNow()
        let ended = ContinuousClock.now + .milliseconds(300)
        while ContinuousClock.now < ended { #expect(try await ask()["pending"] == [.string(request.id)]) }
        // The last connection of the session.
        await asking.closeNow()
        let other = world.socket(.dealer, world.client.common.registration)
        while try await other.ask(
            world.message(.resultRequest, content: ["msg_ids": [.string(request.id)], "status_only": true])
        ).json["completed"]
            != [.string(request.id)]
        {}
        await world.stop()
    }
}
