internal import DequeModule

/// The answers that an engine sent last, to be sent again when a controller that took the place of another asks for them.
///
/// A value, generic over the type of answers. An answer is kept for at least two seconds, which is longer than a controller takes
/// to store it, unless the limits are exceeded. Older answers are dropped when the next one is kept. Time without a controller does
/// not count: nobody stored anything in it.
package struct SentAnswers<Answer> {
    /// Nanoseconds that an answer is kept at least, within the limits.
    private static var age: UInt64 { 2_000_000_000 }
    /// Nanoseconds after which the controller is taken to have stored an answer that was dropped too early.
    private static var gapAge: UInt64 { 10_000_000_000 }

    private var answers: Deque<(time: MonotonicTime, byteCount: Int, answer: Answer)> = []
    private var byteCount = 0
    /// When an answer was last dropped before its age, because of a limit.
    private var lastGap: MonotonicTime?
    /// When the last connection to a controller broke, until a while after a controller has asked: it may ask for more.
    private var lossTime: MonotonicTime?
    /// When a controller last asked; nil if none has since the loss.
    private var reportTime: MonotonicTime?
    private let countLimit: Int
    private let byteLimit: Int

    package init(countLimit: Int = 16_384, byteLimit: Int = 16 << 20) {
        self.countLimit = countLimit
        self.byteLimit = byteLimit
    }

    /// Keeps an answer that is sent now, and drops old answers and those beyond the limits.
    package mutating func keep(_ answer: Answer, byteCount: Int, at now: MonotonicTime) {
        self.answers.append((now, byteCount, answer))
        self.byteCount += byteCount
        if let reportTime, now.nanoseconds(since: reportTime) > Self.gapAge {
            (self.lossTime, self.lastGap, self.reportTime) = (nil, nil, nil)
        }
        let stored = self.lossTime ?? now
        while let first = self.answers.first {
            let isYoung = stored.nanoseconds(since: first.time) < Self.age
            guard !isYoung || self.answers.count > self.countLimit || self.byteCount > self.byteLimit else { return }
            self.answers.removeFirst()
            self.byteCount -= first.byteCount
            if isYoung { self.lastGap = now }
        }
    }

    /// A connection to the controller broke: what was sent in the last moments may be lost.
    package mutating func connectionLost(at now: MonotonicTime) { (self.lossTime, self.reportTime) = (now, nil) }

    /// A controller has asked for answers. It may ask again for others that it has only now heard of.
    package mutating func reported(at now: MonotonicTime) { self.reportTime = now }

    /// The answers that are kept, oldest first.
    package var all: [Answer] { self.answers.map(\.answer) }

    /// Whether every answer that a controller may have failed to store is kept.
    package func isComplete(at now: MonotonicTime) -> Bool {
        self.lastGap.map { (self.lossTime ?? now).nanoseconds(since: $0) > Self.gapAge } ?? true
    }
}
