import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The hub")
struct HubTests {
    private let now = MonotonicTime(.seconds(1000))
    private var later: MonotonicTime { self.now + .seconds(1) }

    private func hub() -> Hub {
        Hub(registry: EngineRegistry(), hearts: HeartMonitor(period: .seconds(3), allowedMisses: 1))
    }

    private func engine(_ id: EngineID, _ uuid: EngineUUID, announcement: JSONValue? = nil) -> EngineRegistry.Engine {
        EngineRegistry.Engine(id: id, uuid: uuid, understandsRecall: false, announcement: announcement)
    }

    /// A hub at which the engine is registered, and which pings.
    private func hub(with uuid: EngineUUID, announcement: JSONValue? = nil) -> Hub {
        var hub = self.hub()
        _ = hub.handle(.timerFired(.hearts), at: self.now)
        _ = hub.handle(.registry(.registrationRequested(.init(uuid, announcement: announcement))), at: self.now)
        for line in EngineConnections.Line.allCases { _ = hub.handle(.connected(uuid, line), at: self.now) }
        return hub
    }

    @Test("An engine is announced when its sockets have connected, before its heart has answered a ping")
    func reachable() throws {
        var hub = self.hub()
        #expect(
            hub.handle(.registry(.registrationRequested(.init(ada))), at: self.now) == [
                .cutConnections(ada), .accept(0, ada), .setTimer(.registry, self.now + .seconds(30)),
            ])
        #expect(hub.handle(.connected(ada, .heart), at: self.now) == [])
        #expect(hub.handle(.connected(ada, .mux), at: self.now) == [])
        #expect(hub.handle(.connected(ada, .task), at: self.now) == [.saveState, .announce(self.engine(0, ada))])
        try hub.checkInvariants()
    }

    @Test("A heart alone announces an engine as well")
    func heart() {
        var hub = self.hub()
        guard case .ping(let ping) = hub.handle(.timerFired(.hearts), at: self.now).first else { return #expect(Bool(false)) }
        _ = hub.handle(.registry(.registrationRequested(.init(ada))), at: self.now)
        #expect(
            hub.handle(.heartBeat(ada, ping: ping, isSigned: false), at: self.now) == [
                .saveState, .announce(self.engine(0, ada)),
            ])
        #expect(hub.handle(.heartBeat(ada, ping: ping, isSigned: false), at: self.now) == [])
    }

    @Test("Engines of an earlier controller have their ids as soon as they are reachable")
    func restored() {
        var hub = self.hub()
        hub.skipIDs(below: 5)
        _ = hub.handle(.registry(.registrationRequested(.init(ada, wantedID: 3))), at: self.now)
        for line in [EngineConnections.Line.mux, .task] { _ = hub.handle(.connected(ada, line), at: self.now) }
        #expect(hub.handle(.connected(ada, .heart), at: self.now) == [.saveState, .announce(self.engine(3, ada))])
        #expect(hub.handle(.registry(.registrationRequested(.init(bob))), at: self.now).contains(.accept(5, bob)))
    }

    @Test("An engine whose connections drop is withdrawn after a moment, and its heart is forgotten")
    func disconnected() {
        var hub = self.hub(with: ada)
        for line in [EngineConnections.Line.heart, .task] { _ = hub.handle(.disconnected(ada, line), at: self.now) }
        let due = self.now + EngineConnections.blink
        #expect(hub.handle(.disconnected(ada, .mux), at: self.now) == [.setTimer(.connections, due)])
        #expect(
            hub.handle(.timerFired(.connections), at: due) == [
                .saveState, .withdraw(self.engine(0, ada), .disconnected), .strand(self.engine(0, ada)),
            ])
        let effects = hub.handle(.timerFired(.hearts), at: self.now + .seconds(60))
        #expect(effects.count == 2, "a ping and a timer, and nothing of the heart")
    }

    @Test("An engine whose heart stops is withdrawn, and its connections are cut")
    func heartStopped() {
        var hub = self.hub(with: ada)
        var effects: [Hub.Effect] = []
        for beat in 1...4 where effects.count < 3 {
            effects = hub.handle(.timerFired(.hearts), at: self.now + .seconds(3 * beat))
        }
        #expect(
            effects.prefix(4) == [
                .cutConnections(ada), .saveState, .withdraw(self.engine(0, ada), .heartStopped), .strand(self.engine(0, ada)),
            ])
        // The connections drop because they were cut.
        for line in EngineConnections.Line.allCases { #expect(hub.handle(.disconnected(ada, line), at: self.later) == []) }
    }

    @Test("A heart that its engine signs counts with that signature only")
    func signed() {
        var hub = self.hub(with: ada, announcement: ["heart": .string(HeartAnswer.signed.rawValue)])
        #expect(hub.handle(.heartBeat(ada, ping: "0", isSigned: false), at: self.later) == [.dropHeartBeat])
        #expect(hub.handle(.heartBeat(ada, ping: "0", isSigned: true), at: self.later) == [])
    }

    @Test("Whoever answers pings, is known to nobody and has the key is asked to register again")
    func stranger() {
        var hub = self.hub()
        #expect(hub.handle(.heartBeat(eve, ping: "0", isSigned: false), at: self.now) == [])
        #expect(hub.handle(.heartBeat(eve, ping: "0", isSigned: true), at: self.now) == [.askToRegister(eve)])
    }

    @Test("An engine that was given up and registers again starts anew: what is connected under its uuid is from before")
    func again() {
        var hub = self.hub(with: ada)
        let request = EngineRegistry.Request(ada, replaces: true)
        #expect(
            hub.handle(.registry(.registrationRequested(request)), at: self.later) == [
                .saveState, .withdraw(self.engine(0, ada), .replaced), .strand(self.engine(0, ada)), .cutConnections(ada),
                .accept(0, ada),
            ])
        #expect(hub.handle(.disconnected(ada, .mux), at: self.later) == [])
        for line in [EngineConnections.Line.mux, .task] { #expect(hub.handle(.connected(ada, line), at: self.later) == []) }
        #expect(hub.handle(.connected(ada, .heart), at: self.later).contains(.saveState))
    }
}
