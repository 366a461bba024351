/// A moment on the clock that drives a core: nanoseconds since an arbitrary start, never going back, 292 years at most.
///
/// Cores read no clock. They are told the time with each event and name moments at which they want to be called again.
package struct MonotonicTime: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let nanoseconds: UInt64

    /// A moment after 292 years is ``distantFuture``: event loops count no further.
    package init(nanoseconds: UInt64) { self.nanoseconds = min(nanoseconds, UInt64(Int64.max)) }

    /// The moment a span after the clock's start.
    package init(_ sinceStart: Duration) { self.init(nanoseconds: sinceStart.wholeNanoseconds) }

    /// The latest moment there is; a deadline that never comes.
    package static let distantFuture = MonotonicTime(nanoseconds: UInt64(Int64.max))

    package static func + (moment: MonotonicTime, span: Duration) -> MonotonicTime {
        moment.advanced(byNanoseconds: span.wholeNanoseconds)
    }

    package static func - (later: MonotonicTime, earlier: MonotonicTime) -> Duration {
        .nanoseconds(Int64(clamping: later.nanoseconds)) - .nanoseconds(Int64(clamping: earlier.nanoseconds))
    }

    package static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }

    package var description: String { "\(Double(self.nanoseconds / 1_000) / 1_000_000) s" }

    func advanced(byNanoseconds span: UInt64) -> MonotonicTime {
        let (sum, overflow) = self.nanoseconds.addingReportingOverflow(span)
        return overflow ? .distantFuture : MonotonicTime(nanoseconds: sum)
    }

    /// Nanoseconds since an earlier moment; zero if it lies in the future.
    func nanoseconds(since earlier: MonotonicTime) -> UInt64 {
        self.nanoseconds > earlier.nanoseconds ? self.nanoseconds - earlier.nanoseconds : 0
    }
}

extension Duration {
    /// The span in nanoseconds: zero for a negative span, the largest number for a span that does not fit.
    var wholeNanoseconds: UInt64 {
        let (seconds, attoseconds) = self.components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return .max }
        let (sum, overflowed) = product.addingReportingOverflow(UInt64(attoseconds / 1_000_000_000))
        return overflowed ? .max : sum
    }
}
