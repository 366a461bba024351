package import ApusWire
internal import DequeModule

/// Watches by which sockets each engine is connected, and decides when an engine can be used and when it is gone.
///
/// A value: events in, effects out. Peers that are no engines may connect under any name; the registry ignores effects about
/// unknown names.
package struct EngineConnections: Sendable {
    /// A socket whose connection shows that an engine's own process lives. The control socket is not one: a helper process may
    /// have it.
    package enum Line: Sendable, Hashable, CaseIterable {
        case mux, task
        /// The socket that answers pings. Any peer may use the engine's name there.
        case heart

        /// Whether a connection proves that the engine is there. A connection of `heart` does not.
        var isShell: Bool { self != .heart }
    }

    package enum Event: Sendable, Equatable {
        case connected(EngineUUID, Line)
        case disconnected(EngineUUID, Line)
        /// The engine was accepted, and can be used as soon as all its lines are connected.
        case expected(EngineUUID)
        /// The engine is registered, or no longer expected.
        case settled(EngineUUID)
        /// The controller closes every connection of the engine. Their ends say nothing about later connections.
        case cut(EngineUUID)
        /// An engine that is not registered answered a ping, signed with the cluster's key.
        case strangerBeat(EngineUUID)
        /// The time of the last `setTimer` has come.
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// An expected engine is connected by all lines, so it can be used without waiting for a ping.
        case reachable(EngineUUID)
        /// The engine's process has ended, as far as connections can tell.
        case gone(EngineUUID)
        /// Tell the engine that answers pings under this name to register again. Stock engines ignore the message.
        case askToRegister(EngineUUID)
        /// Call again with `timerFired` at this time. Replaces the time set before.
        case setTimer(MonotonicTime)
    }

    /// How long an engine without any connection may take to come back. A single socket may lose its connection and connect
    /// again; if all are lost for longer than this, the process has ended.
    package static let blink: Duration = .milliseconds(30)
    /// How long an engine that is connected by its heart alone counts as connecting anew.
    package static let heartAlone: Duration = .seconds(3)
    /// How many of an unregistered engine's first beats are each answered; later ones are answered at powers of two.
    private static let eagerBeats = 8

    /// When to check whether an engine that lost its shell lines has come back.
    private struct Absence: Sendable {
        /// When an engine without any connection counts as gone; nil while its heart is connected.
        var blink: MonotonicTime?
        /// When an engine connected by its heart alone counts as gone.
        var heartAlone: MonotonicTime?
    }

    private var lines: [EngineUUID: Set<Line>] = [:]
    /// Engines that have lost a line and have no shell line now.
    private var absent: [EngineUUID: Absence] = [:]
    /// The times of all absences, earliest first: `blinks` for engines without a connection, `hearts` for those with their heart
    /// alone. Entries whose time the engine's absence no longer has are skipped.
    private var blinks: Deque<(engine: EngineUUID, at: MonotonicTime)> = []
    private var hearts: Deque<(engine: EngineUUID, at: MonotonicTime)> = []
    /// Accepted engines that are not yet known to be reachable.
    private var expected: Set<EngineUUID> = []
    /// How often the heart of an unregistered engine has beaten since it connected.
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
            // The first answers may be sent before the engine's control socket has connected again. A stock engine logs each, so
            // they become rare.
            return beats <= Self.eagerBeats || beats.nonzeroBitCount == 1 ? [.askToRegister(engine)] : []
        case .timerFired: return self.fireTimer(at: now)
        }
    }

    /// Reports an expected engine as reachable once its heart and its shell lines are all connected.
    private func completed(_ engine: EngineUUID) -> [Effect] {
        self.expected.contains(engine) && self.lines[engine]?.count == Line.allCases.count ? [.reachable(engine)] : []
    }

    private mutating func disconnect(_ engine: EngineUUID, _ line: Line, at now: MonotonicTime) -> [Effect] {
        if line == .heart { self.strangers[engine] = nil }
        // The end of a connection that the controller itself closed says nothing.
        guard self.lines[engine]?.remove(line) != nil else { return [] }
        if self.lines[engine]?.isEmpty == true { self.lines[engine] = nil }
        guard !self.hasShell(engine) else { return [] }
        self.awaitReturn(of: engine, at: now)
        return self.wake()
    }

    private func hasShell(_ engine: EngineUUID) -> Bool { self.lines[engine]?.contains { $0.isShell } ?? false }

    /// Sets a time at which to check whether the engine has come back. A time that was set before stays.
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
                // The engine's heart has connected meanwhile.
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

    /// Throws if the stored values contradict each other; for tests.
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
