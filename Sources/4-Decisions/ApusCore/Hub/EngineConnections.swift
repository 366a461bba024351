package import ApusWire
internal import DequeModule

/// Knows by which of its vital sockets each engine is connected: tells when an engine can be used, and when it is gone.
///
/// A value: events in, effects out. Peers that are no engines may connect under any name; what is told of names that nobody knows
/// means nothing to the registry.
package struct EngineConnections: Sendable {
    /// A socket whose connection shows that an engine's own process lives. Its control socket may be a helper's and is not among them.
    package enum Line: Sendable, Hashable, CaseIterable {
        case mux, task
        /// Where pings are answered. Anyone may have taken the engine's name there.
        case heart

        /// Whether a connection proves that the engine is there: the other one proves nothing.
        var isShell: Bool { self != .heart }
    }

    package enum Event: Sendable, Equatable {
        case connected(EngineUUID, Line)
        case disconnected(EngineUUID, Line)
        /// The engine was accepted, and can be used as soon as every line is connected.
        case expected(EngineUUID)
        /// The engine is registered, or is not waited for any more.
        case settled(EngineUUID)
        /// Every connection of the engine is being closed from here. That these drop says nothing of the ones that come next.
        case cut(EngineUUID)
        /// Somebody nobody knows answered a ping, with the cluster's key.
        case strangerBeat(EngineUUID)
        /// The time last named by `setTimer` has come.
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// An expected engine is connected by all lines: nobody need wait for a ping.
        case reachable(EngineUUID)
        /// The engine's process has ended, as far as connections can tell.
        case gone(EngineUUID)
        /// Tell the one that answers pings under this name to register again. Stock engines pass over the message.
        case askToRegister(EngineUUID)
        /// Call again with `timerFired` at this time. Replaces the time named before.
        case setTimer(MonotonicTime)
    }

    /// How long an engine without any connection may take to come back. One socket may lose its connection and connect again; all at
    /// once is a process that ended. A moment tells the two apart.
    package static let blink: Duration = .milliseconds(30)
    /// How long a heart alone counts as an engine that is connecting anew.
    package static let heartAlone: Duration = .seconds(3)
    /// How many of a stranger's first beats are answered, each; after them those at powers of two.
    private static let eagerBeats = 8

    /// When to look whether an engine has come back that has no line of its shell.
    private struct Absence: Sendable {
        /// The end of the blink; nil while its heart alone is connected.
        var blink: MonotonicTime?
        /// The end of the time for its heart alone.
        var heartAlone: MonotonicTime?
    }

    private var lines: [EngineUUID: Set<Line>] = [:]
    /// Engines that were connected by their shell, or seemed so, and are not.
    private var absent: [EngineUUID: Absence] = [:]
    /// The ends of all blinks, earliest first, and of all times for a heart alone. Those that the absence of that engine does not name
    /// any more are skipped.
    private var blinks: Deque<(engine: EngineUUID, at: MonotonicTime)> = []
    private var hearts: Deque<(engine: EngineUUID, at: MonotonicTime)> = []
    /// Accepted engines that are not yet known to be reachable.
    private var expected: Set<EngineUUID> = []
    /// How often a heart that belongs to no engine has beaten since it connected.
    private var strangers: [EngineUUID: Int] = [:]
    private var timer = MonotonicTime.distantFuture

    package init() {}

    package mutating func handle(_ event: Event, at now: MonotonicTime) -> [Effect] {
        switch event {
        case .connected(let engine, let line):
            self.lines[engine, default: []].insert(line)
            if line.isShell { self.absent[engine] = nil }
            return self.completed(engine)
        case .disconnected(let engine, let line): return self.disconnect(engine, line, at: now)
        case .expected(let engine):
            self.expected.insert(engine)
            return self.completed(engine)
        case .settled(let engine):
            self.expected.remove(engine)
            return []
        case .cut(let engine):
            self.lines[engine] = nil
            self.absent[engine] = nil
            self.strangers[engine] = nil
            return []
        case .strangerBeat(let engine):
            let beats = self.strangers[engine, default: 0] + 1
            self.strangers[engine] = beats
            // The first may come before its control socket has connected again. A stock engine logs each, so they become rare.
            return beats <= Self.eagerBeats || beats.nonzeroBitCount == 1 ? [.askToRegister(engine)] : []
        case .timerFired: return self.fireTimer(at: now)
        }
    }

    /// An engine whose heart has connected is alive, and can be used once its shell has connected too.
    private func completed(_ engine: EngineUUID) -> [Effect] {
        self.expected.contains(engine) && self.lines[engine]?.count == Line.allCases.count ? [.reachable(engine)] : []
    }

    private mutating func disconnect(_ engine: EngineUUID, _ line: Line, at now: MonotonicTime) -> [Effect] {
        if line == .heart { self.strangers[engine] = nil }
        // Connections that were cut, to make room for an engine that comes back, say nothing when they drop.
        guard self.lines[engine]?.remove(line) != nil else { return [] }
        if self.lines[engine]?.isEmpty == true { self.lines[engine] = nil }
        guard !self.hasShell(engine) else { return [] }
        self.awaitReturn(of: engine, at: now)
        return self.wake()
    }

    private func hasShell(_ engine: EngineUUID) -> Bool { self.lines[engine]?.contains { $0.isShell } ?? false }

    /// Sees to it that somebody looks whether the engine has come back. A time that was set before stands.
    private mutating func awaitReturn(of engine: EngineUUID, at now: MonotonicTime) {
        var absence = self.absent[engine] ?? Absence()
        if self.lines[engine] == nil, absence.blink == nil {
            absence.blink = now + Self.blink
            self.blinks.append((engine, now + Self.blink))
        } else if self.lines[engine] != nil, absence.heartAlone == nil {
            absence.heartAlone = now + Self.heartAlone
            self.hearts.append((engine, now + Self.heartAlone))
        }
        self.absent[engine] = absence
    }

    private mutating func fireTimer(at now: MonotonicTime) -> [Effect] {
        self.timer = .distantFuture
        var gone: [EngineUUID] = []
        while let first = self.blinks.first, first.at <= now {
            self.blinks.removeFirst()
            guard self.absent[first.engine]?.blink == first.at else { continue }
            self.absent[first.engine]?.blink = nil
            if self.lines[first.engine] == nil {
                gone.append(first.engine)
                self.absent[first.engine] = nil
            } else {
                // Its heart has connected meanwhile.
                self.awaitReturn(of: first.engine, at: now)
            }
        }
        while let first = self.hearts.first, first.at <= now {
            self.hearts.removeFirst()
            guard self.absent[first.engine]?.heartAlone == first.at else { continue }
            gone.append(first.engine)
            self.absent[first.engine] = nil
        }
        return gone.map { .gone($0) } + self.wake()
    }

    private mutating func wake() -> [Effect] {
        while let first = self.blinks.first, self.absent[first.engine]?.blink != first.at { self.blinks.removeFirst() }
        while let first = self.hearts.first, self.absent[first.engine]?.heartAlone != first.at { self.hearts.removeFirst() }
        let next = min(self.blinks.first?.at ?? .distantFuture, self.hearts.first?.at ?? .distantFuture)
        guard next < self.timer else { return [] }
        self.timer = next
        return [.setTimer(next)]
    }

    /// Looks for contradictions in what is kept; for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        for (engine, lines) in self.lines where lines.isEmpty {
            throw BrokenInvariant(description: "\(engine) is kept without a connection")
        }
        for (engine, absence) in self.absent {
            if self.hasShell(engine) { throw BrokenInvariant(description: "\(engine) is looked for and is here") }
            let times = [absence.blink, absence.heartAlone].compactMap { $0 }
            guard let first = times.min() else {
                throw BrokenInvariant(description: "\(engine) is absent and nobody looks for it")
            }
            if first < self.timer { throw BrokenInvariant(description: "nobody wakes to look for \(engine)") }
        }
    }
}
