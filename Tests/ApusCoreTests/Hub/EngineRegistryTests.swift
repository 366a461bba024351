import ApusCore
import ApusTestKit
import ApusWire
import Foundation
import Testing

@Suite("The engine registry")
struct EngineRegistryTests {
    private typealias Registry = EngineRegistry
    private let ada = EngineUUID("ada")
    private let bob = EngineUUID("bob")
    private let now = MonotonicTime(.seconds(1000))

    private func engine(_ id: EngineID, _ uuid: EngineUUID) -> Registry.Engine {
        .init(id: id, uuid: uuid, understandsRecall: false)
    }

    /// A registry with this engine registered, its timer set.
    private func registry(with uuid: EngineUUID) -> Registry {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(.init(uuid)), at: self.now)
        _ = registry.handle(.heartFound(uuid), at: self.now)
        return registry
    }

    @Test("An engine gets its id at once, and is seen with its first heartbeat")
    func registration() {
        var registry = Registry()
        #expect(
            registry.handle(.registrationRequested(.init(self.ada)), at: self.now) == [
                .accept(0, self.ada), .expectHeart(self.ada), .setTimer(self.now + .seconds(30)),
            ])
        #expect(registry.engines == [])
        #expect(registry.handle(.heartFound(self.ada), at: self.now) == [.saveState, .announce(self.engine(0, self.ada))])
        #expect(registry[0]?.uuid == self.ada)
        #expect(registry[self.ada]?.id == 0)
        #expect(registry.handle(.heartFound(self.ada), at: self.now) == [])
        #expect(registry.handle(.heartFound(self.bob), at: self.now) == [])
    }

    @Test("A uuid in use, or about to be, is refused")
    func refused() {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(.init(self.ada)), at: self.now)
        #expect(registry.handle(.registrationRequested(.init(self.ada)), at: self.now) == [.refuse(self.ada)])
        _ = registry.handle(.heartFound(self.ada), at: self.now)
        #expect(registry.handle(.registrationRequested(.init(self.ada)), at: self.now) == [.refuse(self.ada)])
    }

    @Test("An engine that has other functions than it said is described anew, and kept so")
    func changes() {
        var registry = Registry()
        let (first, second) = (
            EngineAbilities(runsPython: false, functions: ["a"]), EngineAbilities(runsPython: false, functions: ["a", "b"])
        )
        let request = Registry.Request(self.ada, abilities: first, announcement: ["functions": ["a"]])
        _ = registry.handle(.registrationRequested(request), at: self.now)
        let words: JSONValue = ["functions": ["a", "b"]]
        // It may say so before it is visible.
        #expect(registry.announcement(of: self.ada) == ["functions": ["a"]])
        #expect(registry.handle(.abilitiesChanged(self.ada, second, announcement: words), at: self.now) == [])
        _ = registry.handle(.heartFound(self.ada), at: self.now)
        #expect(registry[self.ada]?.abilities == second)
        #expect(registry.handle(.abilitiesChanged(self.ada, second, announcement: words), at: self.now) == [])
        let engine = Registry.Engine(
            id: 0, uuid: self.ada, understandsRecall: false, abilities: first, announcement: ["functions": ["a"]])
        #expect(
            registry.handle(.abilitiesChanged(self.ada, first, announcement: ["functions": ["a"]]), at: self.now) == [
                .saveState, .describe(engine),
            ])
        #expect(registry[0] == engine)
        #expect(registry.state.announcements == ["ada": ["functions": ["a"]]])
        #expect(registry.handle(.abilitiesChanged(self.bob, first, announcement: words), at: self.now) == [])
    }

    @Test("Ids count up and are not given twice; a wanted one is granted if it is free")
    func ids() {
        var registry = Registry()
        func id(_ name: String, wanting wanted: EngineID? = nil) -> EngineID? {
            let effects = registry.handle(.registrationRequested(.init(EngineUUID(name), wantedID: wanted)), at: self.now)
            if case .accept(let id, _) = effects.first { return id }
            return nil
        }
        #expect(id("a") == 0)
        #expect(id("b", wanting: 7) == 7)
        #expect(id("c") == 8)
        #expect(id("d", wanting: 7) == 9)
        #expect(id("e", wanting: 3) == 3)
        #expect(id("f") == 10)
        #expect(id("g", wanting: -1) == 11)
        _ = registry.handle(.unregistrationRequested(11), at: self.now)
        #expect(id("h") == 12)
    }

    @Test("Without a heartbeat in time a registration is dropped")
    func stalled() {
        var registry = Registry(heartbeatPeriod: .seconds(10))
        _ = registry.handle(.registrationRequested(.init(self.ada)), at: self.now)
        #expect(registry.handle(.timerFired, at: self.now + .seconds(30)) == [.setTimer(self.now + .seconds(100))])
        #expect(registry.handle(.timerFired, at: self.now + .seconds(100)) == [.forgetHeart(self.ada)])
        #expect(registry.handle(.heartFound(self.ada), at: self.now) == [])
    }

    @Test("An engine's end is noticed once, from whichever side it comes first")
    func unregistered() {
        let ada = self.engine(0, self.ada)
        let later = self.now + EngineRegistry.lastAnswers
        let sides: [(Registry.Event, Registry.Departure)] = [
            (.unregistrationRequested(0), .unregistered), (.shutdownReplySeen(self.ada), .shutDown),
            (.heartStopped(self.ada), .heartStopped), (.disconnected(self.ada), .disconnected),
        ]
        for (event, departure) in sides {
            var registry = self.registry(with: self.ada)
            let gone: [Registry.Effect] = [.forgetHeart(self.ada), .saveState, .withdraw(ada, departure)]
            if departure.mayStillAnswer {
                #expect(registry.handle(event, at: self.now) == gone + [.setTimer(later)])
            } else {
                #expect(registry.handle(event, at: self.now) == gone + [.strand(ada)])
            }
            for (again, _) in sides where again != .disconnected(self.ada) {
                #expect(registry.handle(again, at: self.now) == [])
            }
            #expect(registry.engines == [])
        }
    }

    @Test("After a goodbye, answers are waited for until the connection drops, or five seconds")
    func lastAnswers() {
        var registry = self.registry(with: self.ada)
        _ = registry.handle(.unregistrationRequested(0), at: self.now)
        var other = registry
        #expect(registry.handle(.disconnected(self.ada), at: self.now) == [.strand(self.engine(0, self.ada))])
        #expect(other.handle(.timerFired, at: self.now + .seconds(5)) == [.strand(self.engine(0, self.ada))])
    }

    @Test("A goodbye before the first heartbeat cancels the registration; one without an id means nothing")
    func cancelled() {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(.init(self.ada)), at: self.now)
        #expect(registry.handle(.unregistrationRequested(nil), at: self.now) == [])
        #expect(registry.handle(.unregistrationRequested(5), at: self.now) == [])
        #expect(registry.handle(.unregistrationRequested(0), at: self.now) == [.forgetHeart(self.ada)])
        #expect(registry.handle(.heartFound(self.ada), at: self.now) == [])
    }

    @Test("A restarted controller finds its engines in the state it saved")
    func restored() throws {
        var registry = self.registry(with: self.ada)
        let words: JSONValue = ["python": true, "resources": ["gpu": 1]]
        _ = registry.handle(.registrationRequested(.init(self.bob, wantedID: 5, announcement: words)), at: self.now)
        _ = registry.handle(.heartFound(self.bob), at: self.now)
        #expect(registry.state.announcements == ["bob": words])
        let json = registry.state.json
        #expect(json["engines"] == ["0": "ada", "5": "bob"])
        #expect(json["next_id"] == 6)
        #expect(Registry.State(try JSONValue(parsing: json.packed)) == registry.state)
        // As ipyparallel's controllers write it.
        let old = Registry.State(["engines": ["0": "ada"], "next_id": 1])
        #expect(old == Registry.State(engines: ["0": "ada"], nextID: 1))
        #expect(Registry.State(["engines": 3]) == nil)

        var second = Registry()
        second.skipIDs(below: registry.state.nextID)
        #expect(second.handle(.registrationRequested(.init(self.ada)), at: self.now).first == .accept(6, self.ada))
        // An absurd number in the file leaves ids to give out.
        second.skipIDs(below: .max)
        let next = second.handle(.registrationRequested(.init(EngineUUID("bob"))), at: self.now).first
        #expect(next == .accept(EngineID(Int(Int32.max)), EngineUUID("bob")))
    }
}
