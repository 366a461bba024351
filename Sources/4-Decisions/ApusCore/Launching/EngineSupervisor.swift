package import ApusWire

/// Decides which launched engines are started again when their processes end, and reports when no engine is left or coming.
///
/// The supervisor is a value: events in, effects out. An engine's end is reported from two sides, in either order: the launcher
/// knows how the process ended, the hub whether the engine had said goodbye and whether it had work. The decision is made when
/// both are known.
///
/// An engine that was told to end (a client's shutdown, SIGTERM) is not started again. An engine that died is started again under
/// its uuid: the first time at once, then after growing pauses. A death while the engine had work is blamed on the work, whose
/// retries are limited. Deaths without work are counted, and an engine with more of them in a row than the policy allows is given
/// up.
package struct EngineSupervisor: Sendable {
    package struct Policy: Sendable, Equatable {
        /// Whether engines that died are started again.
        package var restarts = true
        /// How often in a row an engine may die without having had work, and be started again.
        package var limit = 5
        /// The pause before the second start in a row; each further one is twice as long.
        package var firstPause: Duration = .milliseconds(100)
        /// The longest pause, and the longest after a death with work.
        package var longestPause: Duration = .seconds(10)
        package var longestPauseAfterWork: Duration = .seconds(1)
        /// How long an engine must run for its earlier deaths to count no more.
        package var provenLife: Duration = .seconds(60)
        /// How long an engine that was started again may take to be registered.
        package var registrationTimeout: Duration = .seconds(60)

        package init() {}

        /// The pause before the next start: none for the first one in a row, then twice as long each time, up to the longest.
        func pause(afterRestarts restarts: Int, hadWork: Bool = false) -> Duration {
            guard restarts > 0 else { return .zero }
            let longest = hadWork ? self.longestPauseAfterWork : self.longestPause
            var pause = self.firstPause
            for _ in 1..<restarts where pause < longest { pause = pause * 2 }
            return min(pause, longest)
        }
    }

    /// How a process ended.
    package struct End: Sendable, Hashable {
        package enum Kind: Sendable, Hashable {
            /// The launcher was told to end the process.
            case stopped
            /// The process ended with code 0, as engines do that were told to end.
            case clean
            /// The process ended by SIGTERM, which asks it to end.
            case terminated
            /// Any other way.
            case died
        }

        package let kind: Kind
        /// The cause as the hub gets it.
        package let cause: EngineEnd.Cause
        /// A text to follow a name: "ended with signal 11 (Segmentation fault)".
        package let text: String
        /// The last lines that the process wrote, oldest first.
        package let lastLines: [String]

        package init(_ kind: Kind, _ text: String, lastLines: [String] = [], cause: EngineEnd.Cause = .unknown) {
            self.kind = kind
            self.cause = cause
            self.text = text
            self.lastLines = lastLines
        }
    }

    /// How the hub lost an engine.
    package struct Departure: Sendable, Equatable {
        package let cause: EngineRegistry.Departure
        /// Whether the engine had requests that it had not answered.
        package let hadWork: Bool

        package init(_ cause: EngineRegistry.Departure, hadWork: Bool) {
            self.cause = cause
            self.hadWork = hadWork
        }

        /// Whether the engine had told the hub that it ends.
        var saidGoodbye: Bool { self.cause.mayStillAnswer }
    }

    package enum Event: Sendable, Equatable {
        /// An engine's process is about to be started for the first time; until `settled`, its end before its registration is a failure to
        /// start, which is not mended by trying again.
        case launched(EngineUUID)
        /// The launch is over: the engine was seen registered.
        case settled(EngineUUID)
        /// The hub has registered an engine; engines that were not launched here are ignored.
        case joined(EngineUUID, EngineID)
        case left(EngineUUID, Departure)
        /// The process has ended.
        case ended(EngineUUID, End)
        /// The process could not be started again, and why.
        case notStarted(EngineUUID, String)
        /// A user wants a new process for this engine, whatever happened to the old one.
        case restartWanted(EngineUUID)
        /// The engine is no longer supervised, because its set is stopped.
        case dropped(EngineUUID)
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// Start the process again, under the same uuid.
        case start(EngineUUID)
        /// End the process.
        case stop(EngineUUID)
        /// Tell the hub that the engine's process has ended, because a connection may outlive the process.
        case tellHub(EngineUUID, End)
        /// The launch has failed: the engine ended before it was registered.
        case failLaunch(EngineUUID, End)
        /// Log how an engine ended, and whether it is started again.
        case report(EngineUUID, EngineID?, End, Outcome)
        /// Tell the task scheduler that no engine is left or coming, and why.
        case noEngineIsComing(String)
        /// Take back `noEngineIsComing`.
        case engineIsComing
        /// Call again with `timerFired` at this time. Replaces the time set before.
        case setTimer(MonotonicTime)
    }

    /// Whether an engine whose process has ended is started again.
    package enum Outcome: Sendable, Hashable, CustomStringConvertible {
        /// The engine was told to end.
        case staysAway
        /// The engine died, and the policy starts no engines again.
        case notRestarted
        case restarts(after: Duration)
        /// The engine died too often.
        case givenUp(deaths: Int)

        package var description: String {
            switch self {
            case .staysAway: "it was told to"
            case .notRestarted: "engines are not started again here"
            case .restarts(after: .zero): "it is started again in its place"
            case .restarts(after: let pause): "it is started again in its place after \(pause)"
            case .givenUp(let deaths): "it died \(deaths) times in a row without having had work, and is not started again"
            }
        }
    }

    private enum State: Equatable {
        /// The process was started at this time. Becomes `present` or `pausing`, `over` after its end.
        case starting(since: MonotonicTime)
        /// The hub has the engine. Becomes `absent` or `ending`.
        case present
        /// The hub has lost the engine, and the end of its process is not known yet. Becomes `present`, `pausing` or `over`.
        case absent(Departure, since: MonotonicTime)
        /// The process has ended, and the hub has not reported the loss yet. Becomes `pausing` or `over`.
        case ending(End, decideBy: MonotonicTime)
        /// The process is started again at this time. Becomes `starting`.
        case pausing(until: MonotonicTime)
        /// The process is not started again unless a user wants it, for this reason. Becomes `starting`.
        case over(String)
    }

    private struct Slot {
        var state: State
        /// The engine's last id at the hub.
        var id: EngineID?
        /// When the process was last started.
        var started: MonotonicTime
        /// Whether the engine has registered since then.
        var hasJoined = false
        /// Whether the launch is still under way.
        var isNew = true
        /// Whether a new process is wanted when this one has ended.
        var restartIsWanted = false
        /// Whether the process was stopped because it did not register in time.
        var wasLate = false
        /// Starts since the engine last lived long, which decide the pause.
        var restarts = 0
        /// Deaths in a row without work.
        var deaths = 0
    }

    /// How long after the end of a process the hub may take to notice the loss.
    private static let hubPatience: Duration = .seconds(5)
    /// How long after its goodbye an engine still counts as coming, in case its process ends in a way that starts it again. An
    /// engine that finishes its tasks first may take for ever.
    private static let farewell: Duration = .seconds(5)

    private let policy: Policy
    /// The engines, by uuid, in the order of their launch.
    private var slots: [EngineUUID: Slot] = [:]
    private var order: [EngineUUID] = []
    /// Whether the task scheduler was told that no engine is coming.
    private var noneIsComing = false
    private var timer = MonotonicTime.distantFuture

    package init(_ policy: Policy = Policy()) { self.policy = policy }

    package mutating func handle(_ event: Event, at now: MonotonicTime) -> [Effect] {
        var effects: [Effect] = []
        switch event {
        case .launched(let uuid):
            self.slots[uuid] = Slot(state: .starting(since: now), started: now)
            self.order.append(uuid)
        case .settled(let uuid): self.slots[uuid]?.isNew = false
        case .joined(let uuid, let id): self.join(uuid, id)
        case .left(let uuid, let departure): self.leave(uuid, departure, at: now, effects: &effects)
        case .ended(let uuid, let end): self.end(uuid, end, at: now, effects: &effects)
        case .notStarted(let uuid, let reason):
            self.decide(uuid, End(.died, reason), nil, at: now, effects: &effects)
        case .restartWanted(let uuid): self.restart(uuid, at: now, effects: &effects)
        case .dropped(let uuid):
            self.slots[uuid] = nil
            self.order.removeAll { $0 == uuid }
        case .timerFired: self.fireTimer(at: now, effects: &effects)
        }
        self.settle(at: now, &effects)
        return effects
    }

    // MARK: State

    /// The supervised engines, in the order of their launch.
    package var uuids: [EngineUUID] { self.order }

    /// The engine that has, or last had, this id at the hub.
    package func uuid(of id: EngineID) -> EngineUUID? { self.order.first { self.slots[$0]?.id == id } }

    /// Whether the hub has ever had an engine of that uuid. Engines of other makes have uuids of their own.
    package func isKnownToHub(_ uuid: EngineUUID) -> Bool { self.slots[uuid]?.id != nil }

    // MARK: Coming and going

    private mutating func join(_ uuid: EngineUUID, _ id: EngineID) {
        guard let slot = self.slots[uuid] else { return }
        self.slots[uuid]?.id = id
        self.slots[uuid]?.hasJoined = true
        switch slot.state {
        case .starting, .absent: self.slots[uuid]?.state = .present
        // The registration crossed with the end of the process; the hub will report the loss.
        case .present, .ending, .pausing, .over: break
        }
    }

    private mutating func leave(_ uuid: EngineUUID, _ departure: Departure, at now: MonotonicTime, effects: inout [Effect]) {
        switch self.slots[uuid]?.state {
        case .present:
            self.slots[uuid]?.state = .absent(departure, since: now)
            if departure.saidGoodbye { self.wake(at: now + Self.farewell, effects: &effects) }
        case .ending(let end, _): self.decide(uuid, end, departure, at: now, effects: &effects)
        case .starting, .absent, .pausing, .over, nil: break
        }
    }

    private mutating func end(_ uuid: EngineUUID, _ end: End, at now: MonotonicTime, effects: inout [Effect]) {
        guard let slot = self.slots[uuid] else { return }
        switch slot.state {
        case .starting where slot.isNew:
            // The launch fails, with the last lines of the engine's log.
            self.slots[uuid]?.state = .over(Self.account(of: slot.id, end))
            effects.append(.failLaunch(uuid, end))
        case .starting:
            self.decide(uuid, end, nil, at: now, effects: &effects)
        case .present:
            let limit = now + Self.hubPatience
            self.slots[uuid]?.state = .ending(end, decideBy: limit)
            effects.append(.tellHub(uuid, end))
            self.wake(at: limit, effects: &effects)
        case .absent(let departure, _): self.decide(uuid, end, departure, at: now, effects: &effects)
        case .ending, .pausing, .over: break
        }
    }

    // MARK: Decisions

    /// - Parameter departure: Nil for an engine that the hub did not have since its last start; engines of other makes, which have uuids
    ///   of their own, are never known to the hub.
    private mutating func decide(
        _ uuid: EngineUUID, _ end: End, _ departure: Departure?, at now: MonotonicTime, effects: inout [Effect]
    ) {
        guard var slot = self.slots[uuid] else { return }
        var end = end
        // The engine's own report of its crash says more than the end of its log, which is a backtrace.
        if case .ended(let told) = departure?.cause, !told.lastLines.isEmpty {
            end = End(end.kind, end.text, lastLines: told.lastLines, cause: end.cause)
        }
        let outcome = self.outcome(of: end, departure, &slot, at: now)
        switch outcome {
        case .restarts(let pause):
            slot.restarts += 1
            slot.state = .pausing(until: now + pause)
        case .staysAway, .notRestarted, .givenUp: slot.state = .over(Self.account(of: slot.id, end) + "; \(outcome)")
        }
        slot.restartIsWanted = false
        slot.wasLate = false
        self.slots[uuid] = slot
        effects.append(.report(uuid, slot.id, end, outcome))
        if case .pausing(let until) = slot.state {
            if until <= now { self.start(uuid, at: now, effects: &effects) } else { self.wake(at: until, effects: &effects) }
        }
    }

    private func outcome(of end: End, _ departure: Departure?, _ slot: inout Slot, at now: MonotonicTime) -> Outcome {
        if slot.restartIsWanted {
            (slot.restarts, slot.deaths) = (0, 0)
            return .restarts(after: .zero)
        }
        switch end.kind {
        case .stopped where !slot.wasLate: return .staysAway
        case .terminated: return .staysAway
        // Apus's engines say goodbye when they are told to end; a function that calls `exit(0)` does not.
        case .clean where departure?.saidGoodbye ?? true: return .staysAway
        case .stopped, .clean, .died: break
        }
        guard self.policy.restarts else { return .notRestarted }
        if slot.hasJoined, now - slot.started >= self.policy.provenLife { (slot.restarts, slot.deaths) = (0, 0) }
        let hadWork = departure?.hadWork ?? false
        slot.deaths = hadWork ? 0 : slot.deaths + 1
        guard slot.deaths <= self.policy.limit else { return .givenUp(deaths: slot.deaths) }
        return .restarts(after: self.policy.pause(afterRestarts: slot.restarts, hadWork: hadWork))
    }

    private mutating func restart(_ uuid: EngineUUID, at now: MonotonicTime, effects: inout [Effect]) {
        guard let slot = self.slots[uuid] else { return }
        switch slot.state {
        case .starting, .present, .absent:
            self.slots[uuid]?.restartIsWanted = true
            effects.append(.stop(uuid))
        case .ending: self.slots[uuid]?.restartIsWanted = true
        case .pausing, .over:
            self.slots[uuid]?.restarts = 0
            self.slots[uuid]?.deaths = 0
            self.start(uuid, at: now, effects: &effects)
        }
    }

    private mutating func start(_ uuid: EngineUUID, at now: MonotonicTime, effects: inout [Effect]) {
        self.slots[uuid]?.state = .starting(since: now)
        self.slots[uuid]?.started = now
        self.slots[uuid]?.hasJoined = false
        effects.append(.start(uuid))
        if self.slots[uuid]?.id != nil { self.wake(at: now + self.policy.registrationTimeout, effects: &effects) }
    }

    /// The end in one line: "engine 2 ended with code 1 ('there is no licence')".
    private static func account(of id: EngineID?, _ end: End) -> String {
        "\(id.map { "engine \($0)" } ?? "an engine") \(end.text)" + (end.lastLines.last.map { " ('\($0)')" } ?? "")
    }

    // MARK: Whether an engine is left or coming

    private mutating func settle(at now: MonotonicTime, _ effects: inout [Effect]) {
        let none = !self.order.isEmpty && self.order.allSatisfy { self.slots[$0].map { Self.isOver($0, at: now) } ?? true }
        guard none != self.noneIsComing else { return }
        self.noneIsComing = none
        effects.append(none ? .noEngineIsComing(self.reasons) : .engineIsComing)
    }

    private static func isOver(_ slot: Slot, at now: MonotonicTime) -> Bool {
        switch slot.state {
        case .over: true
        case .absent(let departure, let since):
            departure.saidGoodbye && !slot.restartIsWanted && since + Self.farewell <= now
        case .starting, .present, .ending, .pausing: false
        }
    }

    /// Why the engines ended, each reason once.
    private var reasons: String {
        var reasons: [String] = []
        for uuid in self.order {
            guard let slot = self.slots[uuid] else { continue }
            let reason =
                if case .over(let reason) = slot.state { reason } else {
                    "\(slot.id.map { "engine \($0)" } ?? "an engine") was told to end"
                }
            if !reasons.contains(reason) { reasons.append(reason) }
        }
        let shown = reasons.prefix(3).joined(separator: "; ")
        return reasons.count > 3 ? "\(shown); and \(reasons.count - 3) more" : shown
    }

    // MARK: Time

    private mutating func fireTimer(at now: MonotonicTime, effects: inout [Effect]) {
        self.timer = .distantFuture
        for uuid in self.order {
            guard let slot = self.slots[uuid] else { continue }
            switch slot.state {
            case .pausing(let until) where until <= now: self.start(uuid, at: now, effects: &effects)
            case .ending(let end, let decideBy) where decideBy <= now:
                self.decide(uuid, end, Departure(.disconnected, hadWork: false), at: now, effects: &effects)
            case .starting(let since) where slot.id != nil && !slot.wasLate && since + self.policy.registrationTimeout <= now:
                self.slots[uuid]?.wasLate = true
                effects.append(.stop(uuid))
            default: break
            }
        }
        for uuid in self.order {
            guard let slot = self.slots[uuid] else { continue }
            switch slot.state {
            case .pausing(let until): self.wake(at: until, effects: &effects)
            case .ending(_, let decideBy): self.wake(at: decideBy, effects: &effects)
            case .absent(let departure, let since) where departure.saidGoodbye && since + Self.farewell > now:
                self.wake(at: since + Self.farewell, effects: &effects)
            case .starting(let since) where slot.id != nil && !slot.wasLate:
                self.wake(at: since + self.policy.registrationTimeout, effects: &effects)
            default: break
            }
        }
    }

    /// Makes sure that the timer fires at this time, or before.
    private mutating func wake(at time: MonotonicTime, effects: inout [Effect]) {
        guard time < self.timer else { return }
        self.timer = time
        effects.append(.setTimer(time))
    }
}
