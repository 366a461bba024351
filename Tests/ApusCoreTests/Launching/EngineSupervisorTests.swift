import ApusCore
import ApusWire
import Testing

@Suite("Engines that end are started again")
struct EngineSupervisorTests {
    /// A supervisor and the time, which a test turns.
    private struct World {
        var supervisor: EngineSupervisor
        var now = MonotonicTime(.seconds(1000))

        init(restarts: Bool = true, limit: Int = 5) {
            var policy = EngineSupervisor.Policy()
            policy.restarts = restarts
            policy.limit = limit
            self.supervisor = EngineSupervisor(policy)
        }

        @discardableResult
        mutating func on(_ event: EngineSupervisor.Event) -> [EngineSupervisor.Effect] {
            self.supervisor.handle(event, at: self.now)
        }

        /// Lets the time pass at which the supervisor asked to be called.
        @discardableResult
        mutating func wait(_ span: Duration) -> [EngineSupervisor.Effect] {
            self.now = self.now + span
            return self.on(.timerFired)
        }

        /// An engine that was launched and is registered.
        mutating func launch(_ uuid: EngineUUID, as id: EngineID) {
            self.on(.launched(uuid))
            self.on(.joined(uuid, id))
            self.on(.settled(uuid))
        }

        /// The engine dies, and the hub and the launcher tell of it.
        @discardableResult
        mutating func die(_ uuid: EngineUUID, hadWork: Bool = false) -> [EngineSupervisor.Effect] {
            self.on(.left(uuid, .init(.disconnected, hadWork: hadWork))) + self.on(.ended(uuid, EngineSupervisorTests.crash))
        }
    }

    private static let crash = EngineSupervisor.End(
        .died, "ended with signal 4 (Illegal instruction)", lastLines: ["Fatal error"])
    private static let clean = EngineSupervisor.End(.clean, "ended with code 0")
    private static let goodbye = EngineSupervisor.Departure(.shutDown, hadWork: false)

    @Test("An engine that died is started again at once, whether the hub or the launcher tells first")
    func restarts() {
        var world = World()
        world.launch(ada, as: 0)
        #expect(world.on(.left(ada, .init(.disconnected, hadWork: true))) == [])
        let report = EngineSupervisor.Effect.report(ada, 0, Self.crash, .restarts(after: .zero))
        let deadline = EngineSupervisor.Effect.setTimer(world.now + .seconds(60))
        #expect(world.on(.ended(ada, Self.crash)) == [report, .start(ada), deadline])
        #expect(world.on(.joined(ada, 0)) == [])

        var other = World()
        other.launch(ada, as: 0)
        #expect(other.on(.ended(ada, Self.crash)) == [.tellHub(ada, Self.crash), .setTimer(other.now + .seconds(5))])
        #expect(other.on(.left(ada, .init(.disconnected, hadWork: true))) == [report, .start(ada)])
    }

    @Test("An engine of which the hub says nothing more is started again all the same")
    func silentHub() {
        var world = World()
        world.launch(ada, as: 0)
        world.on(.ended(ada, Self.crash))
        let effects = world.wait(.seconds(5))
        #expect(effects.contains(.start(ada)))
    }

    @Test("An engine that was told to end stays away, and then none is left")
    func shutDown() {
        var world = World()
        world.launch(ada, as: 0)
        world.on(.left(ada, Self.goodbye))
        #expect(
            world.on(.ended(ada, Self.clean)) == [
                .report(ada, 0, Self.clean, .staysAway), .noEngineIsComing("engine 0 ended with code 0; it was told to"),
            ])
        let terminated = EngineSupervisor.End(.terminated, "ended with signal 15 (Terminated)")
        var other = World()
        other.launch(ada, as: 0)
        other.launch(bob, as: 1)
        other.on(.left(ada, .init(.disconnected, hadWork: false)))
        #expect(other.on(.ended(ada, terminated)) == [.report(ada, 0, terminated, .staysAway)])
    }

    @Test("An engine that was shut down and finishes what it runs, perhaps for ever, is not waited for")
    func finishing() {
        var world = World()
        world.launch(ada, as: 0)
        #expect(world.on(.left(ada, Self.goodbye)) == [.setTimer(world.now + .seconds(5))])
        #expect(world.wait(.seconds(5)) == [.noEngineIsComing("engine 0 was told to end")])
        #expect(world.on(.ended(ada, Self.clean)) == [.report(ada, 0, Self.clean, .staysAway)])
    }

    @Test("A function that ends its process with code 0 has killed its engine: it said no goodbye")
    func exits() {
        var world = World()
        world.launch(ada, as: 0)
        world.on(.left(ada, .init(.disconnected, hadWork: true)))
        #expect(world.on(.ended(ada, Self.clean)).contains(.start(ada)))
    }

    @Test("Pauses grow, and an engine that dies over and over without work is given up, with the reason")
    func limit() {
        var world = World(limit: 3)
        world.launch(ada, as: 0)
        #expect(world.die(ada).contains(.report(ada, 0, Self.crash, .restarts(after: .zero))))
        // It dies before it is registered again.
        for pause in [100, 200] {
            let span = Duration.milliseconds(pause)
            #expect(world.on(.ended(ada, Self.crash)).contains(.report(ada, 0, Self.crash, .restarts(after: span))))
            #expect(world.wait(span).contains(.start(ada)))
        }
        #expect(
            world.on(.ended(ada, Self.crash)) == [
                .report(ada, 0, Self.crash, .givenUp(deaths: 4)),
                .noEngineIsComing(
                    "engine 0 ended with signal 4 (Illegal instruction) ('Fatal error'); it died 4 times in a row without having had "
                        + "work, and is not started again"),
            ])
    }

    @Test("Deaths with work in hand are the work's fault: they are not counted, but pauses grow to a second")
    func poison() {
        var world = World(limit: 2)
        world.launch(ada, as: 0)
        var pauses: [Duration] = []
        for _ in 0..<7 {
            for case .report(_, _, _, .restarts(let pause)) in world.die(ada, hadWork: true) {
                pauses.append(pause)
                if pause > .zero { world.wait(pause) }
            }
            world.on(.joined(ada, 0))
        }
        #expect(pauses == [0, 100, 200, 400, 800, 1000, 1000].map { .milliseconds($0) })
    }

    @Test("An engine that has run for a minute begins anew")
    func proven() {
        var world = World(limit: 1)
        world.launch(ada, as: 0)
        for _ in 0..<5 {
            world.wait(.seconds(60))
            #expect(world.die(ada).contains(.start(ada)))
            world.on(.joined(ada, 0))
        }
        world.die(ada)
        #expect(world.wait(.seconds(1)) == [])
    }

    @Test("An engine that ends before it was ever registered is a launch that failed, and is not tried again")
    func launchFails() {
        var world = World()
        world.on(.launched(ada))
        #expect(
            world.on(.ended(ada, Self.crash)) == [
                .failLaunch(ada, Self.crash),
                .noEngineIsComing("an engine ended with signal 4 (Illegal instruction) ('Fatal error')"),
            ])
        #expect(world.on(.dropped(ada)) == [.engineIsComing])
    }

    @Test("An engine that dies while others of its launch still start comes back")
    func diesEarly() {
        var world = World()
        world.on(.launched(ada))
        world.on(.launched(bob))
        world.on(.joined(ada, 0))
        #expect(world.die(ada, hadWork: true).contains(.start(ada)))
    }

    @Test("An engine that was started again and does not register is ended, and tried again")
    func late() {
        var world = World()
        world.launch(ada, as: 0)
        world.die(ada)
        #expect(world.wait(.seconds(60)) == [.stop(ada)])
        let stopped = EngineSupervisor.End(.stopped, "ended with signal 9 (Killed)")
        #expect(world.on(.ended(ada, stopped)).contains(.report(ada, 0, stopped, .restarts(after: .milliseconds(100)))))
        #expect(world.wait(.milliseconds(100)).contains(.start(ada)))
    }

    @Test("An engine that cannot be started again is tried as often as one that dies")
    func vanished() {
        var world = World(limit: 1)
        world.launch(ada, as: 0)
        world.die(ada)
        let effects = world.on(.notStarted(ada, "could not be started again: there is no such program"))
        #expect(
            effects.last
                == .noEngineIsComing(
                    "engine 0 could not be started again: there is no such program; it died 2 times in a row without having had work, "
                        + "and is not started again"))
    }

    @Test("Where restarts are off, engines that died are not started again")
    func off() {
        var world = World(restarts: false)
        world.launch(ada, as: 0)
        world.launch(bob, as: 1)
        #expect(world.die(ada) == [.report(ada, 0, Self.crash, .notRestarted)])
        let reason = "ended with signal 4 (Illegal instruction) ('Fatal error'); engines are not started again here"
        #expect(
            world.die(bob) == [
                .report(bob, 1, Self.crash, .notRestarted), .noEngineIsComing("engine 0 \(reason); engine 1 \(reason)"),
            ])
    }

    @Test("An engine is started again on request, whether it runs, was shut down or was given up")
    func asked() {
        var world = World(restarts: false)
        world.launch(ada, as: 0)
        #expect(world.on(.restartWanted(ada)) == [.stop(ada)])
        world.on(.left(ada, .init(.unregistered, hadWork: false)))
        let stopped = EngineSupervisor.End(.stopped, "ended with code 0")
        #expect(
            world.on(.ended(ada, stopped)) == [.report(ada, 0, stopped, .restarts(after: .zero)), .start(ada)])
        world.on(.joined(ada, 0))
        world.die(ada)
        #expect(world.on(.restartWanted(ada)) == [.start(ada), .engineIsComing])
    }

    @Test("Engines of other makes have uuids of their own: their exit code decides")
    func others() {
        var world = World()
        for uuid in [ada, bob] {
            world.on(.launched(uuid))
            world.on(.settled(uuid))
        }
        #expect(world.on(.ended(ada, Self.crash)).contains(.start(ada)))
        #expect(world.on(.ended(bob, Self.clean)) == [.report(bob, nil, Self.clean, .staysAway)])
    }

    @Test("An engine that the hub lost and whose process lives is waited for, and takes its place again")
    func frozen() {
        var world = World()
        world.launch(ada, as: 0)
        #expect(world.on(.left(ada, .init(.heartStopped, hadWork: true))) == [])
        world.now = world.now + .seconds(3600)
        #expect(world.on(.timerFired) == [])
        #expect(world.on(.joined(ada, 0)) == [])
        #expect(world.die(ada).contains(.start(ada)))
    }

    @Test("Of engines launched elsewhere nothing is decided here")
    func foreign() {
        var world = World()
        world.launch(ada, as: 0)
        #expect(world.on(.joined(eve, 1)) == [])
        #expect(world.on(.left(eve, .init(.disconnected, hadWork: true))) == [])
        #expect(world.on(.ended(eve, Self.crash)) == [])
    }
}
