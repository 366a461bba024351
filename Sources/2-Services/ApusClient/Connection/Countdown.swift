import Synchronization

/// Counts down from many threads and tells the one that reaches zero.
final class Countdown: Sendable {
    private let remaining: Atomic<Int>

    init(_ count: Int) { self.remaining = Atomic(count) }

    /// True for the last call.
    func countDown() -> Bool { self.remaining.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 }
}
