import ApusCore
import Testing

@Suite("A controller that ends is started again")
struct ControllerSupervisorTests {
    /// A supervisor and the time, which a test turns.
    private struct World {
        var supervisor: ControllerSupervisor
        var now = MonotonicTime(.seconds(1000))

        init(restarts: Bool = true, limit: Int = 5) {
            var policy = ControllerSupervisor.Policy()
            policy.restarts = restarts
            policy.limit = limit
            self.supervisor = ControllerSupervisor(policy)
        }

        /// A supervisor whose first controller can be reached.
        static func serving(restarts: Bool = true, limit: Int = 5) -> World {
            var world = World(restarts: restarts, limit: limit)
            _ = world.on(.wanted)
            _ = world.on(.listening)
            return world
        }

        mutating func on(_ event: ControllerSupervisor.Event) -> [ControllerSupervisor.Effect] {
            self.supervisor.handle(event, at: self.now)
        }

        mutating func wait(_ span: Duration) -> [ControllerSupervisor.Effect] {
            self.now = self.now + span
            return self.on(.timerFired)
        }
    }

    private static let killed = ControllerSupervisor.End(.died, "ended with signal 9 (Killed)")
    private static let clean = ControllerSupervisor.End(.clean, "ended with code 0")

    @Test("A controller that died is started again at once, and takes up the work of the one before it")
    func restarts() {
        var world = World()
        #expect(world.on(.wanted) == [.start(again: false)])
        #expect(world.on(.listening) == [])
        #expect(world.on(.ended(Self.killed)) == [.report(Self.killed, .restarts(after: .zero)), .start(again: true)])
        #expect(world.on(.listening) == [])
    }

    @Test("One that dies again soon is started after growing pauses, and then given up, whether or not it could be reached")
    func givenUp() {
        var world = World.serving(limit: 3)
        _ = world.on(.ended(Self.killed))
        let first = world.now + .milliseconds(100)
        #expect(world.on(.ended(Self.killed)) == [.report(Self.killed, .restarts(after: .milliseconds(100))), .setTimer(first)])
        #expect(world.wait(.milliseconds(60)) == [.setTimer(first)])
        #expect(world.wait(.milliseconds(40)) == [.start(again: true)])
        _ = world.on(.listening)
        let second = world.now + .milliseconds(200)
        #expect(world.on(.ended(Self.killed)) == [.report(Self.killed, .restarts(after: .milliseconds(200))), .setTimer(second)])
        #expect(world.wait(.milliseconds(200)) == [.start(again: true)])
        let missing = ControllerSupervisor.End(.died, "cannot be started")
        let outcome = ControllerSupervisor.Outcome.givenUp(deaths: 4)
        #expect(world.on(.notStarted("cannot be started")) == [.report(missing, outcome), .over(.died(missing, outcome))])
        #expect(world.on(.timerFired) == [])
        #expect(world.on(.stopWanted) == [])
    }

    @Test("The pauses grow to ten seconds")
    func pauses() {
        var world = World.serving(limit: 100)
        _ = world.on(.ended(Self.killed))
        var pauses: [Duration] = []
        for _ in 0..<10 {
            for case .report(_, .restarts(let pause)) in world.on(.ended(Self.killed)) {
                pauses.append(pause)
                _ = world.wait(pause)
            }
        }
        #expect(pauses == [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000].map { .milliseconds($0) })
    }

    @Test("Deaths before a controller that served for a minute do not count")
    func provenLife() {
        var world = World.serving(limit: 1)
        for _ in 0..<5 {
            world.now = world.now + .seconds(60)
            #expect(world.on(.ended(Self.killed)) == [.report(Self.killed, .restarts(after: .zero)), .start(again: true)])
            _ = world.on(.listening)
        }
        let outcome = ControllerSupervisor.Outcome.givenUp(deaths: 2)
        #expect(world.on(.ended(Self.killed)) == [.report(Self.killed, outcome), .over(.died(Self.killed, outcome))])
    }

    @Test("One that was told to end stays away, whoever told it")
    func onPurpose() {
        for kind in [EngineSupervisor.End.Kind.clean, .terminated, .stopped] {
            var world = World.serving()
            #expect(world.on(.ended(.init(kind, "ended"))) == [.over(.wanted)])
            #expect(world.on(.stopWanted) == [])
        }
        var world = World.serving()
        #expect(world.on(.stopWanted) == [.stop])
        #expect(world.on(.stopWanted) == [])
        #expect(world.on(.ended(Self.killed)) == [.over(.wanted)])
    }

    @Test("A cluster that stops does not race with a restart")
    func stopping() {
        // During a pause.
        var pausing = World.serving()
        _ = pausing.on(.ended(Self.killed))
        _ = pausing.on(.ended(Self.killed))
        #expect(pausing.on(.stopIsComing) == [.over(.wanted)])
        #expect(pausing.wait(.seconds(1)) == [])
        // While the next one starts.
        var starting = World.serving()
        _ = starting.on(.ended(Self.killed))
        #expect(starting.on(.stopWanted) == [.stop])
        #expect(starting.on(.listening) == [])
        #expect(starting.on(.ended(Self.clean)) == [.over(.wanted)])
        // While the engines are stopped, before the controller.
        var serving = World.serving()
        #expect(serving.on(.stopIsComing) == [])
        #expect(serving.on(.ended(Self.killed)) == [.over(.wanted)])
        // Before anything has happened.
        var new = World()
        #expect(new.on(.stopWanted) == [.over(.wanted)])
    }

    @Test("A first controller that cannot be reached has failed to start, and is not tried again")
    func failsToStart() {
        for end in [Self.killed, Self.clean] {
            var world = World()
            _ = world.on(.wanted)
            #expect(world.on(.ended(end)) == [.over(.failedToStart(end))])
        }
        var world = World()
        _ = world.on(.wanted)
        #expect(world.on(.notStarted("no such file")) == [.over(.failedToStart(.init(.died, "no such file")))])
    }

    @Test("Where controllers are not started again, the first death is the end")
    func off() {
        var world = World.serving(restarts: false)
        #expect(
            world.on(.ended(Self.killed)) == [
                .report(Self.killed, .notRestarted), .over(.died(Self.killed, .notRestarted)),
            ])
    }
}
