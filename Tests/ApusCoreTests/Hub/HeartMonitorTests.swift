import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The heart monitor")
struct HeartMonitorTests {
    private let ada = EngineUUID("ada")
    private let bob = EngineUUID("bob")
    private let start = MonotonicTime(.seconds(1000))

    /// The monitor's time: periods after its start.
    private func beat(_ number: Int) -> MonotonicTime { self.start + .seconds(3 * number) }

    @Test("A ping is the monitor's lifetime in seconds")
    func pings() {
        var monitor = HeartMonitor()
        #expect(monitor.handle(.timerFired, at: self.beat(0)) == [.ping("0.000000000"), .setTimer(self.beat(1))])
        #expect(monitor.handle(.timerFired, at: self.beat(1)) == [.ping("3.000000000"), .setTimer(self.beat(2))])
    }

    @Test("A heart is found by its first answer, to this ping or the one before; other texts mean nothing")
    func found() {
        var monitor = HeartMonitor()
        #expect(monitor.handle(.answered(self.ada, ""), at: self.start) == [])
        _ = monitor.handle(.timerFired, at: self.beat(0))
        _ = monitor.handle(.timerFired, at: self.beat(1))
        #expect(monitor.handle(.answered(self.ada, "3.000000000"), at: self.beat(1)) == [.heartFound(self.ada)])
        #expect(monitor.handle(.answered(self.ada, "3.000000000"), at: self.beat(1)) == [])
        #expect(monitor.handle(.answered(self.bob, "3.0"), at: self.beat(1)) == [])
        #expect(monitor.handle(.answered(self.bob, "0.000000000"), at: self.beat(1)) == [.heartFound(self.bob)])
    }

    @Test("A heart that beat before it was waited for is reported when it is")
    func expectedLate() {
        var monitor = HeartMonitor()
        #expect(monitor.handle(.expected(self.ada), at: self.start) == [])
        _ = monitor.handle(.timerFired, at: self.beat(0))
        _ = monitor.handle(.answered(self.ada, "0.000000000"), at: self.beat(0))
        #expect(monitor.handle(.expected(self.ada), at: self.beat(0)) == [.heartFound(self.ada)])
    }

    @Test("The eleventh miss in a row stops a heart; an answer clears the count")
    func stops() {
        var monitor = HeartMonitor()
        _ = monitor.handle(.timerFired, at: self.beat(0))
        _ = monitor.handle(.answered(self.ada, "0.000000000"), at: self.beat(0))
        _ = monitor.handle(.answered(self.bob, "0.000000000"), at: self.beat(0))
        for number in 1...11 {
            #expect(monitor.handle(.timerFired, at: self.beat(number)).count == 2)
            if number == 10 { _ = monitor.handle(.answered(self.bob, "\(3 * number).000000000"), at: self.beat(number)) }
        }
        #expect(
            monitor.handle(.timerFired, at: self.beat(12)) == [
                .heartStopped(self.ada), .ping("36.000000000"), .setTimer(self.beat(13)),
            ])
        #expect(monitor.beating == [self.bob])
    }

    @Test("An assumed heart stops if it never answers; a forgotten one is not missed")
    func assumedAndForgotten() {
        var monitor = HeartMonitor(period: .seconds(3), allowedMisses: 1)
        _ = monitor.handle(.assumed(self.ada), at: self.start)
        _ = monitor.handle(.assumed(self.bob), at: self.start)
        _ = monitor.handle(.forgotten(self.bob), at: self.start)
        for number in 0...2 { #expect(monitor.handle(.timerFired, at: self.beat(number)).count == 2) }
        #expect(monitor.handle(.timerFired, at: self.beat(3)).first == .heartStopped(self.ada))
    }

    @Test("After a standstill of its own it goes on with one beat, not with all it missed")
    func standstill() {
        var monitor = HeartMonitor()
        _ = monitor.handle(.timerFired, at: self.beat(0))
        _ = monitor.handle(.answered(self.ada, "0.000000000"), at: self.beat(0))
        #expect(monitor.handle(.timerFired, at: self.beat(100)) == [.ping("300.000000000"), .setTimer(self.beat(101))])
        #expect(monitor.handle(.timerFired, at: self.beat(100)) == [.setTimer(self.beat(101))])
    }
}
