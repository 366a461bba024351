/// Decides when an interpreter that ended is followed by the next one.
///
/// One that a task ended, or that a client wanted replaced, is followed at once: whoever asks again for such an end waits for it
/// each time. One that ends by itself is followed after a pause, which doubles from one such end to the next, so that an interpreter
/// that cannot live does not keep the machine busy.
package struct KernelRestarts: Sendable {
    /// How an interpreter ended.
    package enum Ending: Sendable, Equatable {
        /// A client wanted another one.
        case replaced
        /// While it ran a request.
        case duringRequest
        /// By itself, after it was up.
        case idle
        /// Before it was up, or there was none: the system started no process.
        case beforeReady
    }

    package enum Decision: Sendable, Equatable {
        case start(after: Duration)
        case giveUp
    }

    /// The pause after the first interpreter of several that ended by themselves.
    package static let firstPause = Duration.milliseconds(500)
    package static let longestPause = Duration.seconds(30)
    /// One that was up for so long was no failure of its start.
    package static let settled = Duration.seconds(10)
    /// So many in a row may end before they are up, if there ever was one that was.
    package static let startLimit = 6

    /// Whether any interpreter has been up.
    private var wasEverReady = false
    /// Interpreters in a row that ended by themselves soon after their start.
    private var failures = 0
    /// And how many of the last ones were not up.
    private var failedStarts = 0

    package init() {}

    /// - Parameter life: How long it was up.
    package mutating func ended(_ ending: Ending, after life: Duration = .zero) -> Decision {
        switch ending {
        case .replaced: return .start(after: .zero)
        case .duringRequest:
            self = Self()
            self.wasEverReady = true
            return .start(after: .zero)
        case .idle:
            self.wasEverReady = true
            self.failedStarts = 0
            if life >= Self.settled {
                self.failures = 0
                return .start(after: .zero)
            }
        case .beforeReady:
            self.failedStarts += 1
            if !self.wasEverReady || self.failedStarts >= Self.startLimit { return .giveUp }
        }
        // Long before the thirtieth doubling the pause is the longest.
        let pause = min(Self.firstPause * (1 << min(self.failures, 30)), Self.longestPause)
        self.failures += 1
        return .start(after: pause)
    }
}
