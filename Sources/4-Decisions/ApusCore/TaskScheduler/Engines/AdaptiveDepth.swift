/// How many tasks an engine may hold at once when the user has set no limit: few enough that little waits behind a
/// long task, and enough that short tasks need not wait for a round trip each.
///
/// The limit starts at one. Each reply allows one more, up to about a millisecond of work by the estimated time per task.
struct AdaptiveDepth: Sendable {
    /// The work an engine may have queued, in nanoseconds.
    static let queuedWork: UInt64 = 1_000_000
    static let most: Int32 = 1024
    /// The least nanoseconds over which the time per task is estimated, because replies come in bursts when the socket is read.
    private static let window: UInt64 = 50_000

    private(set) var limit: Int32 = 1
    /// When the engine last made visible progress: a reply, or its first task after being idle.
    private(set) var progress = MonotonicTime(nanoseconds: 0)
    /// The estimated time per task in nanoseconds; zero before the first.
    private var timePerTask: UInt64 = 0
    private var windowStart = MonotonicTime(nanoseconds: 0)
    private var windowReplies: UInt64 = 0

    /// Notes that the engine, which was idle, was given a task.
    mutating func started(at now: MonotonicTime) {
        self.progress = now
        self.windowStart = now
        self.windowReplies = 0
    }

    /// Notes that the engine went from one task to another without a reply.
    mutating func turned(at now: MonotonicTime) { self.progress = now }

    /// Notes that the engine answered a task, and adjusts the limit.
    ///
    /// - Parameter work: Microseconds that the engine says it worked on the task. If nil, the time is taken from the intervals
    ///   between replies, which include the transport and other work of the machine.
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

    /// Whether the engine's first task has run so long that no other should be queued behind it.
    func looksLong(at now: MonotonicTime) -> Bool { now.nanoseconds(since: self.progress) > Self.queuedWork }
}
