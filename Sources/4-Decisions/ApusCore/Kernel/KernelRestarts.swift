/// Decides when an interpreter that ended is followed by the next one.
///
/// An interpreter that ended during a request, or that a client wanted replaced, is followed at once: the next such end takes
/// another request. One that ended by itself is followed after a pause, which doubles from one such end to the next, so that an
/// interpreter that cannot live does not keep the machine busy.
package struct KernelRestarts: Sendable {
    /// How an interpreter ended.
    package enum Ending: Sendable, Equatable {
        /// A client wanted another interpreter.
        case replaced
        /// The interpreter ended while it ran a request.
        case duringRequest
        /// The interpreter ended by itself, after it was up.
        case idle
        /// The interpreter ended before it was up, or the system started no process.
        case beforeReady
    }

    package enum Decision: Sendable, Equatable {
        case start(after: Duration)
        case giveUp
    }

    /// The pause after the first interpreter of several that ended by themselves.
    package static let firstPause = Duration.milliseconds(500)
    package static let longestPause = Duration.seconds(30)
    /// An interpreter that was up for this long does not count as a failed start.
    package static let settled = Duration.seconds(10)
    /// How many interpreters in a row may end before they are up until no further one is started. If none was ever up, one is
    /// enough.
    package static let startLimit = 6

    /// Whether any interpreter has been up.
    private var wasEverReady = false
    /// Interpreters in a row that ended by themselves soon after their start.
    private var failures = 0
    /// Interpreters in a row that ended before they were up.
    private var failedStarts = 0

    package init() {}

    /// - Parameter life: How long the interpreter was up.
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
        // The pause reaches its limit long before the thirtieth doubling.
        let pause = min(Self.firstPause * (1 << min(self.failures, 30)), Self.longestPause)
        self.failures += 1
        return .start(after: pause)
    }
}
