package import ApusWire

/// What the task scheduler must know of a request; the message itself stays with whoever drives the scheduler.
package struct TaskRequest: Sendable, Equatable {
    package var id: TaskID
    /// Whose task it is: a number that the driver gives each client, for aborting all of one client's tasks.
    package var client: Int
    /// Tasks that must have ended before this one may run.
    package var after: TaskDependency?
    /// Tasks where this one must run: on the engine they ended on.
    package var follow: TaskDependency?
    /// How long the task may wait here before it ends as a time-out; nil or zero for ever. Running does not count.
    package var timeout: Duration?
    /// How long the task may wait while no engine is registered before it ends; zero for ever, nil for as long as the scheduler's
    /// configuration says.
    package var engineTimeout: Duration?
    /// How often the task is given out again when it fails, is aborted by its engine, or its engine dies.
    package var retries: Int
    /// When and after which errors it is; nil: at once and after any.
    package var retryRule: RetryRule?
    /// The engines that may run it; empty for any.
    package var targets: [EngineUUID]
    /// Tasks with a higher one leave the queue first; equal ones first in, first out.
    package var priority: Int
    /// How many tasks it was submitted within, one in the other; 0 from a client outside. Of tasks with the same priority deeper ones
    /// go first, so that what was begun is ended before more is: a recursion then needs room for its depth, not for its breadth.
    package var depth: Int
    /// What the engine must be able to run; nil if that is not known.
    package var need: TaskNeed?
    /// What the engine must own, at least so much of each.
    package var resources: [String: Double]
    /// Tasks whose results are arguments of this one: it waits until each has ended well and its result is at hand.
    package var inputs: [TaskID]

    package init(
        _ id: TaskID, client: Int = 0, after: TaskDependency? = nil, follow: TaskDependency? = nil, timeout: Duration? = nil,
        retries: Int = 0, retryRule: RetryRule? = nil, targets: [EngineUUID] = [], priority: Int = 0, depth: Int = 0,
        need: TaskNeed? = nil,
        resources: [String: Double] = [:], inputs: [TaskID] = [], engineTimeout: Duration? = nil
    ) {
        self.engineTimeout = engineTimeout
        self.id = id
        self.client = client
        self.after = after
        self.follow = follow
        self.timeout = timeout
        self.retries = retries
        self.retryRule = retryRule
        self.targets = targets
        self.priority = priority
        self.depth = depth
        self.need = need
        self.resources = resources
        self.inputs = inputs
    }
}

extension RetryRule {
    func covers(_ error: String?) -> Bool { self.errors.isEmpty || error.map(self.errors.contains) ?? false }

    /// The wait before a retry, of which the first has number 0.
    func pause(before retry: Int) -> Duration {
        var pause = self.pause
        // Where it does not grow, a million retries must not cost a million steps each.
        guard pause > .zero, self.factor > 1 else { return min(pause, self.longest) }
        for _ in 0..<retry {
            guard pause < self.longest else { break }
            pause = pause * self.factor
        }
        return min(pause, self.longest)
    }
}

/// What an engine's reply says about its task, as far as scheduling needs it.
package struct TaskReply: Sendable, Equatable {
    package typealias Status = ReplyMetadata.Status

    package var task: TaskID
    package var engine: EngineUUID
    /// The reply metadata's `status`.
    package var status: Status
    /// The reply metadata's `dependencies_met`: false if the engine could not run the task at all.
    package var dependenciesMet: Bool
    /// The module that the engine does not have, which is why the dependencies are not met; nil if it says nothing of the kind.
    package var lacks: String?
    /// Microseconds that the engine was busy with the task, if it says so.
    package var work: UInt32?
    /// The error's name; read only for tasks whose retries depend on it.
    package var error: String?

    package init(
        to task: TaskID, from engine: EngineUUID, _ status: Status, dependenciesMet: Bool = true, lacks: String? = nil,
        work: UInt32? = nil, error: String? = nil
    ) {
        self.lacks = lacks
        self.task = task
        self.engine = engine
        self.status = status
        self.dependenciesMet = dependenciesMet
        self.work = work
        self.error = error
    }
}

/// Why a task ended without an engine's answer.
package enum TaskFailure: Sendable, Hashable {
    /// What it depends on makes no sense.
    case invalidDependency(InvalidDependency)
    /// No engine can ever run it: what it depends on ended otherwise, or the engines it needs are gone or refuse it.
    case impossibleDependency(ImpossibleDependency)
    /// A task whose result is one of its arguments ended without one.
    case inputFailed(TaskID)
    /// A result that is one of its arguments cannot be had any more, and why.
    case inputMissing(TaskID, String)
    /// It waited here longer than its time-out, and what it waited for in the end.
    case timeout(WaitReason?)
    /// Its engine left while holding it; how often it was tried, this time among them.
    case engineDied(EngineUUID, tries: Int = 1)
    /// Its engine answered it, and the answer was lost with the controller before this one; how often it was tried.
    case answerLost(EngineUUID, tries: Int)
    /// There is no engine, and it is not to wait for one, or no longer.
    case noEngine(NoEngine)
    /// Its client aborted it before it had an engine.
    case aborted
}
