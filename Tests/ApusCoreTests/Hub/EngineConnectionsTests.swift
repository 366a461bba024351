import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The connections of engines")
struct EngineConnectionsTests {
    /// Connections, and a clock that the test turns.
    private struct World {
        var connections = EngineConnections()
        var now = MonotonicTime(.seconds(100))
        /// When the driver is to fire the timer.
        var timer: MonotonicTime?

        @discardableResult
        mutating func on(
            _ event: EngineConnections.Event, sourceLocation: SourceLocation = #_sourceLocation
        ) -> [EngineConnections.Effect] {
            let effects = self.connections.handle(event, at: self.now)
            #expect(throws: Never.self, sourceLocation: sourceLocation) { try self.connections.checkInvariants() }
            for case .setTimer(let time) in effects { self.timer = time }
            return effects
        }

        /// Turns the clock on, fires the timer whenever it is due, and gives the effects.
        mutating func wait(_ span: Duration) -> [EngineConnections.Effect] {
            let end = self.now + span
            var effects: [EngineConnections.Effect] = []
            while let time = self.timer, time <= end {
                self.now = max(self.now, time)
                self.timer = nil
                effects += self.on(.timerFired).filter { if case .setTimer = $0 { false } else { true } }
            }
            self.now = end
            return effects
        }

        mutating func connect(_ engine: EngineUUID) {
            for line in EngineConnections.Line.allCases { self.on(.connected(engine, line)) }
        }
    }

    @Test("An expected engine can be used as soon as every line is connected, in whichever order")
    func reachable() {
        var world = World()
        world.on(.expected(ada))
        #expect(world.on(.connected(ada, .heart)) == [])
        #expect(world.on(.connected(ada, .task)) == [])
        #expect(world.on(.connected(ada, .mux)) == [.reachable(ada)])
        world.on(.settled(ada))
        #expect(world.on(.connected(ada, .mux)) == [])
        world.connect(bob)
        #expect(world.on(.expected(bob)) == [.reachable(bob)])
    }

    @Test("One socket may lose its connection; all at once is an end, after a moment")
    func death() {
        var world = World()
        world.connect(ada)
        #expect(world.on(.disconnected(ada, .mux)) == [])
        world.on(.connected(ada, .mux))
        #expect(world.wait(.seconds(10)) == [])
        world.on(.disconnected(ada, .heart))
        world.on(.disconnected(ada, .task))
        #expect(world.on(.disconnected(ada, .mux)) == [.setTimer(world.now + EngineConnections.blink)])
        #expect(world.wait(.milliseconds(29)) == [])
        #expect(world.wait(.milliseconds(1)) == [.gone(ada)])
        #expect(world.wait(.seconds(10)) == [], "told once")
    }

    @Test("An engine whose shell is back within the moment is not gone")
    func blink() {
        var world = World()
        world.connect(ada)
        for line in EngineConnections.Line.allCases { world.on(.disconnected(ada, line)) }
        #expect(world.wait(.milliseconds(20)) == [])
        world.on(.connected(ada, .task))
        #expect(world.wait(.seconds(10)) == [])
    }

    @Test("A heart alone counts for three seconds, for anyone may have taken its name")
    func heartAlone() {
        var world = World()
        world.connect(ada)
        world.on(.disconnected(ada, .mux))
        #expect(world.on(.disconnected(ada, .task)) == [.setTimer(world.now + EngineConnections.heartAlone)])
        #expect(world.wait(.milliseconds(2999)) == [])
        #expect(world.wait(.milliseconds(1)) == [.gone(ada)])
    }

    @Test("A heart that connects within the moment gives the engine three seconds more")
    func heartAgain() {
        var world = World()
        world.connect(ada)
        for line in [EngineConnections.Line.heart, .mux, .task] { world.on(.disconnected(ada, line)) }
        #expect(world.wait(.milliseconds(10)) == [])
        world.on(.connected(ada, .heart))
        #expect(world.wait(.milliseconds(20) + .milliseconds(2999)) == [])
        #expect(world.wait(.milliseconds(1)) == [.gone(ada)])
    }

    @Test("When the heart goes as well, the moment counts and not the three seconds")
    func heartGoes() {
        var world = World()
        world.connect(ada)
        world.on(.disconnected(ada, .mux))
        world.on(.disconnected(ada, .task))
        #expect(world.wait(.seconds(1)) == [])
        #expect(world.on(.disconnected(ada, .heart)) == [.setTimer(world.now + EngineConnections.blink)])
        #expect(world.wait(.milliseconds(30)) == [.gone(ada)])
        #expect(world.wait(.seconds(10)) == [])
    }

    @Test("Connections that were cut say nothing when they drop")
    func cut() {
        var world = World()
        world.connect(ada)
        world.on(.cut(ada))
        for line in EngineConnections.Line.allCases { #expect(world.on(.disconnected(ada, line)) == []) }
        // The wait that was under way is over as well.
        world.connect(bob)
        for line in EngineConnections.Line.allCases { world.on(.disconnected(bob, line)) }
        world.on(.cut(bob))
        #expect(world.wait(.seconds(10)) == [])
    }

    @Test("Engines that go one after the other are each told in time")
    func several() {
        var world = World()
        let all = [ada, bob, eve]
        for engine in all { world.connect(engine) }
        for engine in all {
            for line in EngineConnections.Line.allCases { world.on(.disconnected(engine, line)) }
            world.now = world.now + .milliseconds(5)
        }
        #expect(world.wait(.milliseconds(19)) == [.gone(ada)])
        #expect(world.wait(.milliseconds(5)) == [.gone(bob)])
        #expect(world.wait(.milliseconds(5)) == [.gone(eve)])
    }

    @Test("A stranger that answers pings is asked to register, then ever more rarely, and anew when it connects anew")
    func strangers() {
        var world = World()
        func asked(_ beats: ClosedRange<Int>) -> [Int] {
            beats.filter { _ in world.on(.strangerBeat(eve)) == [.askToRegister(eve)] }
        }
        #expect(asked(1...40) == [1, 2, 3, 4, 5, 6, 7, 8, 16, 32])
        world.on(.connected(eve, .heart))
        world.on(.disconnected(eve, .heart))
        #expect(asked(1...10) == [1, 2, 3, 4, 5, 6, 7, 8])
    }
}
