/// How many tasks an engine may hold at once when the user has set no limit: few enough that one that turns out long
/// keeps little waiting behind it, enough that short ones need not wait for a round trip each.
///
/// Starts at one. Each reply allows one more, up to about a millisecond of work by the estimated time per task.
struct AdaptiveDepth: Sendable {
    /// The work an engine may have queued, in nanoseconds.
    static let queuedWork: UInt64 = 1_000_000
    static let most: Int32 = 1024
    /// Replies come in bursts, as the socket is read; the estimate is taken over at least this many nanoseconds.
    private static let window: UInt64 = 50_000

    private(set) var limit: Int32 = 1
    /// When the engine last made visible progress: a reply, or its first task after being idle.
    private(set) var progress = MonotonicTime(nanoseconds: 0)
    /// The estimated time per task in nanoseconds; zero before the first.
    private var timePerTask: UInt64 = 0
    private var windowStart = MonotonicTime(nanoseconds: 0)
    private var windowReplies: UInt64 = 0

    /// An idle engine was given a task.
    mutating func started(at now: MonotonicTime) {
        self.progress = now
        self.windowStart = now
        self.windowReplies = 0
    }

    /// The engine went from one task to another.
    mutating func turned(at now: MonotonicTime) { self.progress = now }

    /// The engine answered a task.
    ///
    /// - Parameter work: Microseconds that the engine says it was busy with it. Without it the time is taken from the intervals
    ///   of replies, which count the way and whatever else the machine does as the task's own.
    mutating func replied(at now: MonotonicTime, nowIdle: Bool, work: UInt32? = nil) {
        self.progress = now
        self.windowReplies += 1
        let elapsed = now.nanoseconds(since: self.windowStart)
        if let work {
            let sample = max(1000, UInt64(work) * 1000)
            self.timePerTask = self.timePerTask == 0 ? sample : (3 * self.timePerTask + sample) / 4
        } else if elapsed >= Self.window || nowIdle {
            let sample = max(1, elapsed / self.windowReplies)
            self.timePerTask = self.timePerTask == 0 ? sample : max(1, (self.timePerTask + sample) / 2)
            self.windowStart = now
            self.windowReplies = 0
        }
        guard self.timePerTask > 0 else { return }
        let fitting = max(1, min(UInt64(Self.most), Self.queuedWork / self.timePerTask))
        self.limit = min(Int32(fitting), self.limit + 1)
    }

    /// Whether the task at the head has run so long that nothing should queue behind it.
    func looksLong(at now: MonotonicTime) -> Bool { now.nanoseconds(since: self.progress) > Self.queuedWork }
}
