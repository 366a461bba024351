/// Decides when a controller that runs as a process of its own is started again.
///
/// The supervisor is a value: events in, effects out. A controller that ended because somebody wanted it to (a client's shutdown,
/// SIGTERM, its cluster) stays away. Any other end is a death: the next controller is started at once, and after growing pauses when
/// it dies again. When it has died more often in a row than the policy allows, it is given up. A controller that ends before it was
/// ever reachable is a failure to start, which is not mended by trying again.
package struct ControllerSupervisor: Sendable {
    package typealias Policy = EngineSupervisor.Policy
    package typealias End = EngineSupervisor.End

    package enum Event: Sendable, Equatable {
        /// The controller is wanted. The first event of all.
        case wanted
        /// The controller can be reached.
        case listening
        /// The process has ended.
        case ended(End)
        /// The process could not be started, and why.
        case notStarted(String)
        /// The cluster is about to stop: a controller that dies from now on is not started again.
        case stopIsComing
        /// The controller is not wanted any more.
        case stopWanted
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// Start the process. The first controller begins anew; each later one takes up the work of the one before it.
        case start(again: Bool)
        /// End the process, or the start that is under way.
        case stop
        /// Log how the controller ended, and whether it is started again.
        case report(End, Outcome)
        /// The controller has ended for good.
        case over(Ending)
        /// Call again with `timerFired` at this time.
        case setTimer(MonotonicTime)
    }

    /// Whether a controller that died is started again.
    package enum Outcome: Sendable, Hashable, CustomStringConvertible {
        case restarts(after: Duration)
        /// The policy starts no controllers again.
        case notRestarted
        /// The controller died too often.
        case givenUp(deaths: Int)

        package var description: String {
            switch self {
            case .restarts(after: .zero): "it is started again"
            case .restarts(after: let pause): "it is started again after \(pause)"
            case .notRestarted: "it is not started again here"
            case .givenUp(let deaths): "it died \(deaths) times in a row and is not started again"
            }
        }
    }

    /// How the last controller ended.
    package enum Ending: Sendable, Hashable {
        /// Somebody wanted the controller to end.
        case wanted
        /// The first controller ended before it could be reached.
        case failedToStart(End)
        /// The controller died, and is not started again.
        case died(End, Outcome)
    }

    private enum State: Equatable {
        /// Becomes `starting`.
        case new
        /// The process was started. Becomes `serving`, `pausing` or `over`.
        case starting(isFirst: Bool)
        /// The controller can be reached since this time. Becomes `pausing` or `over`.
        case serving(since: MonotonicTime)
        /// The process is started again at this time. Becomes `starting` or `over`.
        case pausing(until: MonotonicTime)
        /// The process was told to end. Becomes `over`.
        case stopping
        /// Terminal.
        case over
    }

    private let policy: Policy
    private var state = State.new
    /// Deaths in a row, none of which came after a long life.
    private var deaths = 0
    /// Whether the cluster is about to stop.
    private var isLast = false

    package init(_ policy: Policy = Policy()) { self.policy = policy }

    package mutating func handle(_ event: Event, at now: MonotonicTime) -> [Effect] {
        switch (event, self.state) {
        case (.wanted, .new): return self.start(again: false)
        case (.listening, .starting):
            self.state = .serving(since: now)
            return []
        case (.ended(let end), .starting(let isFirst)): return self.end(end, afterFirstStart: isFirst, at: now)
        case (.notStarted(let reason), .starting(let isFirst)):
            return self.end(End(.died, reason), afterFirstStart: isFirst, at: now)
        case (.ended(let end), .serving(let since)):
            if now - since >= self.policy.provenLife { self.deaths = 0 }
            return self.end(end, afterFirstStart: false, at: now)
        case (.ended, .stopping), (.notStarted, .stopping): return self.finish(.wanted)
        case (.stopIsComing, .pausing), (.stopWanted, .pausing), (.stopWanted, .new): return self.finish(.wanted)
        case (.stopIsComing, _):
            self.isLast = true
            return []
        case (.stopWanted, .starting), (.stopWanted, .serving):
            self.state = .stopping
            return [.stop]
        case (.timerFired, .pausing(let until)):
            return until <= now ? self.start(again: true) : [.setTimer(until)]
        // News that crossed with an end, or with the wish to stop.
        case (.wanted, _), (.listening, _), (.ended, _), (.notStarted, _), (.stopWanted, _), (.timerFired, _): return []
        }
    }

    private mutating func start(again: Bool) -> [Effect] {
        self.state = .starting(isFirst: !again)
        return [.start(again: again)]
    }

    private mutating func finish(_ ending: Ending) -> [Effect] {
        self.state = .over
        return [.over(ending)]
    }

    private mutating func end(_ end: End, afterFirstStart isFirst: Bool, at now: MonotonicTime) -> [Effect] {
        if isFirst { return self.finish(.failedToStart(end)) }
        switch end.kind {
        case .stopped, .clean, .terminated: return self.finish(.wanted)
        case .died: if self.isLast { return self.finish(.wanted) }
        }
        self.deaths += 1
        let outcome: Outcome =
            if !self.policy.restarts { .notRestarted } else if self.deaths > self.policy.limit {
                .givenUp(deaths: self.deaths)
            } else { .restarts(after: self.policy.pause(afterRestarts: self.deaths - 1)) }
        guard case .restarts(let pause) = outcome else {
            return [.report(end, outcome)] + self.finish(.died(end, outcome))
        }
        if pause == .zero { return [.report(end, outcome)] + self.start(again: true) }
        self.state = .pausing(until: now + pause)
        return [.report(end, outcome), .setTimer(now + pause)]
    }
}
