import ApusCore
import Testing

@Suite("When an interpreter is followed by the next")
struct KernelRestartsTests {
    @Test("One that a task ended, or a client, is followed at once")
    func atOnce() {
        var restarts = KernelRestarts()
        for _ in 0..<100 {
            #expect(restarts.ended(.replaced) == .start(after: .zero))
            #expect(restarts.ended(.duringRequest) == .start(after: .zero))
        }
    }

    @Test("One that was never up is not tried again where none ever was")
    func neverUp() {
        var restarts = KernelRestarts()
        #expect(restarts.ended(.beforeReady) == .giveUp)
    }

    @Test("Where one was up, starts that fail are repeated with growing pauses, and then no more")
    func failingStarts() {
        var restarts = KernelRestarts()
        #expect(restarts.ended(.duringRequest) == .start(after: .zero))
        for pause in [500, 1000, 2000, 4000, 8000] {
            #expect(restarts.ended(.beforeReady) == .start(after: .milliseconds(pause)))
        }
        #expect(restarts.ended(.beforeReady) == .giveUp)
    }

    @Test("Those that end by themselves soon after their start are followed after pauses that grow to half a minute")
    func dyingIdle() {
        var restarts = KernelRestarts()
        var pauses: [KernelRestarts.Decision] = []
        for _ in 0..<100 { pauses.append(restarts.ended(.idle, after: .seconds(1))) }
        for (pause, expected) in zip(pauses, [500, 1000, 2000]) { #expect(pause == .start(after: .milliseconds(expected))) }
        #expect(pauses.last == .start(after: KernelRestarts.longestPause))
    }

    @Test("One that lived for a while begins the count anew")
    func settled() {
        var restarts = KernelRestarts()
        for _ in 0..<5 { _ = restarts.ended(.idle, after: .zero) }
        #expect(restarts.ended(.idle, after: KernelRestarts.settled) == .start(after: .zero))
        #expect(restarts.ended(.idle, after: .zero) == .start(after: .milliseconds(500)))
    }
}
