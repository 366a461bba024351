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
                .cutConnections(self.ada), .accept(0, self.ada), .expectHeart(self.ada), .setTimer(self.now + .seconds(30)),
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
            return effects.lazy.compactMap { if case .accept(let id, _) = $0 { id } else { nil } }.first
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
            let cut: [Registry.Effect] = departure == .heartStopped ? [.cutConnections(self.ada)] : []
            let gone: [Registry.Effect] = [.forgetHeart(self.ada)] + cut + [.saveState, .withdraw(ada, departure)]
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

    @Test("An engine that an earlier controller registered is saved until it is given up, for a third controller")
    func expected() {
        var registry = Registry(heartbeatPeriod: .seconds(10))
        var request = Registry.Request(self.ada)
        request.isExpected = true
        _ = registry.handle(.registrationRequested(request), at: self.now)
        #expect(registry.engines == [])
        #expect(registry.state == Registry.State(engines: ["0": "ada"], nextID: 1))
        let effects = registry.handle(.timerFired, at: self.now + .seconds(100))
        #expect(effects == [.forgetHeart(self.ada), .saveState, .dropExpected(self.ada)])
        #expect(registry.state == Registry.State(engines: [:], nextID: 1))
    }

    @Test("The goodbye of an engine that has another's id, from a controller that was killed, is not the other's")
    func anothersGoodbye() {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(.init(self.ada)), at: self.now)
        #expect(registry.handle(.unregistrationRequested(0, by: self.bob), at: self.now) == [])
        _ = registry.handle(.heartFound(self.ada), at: self.now)
        #expect(registry.handle(.unregistrationRequested(0, by: self.bob), at: self.now) == [])
        #expect(registry.engines == [self.engine(0, self.ada)])
        _ = registry.handle(.unregistrationRequested(0, by: self.ada), at: self.now)
        #expect(registry.engines == [])
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
        #expect(second.handle(.registrationRequested(.init(self.ada)), at: self.now).contains(.accept(6, self.ada)))
        // An absurd number in the file leaves ids to give out.
        second.skipIDs(below: .max)
        let next = second.handle(.registrationRequested(.init(EngineUUID("bob"))), at: self.now)
        #expect(next.contains(.accept(EngineID(Int(Int32.max)), EngineUUID("bob"))))
    }

    // MARK: Coming back

    private func request(_ process: String, replaces: Bool = false) -> Registry.Request {
        .init(self.ada, announcement: [:], process: process, replaces: replaces)
    }

    private func engine(_ id: EngineID, _ process: String, isWatched: Bool = false) -> Registry.Engine {
        .init(id: id, uuid: self.ada, understandsRecall: false, announcement: [:], process: process, isWatched: isWatched)
    }

    @Test(
        "An engine that was given up, and lives, has its id again when it registers again; until then its answers come too late")
    func comesBack() {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(self.request("p")), at: self.now)
        _ = registry.handle(.heartFound(self.ada), at: self.now)
        _ = registry.handle(.registrationRequested(.init(self.bob)), at: self.now)
        #expect(!registry.hasGivenUp(self.ada))
        _ = registry.handle(.heartStopped(self.ada), at: self.now)
        #expect(registry.hasGivenUp(self.ada))
        #expect(!registry.knows(self.ada))
        #expect(!registry.hasGivenUp(EngineUUID("of an earlier controller")))
        #expect(
            registry.handle(.registrationRequested(self.request("p")), at: self.now) == [
                .cutConnections(self.ada), .accept(0, self.ada), .expectHeart(self.ada),
            ])
        #expect(!registry.hasGivenUp(self.ada))
        #expect(registry.handle(.heartFound(self.ada), at: self.now) == [.saveState, .announce(self.engine(0, "p"))])
    }

    @Test("Its old id was given to an engine that wished for it: then it gets another")
    func formerIDIsTaken() {
        var registry = self.registry(with: self.ada)
        _ = registry.handle(.disconnected(self.ada), at: self.now)
        _ = registry.handle(.registrationRequested(.init(self.bob, wantedID: 0)), at: self.now)
        #expect(registry.handle(.registrationRequested(.init(self.ada)), at: self.now).contains(.accept(1, self.ada)))
    }

    @Test("An engine that its launcher started in the place of another ends that one, and has its id")
    func takesPlace() {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(self.request("p", replaces: true)), at: self.now)
        _ = registry.handle(.heartFound(self.ada), at: self.now)
        let old = self.engine(0, "p", isWatched: true)
        #expect(
            registry.handle(.registrationRequested(self.request("q", replaces: true)), at: self.now) == [
                .forgetHeart(self.ada), .saveState, .withdraw(old, .replaced), .strand(old), .cutConnections(self.ada),
                .accept(0, self.ada), .expectHeart(self.ada),
            ])
        // It asks once more before it is visible.
        #expect(
            registry.handle(.registrationRequested(self.request("q", replaces: true)), at: self.now) == [
                .forgetHeart(self.ada), .cutConnections(self.ada), .accept(0, self.ada), .expectHeart(self.ada),
            ])
        #expect(
            registry.handle(.heartFound(self.ada), at: self.now) == [.saveState, .announce(self.engine(0, "q", isWatched: true))])
    }

    @Test("A process that registers again is recognised, and another of the same uuid is refused")
    func sameProcess() {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(self.request("p")), at: self.now)
        _ = registry.handle(.heartFound(self.ada), at: self.now)
        #expect(registry.handle(.registrationRequested(self.request("q")), at: self.now) == [.refuse(self.ada)])
        #expect(registry.handle(.registrationRequested(self.request("p")), at: self.now).contains(.accept(0, self.ada)))
    }

    @Test("When an engine comes back while its last answers are waited for, they are given up")
    func comesBackFromGoodbye() {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(self.request("p")), at: self.now)
        _ = registry.handle(.heartFound(self.ada), at: self.now)
        _ = registry.handle(.unregistrationRequested(0), at: self.now)
        #expect(
            registry.handle(.registrationRequested(self.request("q")), at: self.now) == [
                .strand(self.engine(0, "p")), .cutConnections(self.ada), .accept(0, self.ada), .expectHeart(self.ada),
            ])
    }

    // MARK: How it ended

    /// A registry with an engine that a launcher watches.
    private func watching() -> Registry {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(self.request("p", replaces: true)), at: self.now)
        _ = registry.handle(.heartFound(self.ada), at: self.now)
        return registry
    }

    @Test("When a watched engine's connections drop, its launcher has 50 ms to say why; meanwhile it gets no tasks")
    func waitsForCause() {
        let engine = self.engine(0, "p", isWatched: true)
        let until = self.now + EngineRegistry.lastWords
        let end = EngineEnd(.signal(9))
        func gone(_ departure: Registry.Departure) -> [Registry.Effect] {
            [.forgetHeart(self.ada), .saveState, .withdraw(engine, departure), .strand(engine)]
        }
        for (event, time, departure): (Registry.Event, MonotonicTime, Registry.Departure) in [
            (.ended(self.ada, end), self.now, .ended(end)), (.processEnded(self.ada, end), self.now, .ended(end)),
            (.timerFired, until, .disconnected),
            (.unregistrationRequested(0), self.now, .disconnected),
        ] {
            var registry = self.watching()
            #expect(registry.handle(.disconnected(self.ada), at: self.now) == [.retire(engine), .setTimer(until)])
            #expect(registry.handle(.disconnected(self.ada), at: self.now) == [])
            #expect(registry.knows(self.ada))
            #expect(Array(registry.handle(event, at: time).prefix(4)) == gone(departure))
            #expect(registry.departure(of: self.ada) == departure)
            #expect(registry.lastID(of: self.ada) == 0)
            #expect(registry.handle(.ended(self.ada, end), at: time) == [])
        }
    }

    @Test(
        "When its launcher says that its process has ended, what it sent last may come until its connections drop, or for 50 ms")
    func waitsForLastWords() {
        let (engine, end) = (self.engine(0, "p", isWatched: true), EngineEnd(.code(1)))
        let until = self.now + EngineRegistry.lastWords
        for (event, time): (Registry.Event, MonotonicTime) in [(.disconnected(self.ada), self.now), (.timerFired, until)] {
            var registry = self.watching()
            #expect(registry.handle(.processEnded(self.ada, end), at: self.now) == [.retire(engine), .setTimer(until)])
            #expect(registry.handle(.processEnded(self.ada, end), at: self.now) == [])
            #expect(!registry.hasGivenUp(self.ada))
            #expect(
                Array(registry.handle(event, at: time).prefix(3)) == [
                    .forgetHeart(self.ada), .saveState, .withdraw(engine, .ended(end)),
                ])
        }
        var pending = Registry()
        _ = pending.handle(.registrationRequested(self.request("p", replaces: true)), at: self.now)
        #expect(pending.handle(.processEnded(self.ada, end), at: self.now) == [.forgetHeart(self.ada)])
    }

    @Test("An engine that tells how it ends is gone at once, whatever its connections do")
    func tellsItsEnd() {
        var registry = self.registry(with: self.ada)
        let (engine, end) = (self.engine(0, self.ada), EngineEnd(.code(3)))
        #expect(
            registry.handle(.ended(self.ada, end), at: self.now) == [
                .forgetHeart(self.ada), .saveState, .withdraw(engine, .ended(end)), .strand(engine),
            ])
        #expect(registry.handle(.disconnected(self.ada), at: self.now) == [])
        // One that has said goodbye answers no more.
        var leaving = self.registry(with: self.ada)
        _ = leaving.handle(.unregistrationRequested(0), at: self.now)
        #expect(leaving.handle(.ended(self.ada, end), at: self.now) == [.strand(engine)])
    }

    @Test("How an engine ended crosses the wire, and is said in words", arguments: [true, false])
    func endsInWords(knowsTasks: Bool) throws {
        let lines = ["a line", "Main.swift:3: Fatal error: Index out of range"]
        let crash = EngineEnd(.signal(4), lastLines: lines, begun: knowsTasks ? [MessageID("a")] : nil)
        #expect(try EngineEnd(JSONValue(parsing: JSONValue.object(crash.json).packed)) == crash)
        #expect(crash.description == "signal 4 (SIGILL). Main.swift:3: Fatal error: Index out of range")
        #expect(crash.report.hasSuffix("The last lines of its error output:\n    a line\n    \(lines[1])"))
        #expect(EngineEnd(.code(3)).report == "it exited with code 3")
        #expect(EngineEnd(.signal(9)).description == "signal 9 (SIGKILL), as the system sends it when memory runs out")
        let traced = EngineEnd(.signal(4), lastLines: ["a line", "Fatal error: none"] + (0..<40).map { "frame \($0)" })
        #expect(traced.lastLines == ["a line", "Fatal error: none"], "a stack trace does not push the message out")
        // What comes from outside may be anything.
        #expect(
            EngineEnd(["signal": 1e30, "code": [], "lines": [1, nil, "x"], "begun": "a"]) == EngineEnd(.unknown, lastLines: ["x"])
        )
        let flood = EngineEnd(.unknown, lastLines: Array(repeating: String(repeating: "x", count: 10_000), count: 1000))
        #expect(flood.report.utf8.count < 12 * 500)
    }

    @Test("An engine that an earlier controller knew may register instead of being found again")
    func restoredRegisters() {
        var registry = Registry()
        _ = registry.handle(.registrationRequested(.init(self.ada, wantedID: 4, announcement: [:])), at: self.now)
        #expect(registry.handle(.registrationRequested(self.request("p")), at: self.now).contains(.accept(4, self.ada)))
    }
}
