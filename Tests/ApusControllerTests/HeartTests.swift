import ApusController
import ApusCore
import ApusTransport
import ApusWire
import NIOCore
import Locks
import Testing

@Suite("A heartbeat")
struct HeartTests {
    private func options() -> ControllerOptions {
        var options = ControllerOptions()
        options.heartbeatPeriod = 100
        return options
    }

    /// Answers every ping in the name of `uuid`; with the engine's key if there is a signer.
    private func answerPings(_ world: World, as uuid: String, signer: Signer? = nil) -> Task<Void, any Error> {
        let pings = world.socket(.subscriber, world.engine.heartbeatPing)
        let pong = world.socket(.dealer, world.engine.heartbeatPong, identity: uuid)
        return Task {
            while !Task.isCancelled {
                let ping = try await pings.nextFrames()
                pong.send(ping + (signer.map { [$0.heartSignature(of: uuid, ping: ping[0])] } ?? []))
            }
        }
    }

    /// The uuid of the next engine that is told to be gone.
    private func nextDeparture(_ notices: Peer) async throws -> String? {
        while true {
            let notice = try await notices.next()
            if notice.type == "unregistration_notification" { return notice.json["uuid"]?.string }
        }
    }

    @Test("That is not signed keeps no engine alive that signs its own, whoever sends it")
    func impostor() async throws {
        let world = try await World(self.options())
        let notices = world.socket(.subscriber, world.client.notification)
        _ = try await world.startEngine("ada", apus: ["python": true, "heart": "signed"])
        // Signed with another key.
        let impostors = [
            self.answerPings(world, as: "ada"), self.answerPings(world, as: "ada", signer: try Signer(key: "guessed")),
            // Signed by another engine.
            self.answerPings(world, as: "bob", signer: try Signer(key: world.engine.common.key)),
        ]
        #expect(try await self.nextDeparture(notices) == "ada")
        for impostor in impostors { impostor.cancel() }
        await world.stop()
    }

    @Test("Keeps an engine alive when it is signed with the cluster's key, or is the engine's that does not sign")
    func alive() async throws {
        let world = try await World(self.options())
        let notices = world.socket(.subscriber, world.client.notification)
        let signer = try Signer(key: world.engine.common.key)
        let hearts = [self.answerPings(world, as: "ada", signer: signer), self.answerPings(world, as: "bob")]
        _ = try await world.startEngine("ada", apus: ["python": true, "heart": "signed"])
        _ = try await world.startEngine("bob")
        _ = try await world.startEngine("eve")
        // Eve does not answer and is given up; the others, who came before her, are not.
        #expect(try await self.nextDeparture(notices) == "eve")
        for heart in hearts { heart.cancel() }
        await world.stop()
    }

    @Test("Of a stranger at the port does not hold an engine whose shell has gone")
    func shellIsGone() async throws {
        let world = try await World()
        let notices = world.socket(.subscriber, world.client.notification)
        let engine = try await world.startEngine("ada")
        await engine.pong.closeNow()
        let stranger = world.socket(.dealer, world.engine.heartbeatPong, identity: "ada")
        await engine.dieNow()
        #expect(try await self.nextDeparture(notices) == "ada")
        stranger.close()
        await world.stop()
    }
}

@Suite("A thousand engines", .timeLimit(.minutes(5)))
struct ThousandEnginesTests {
    @Test("That register at once have the list of engines written a few times, and the last list is whole")
    func fewLists() async throws {
        let lists = Mutex<[Int]>([])
        // No engine is given up, however long the thousand take: these do not answer heartbeats.
        var options = ControllerOptions()
        options.heartbeatPeriod = 600_000
        let world = try await World(options, onStateChange: { state in lists.withLock { $0.append(state.engines.count) } })
        let notices = world.socket(.subscriber, world.client.notification)
        var sockets: [Peer] = []
        for number in 0..<1000 {
            let uuid = "engine\(number)"
            let registrar = world.socket(.dealer, world.engine.common.registration, identity: uuid)
            registrar.send(world.message(.registrationRequest, content: ["uuid": .string(uuid)]))
            sockets.append(registrar)
            for port in [world.engine.mux, world.engine.task, world.engine.heartbeatPong] {
                sockets.append(world.socket(.dealer, port, identity: uuid))
            }
        }
        for _ in 0..<1000 { _ = try await notices.next() }
        await world.stop()
        let written = lists.withLock { $0 }
        #expect(written.last == 1000)
        // One write every 20 milliseconds at most, for all engines that came since.
        #expect(written.count < 500)
        _ = sockets
    }
}
