package import ApusWire

/// Pings all engines at a steady period, and reports which have begun and which have ceased to answer.
///
/// A value: events in, effects out. A ping is a text, and an engine's answer is the same text; an answer to the ping before the
/// last is late but valid. An answer comes with the identity of a socket, which may or may not be an engine's. Protocol
/// section 4.2.
package struct HeartMonitor: Sendable {
    package enum Event: Sendable, Equatable {
        /// An answer came from this socket identity.
        case answered(EngineUUID, String)
        /// The hub waits for this heart. A heart that beats already is reported at once: ipyparallel reports a heart
        /// once only, and never again if nothing waited for it then.
        case expected(EngineUUID)
        /// The engine is known to live, though it has not answered a ping: it is reported only if it stays silent.
        case assumed(EngineUUID)
        /// The engine is no longer registered.
        case forgotten(EngineUUID)
        /// The first time: begin. After that: the time of the last `setTimer` has come.
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// Publish this text as a message of one frame.
        case ping(String)
        case heartFound(EngineUUID)
        case heartStopped(EngineUUID)
        /// Call again with `timerFired` at this time.
        case setTimer(MonotonicTime)
    }

    private struct Heart: Sendable {
        /// Beats in a row without an answer.
        var misses = 0
        var hasAnswered: Bool
    }

    /// The time between pings.
    package let period: Duration
    /// How many beats in a row may go unanswered (`max_heartmonitor_misses`); one more, and the heart has stopped.
    package let allowedMisses: Int

    private var hearts: [EngineUUID: Heart] = [:]
    private var start: MonotonicTime?
    private var nextBeat = MonotonicTime(nanoseconds: 0)
    private var ping: String?
    private var pingBefore: String?

    package init(period: Duration = .milliseconds(3000), allowedMisses: Int = 10) {
        self.period = max(period, .milliseconds(1))
        self.allowedMisses = allowedMisses
    }

    /// Hearts that beat, in no order.
    package var beating: [EngineUUID] { Array(self.hearts.keys) }

    package mutating func handle(_ event: Event, at now: MonotonicTime) -> [Effect] {
        switch event {
        case .answered(let heart, let text):
            guard text == self.ping || text == self.pingBefore else { return [] }
            let isNew = self.hearts[heart] == nil
            self.hearts[heart] = Heart(hasAnswered: true)
            return isNew ? [.heartFound(heart)] : []
        case .expected(let heart):
            return self.hearts[heart] == nil ? [] : [.heartFound(heart)]
        case .assumed(let heart):
            if self.hearts[heart] == nil { self.hearts[heart] = Heart(hasAnswered: true) }
            return []
        case .forgotten(let heart):
            self.hearts[heart] = nil
            return []
        case .timerFired:
            return self.beat(at: now)
        }
    }

    private mutating func beat(at now: MonotonicTime) -> [Effect] {
        let start = self.start ?? now
        if self.start == nil {
            self.start = now
            self.nextBeat = now
        }
        // A timer may fire early.
        guard self.nextBeat <= now else { return [.setTimer(self.nextBeat)] }
        let stopped = self.countMisses()
        self.pingBefore = self.ping
        let ping = Self.text(now.nanoseconds(since: start))
        self.ping = ping
        // Pings that were not sent while this process stood still are left out; they count as missed by no engine.
        self.nextBeat = max(self.nextBeat + self.period, now)
        if self.nextBeat == now { self.nextBeat = now + self.period }
        return stopped.map { .heartStopped($0) } + [.ping(ping), .setTimer(self.nextBeat)]
    }

    /// Counts a miss for each heart that has not answered since the last beat; returns those that have stopped.
    private mutating func countMisses() -> [EngineUUID] {
        guard self.ping != nil else { return [] }
        var stopped: [EngineUUID] = []
        for (uuid, heart) in self.hearts {
            let misses = heart.hasAnswered ? 0 : heart.misses + 1
            if misses > self.allowedMisses { stopped.append(uuid) }
            self.hearts[uuid] = Heart(misses: misses, hasAnswered: false)
        }
        stopped.sort()
        for uuid in stopped { self.hearts[uuid] = nil }
        return stopped
    }

    /// The text of a ping: seconds since the start, to the nanosecond, so that no two pings are alike.
    private static func text(_ nanoseconds: UInt64) -> String {
        let fraction = String(nanoseconds % 1_000_000_000)
        return "\(nanoseconds / 1_000_000_000)." + String(repeating: "0", count: 9 - fraction.count) + fraction
    }
}
