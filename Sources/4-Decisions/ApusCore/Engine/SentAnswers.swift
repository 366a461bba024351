internal import DequeModule

/// The answers that an engine sent last, to be sent again when a controller that took the place of another asks for them.
///
/// A value, generic over what an answer is. Answers are kept for two seconds, which is longer than a controller takes to store them, as
/// far as they fit into the limits. Nothing of an answer is read until a controller asks.
package struct SentAnswers<Answer> {
    /// Nanoseconds that an answer is kept.
    private static var age: UInt64 { 2_000_000_000 }
    /// Nanoseconds after which an answer that did not fit is not missed any more: the controller has stored it.
    private static var gapAge: UInt64 { 10_000_000_000 }

    private var answers: Deque<(time: MonotonicTime, byteCount: Int, answer: Answer)> = []
    private var byteCount = 0
    /// When the last answer went that was too young to go.
    private var lastGap: MonotonicTime?
    private let countLimit: Int
    private let byteLimit: Int

    package init(countLimit: Int = 16_384, byteLimit: Int = 16 << 20) {
        self.countLimit = countLimit
        self.byteLimit = byteLimit
    }

    /// Keeps an answer that is sent now.
    package mutating func keep(_ answer: Answer, byteCount: Int, at now: MonotonicTime) {
        self.answers.append((now, byteCount, answer))
        self.byteCount += byteCount
        while let first = self.answers.first {
            let isYoung = now.nanoseconds(since: first.time) < Self.age
            guard !isYoung || self.answers.count > self.countLimit || self.byteCount > self.byteLimit else { return }
            self.answers.removeFirst()
            self.byteCount -= first.byteCount
            if isYoung { self.lastGap = now }
        }
    }

    /// The answers that are kept, oldest first.
    package var all: [Answer] { self.answers.map(\.answer) }

    /// Whether all answers that a controller may have missed are kept.
    package func isComplete(at now: MonotonicTime) -> Bool {
        self.lastGap.map { now.nanoseconds(since: $0) > Self.gapAge } ?? true
    }
}
