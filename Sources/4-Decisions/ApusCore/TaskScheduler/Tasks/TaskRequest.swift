package import ApusWire

/// What the task scheduler must know of a request; the message itself stays with the driver.
package struct TaskRequest: Sendable, Equatable {
    package var id: TaskID
    /// The client's number, which the driver gives it, for aborting all tasks of one client.
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
    /// When the task is given out again, and after which errors; nil: at once and after any.
    package var retryRule: RetryRule?
    /// The engines that may run the task; empty for any.
    package var targets: [EngineUUID]
    /// Tasks with a higher priority leave the queue first.
    package var priority: Int
    /// How many nested tasks the task was submitted within; 0 from a client outside. Of tasks with the same priority deeper ones
    /// go first, so that a recursion holds as many unfinished tasks as it is deep, not as it is broad.
    package var depth: Int
    /// What the engine must be able to run; nil if not known.
    package var need: TaskNeed?
    /// The amounts that the engine must own at least.
    package var resources: [String: Double]
    /// Tasks whose results are arguments of this task, which waits until each has succeeded and its result is there.
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
        // If the pause does not grow, a million retries must not cost a million steps each.
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
    /// The missing module because of which the dependencies are not met; nil if the reply names none.
    package var lacks: String?
    /// Microseconds that the engine worked on the task; nil if the reply has none.
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
    /// The task's dependency is invalid.
    case invalidDependency(InvalidDependency)
    /// No engine can ever run the task: a dependency cannot be met, or the engines that the task needs are gone or refuse it.
    case impossibleDependency(ImpossibleDependency)
    /// A task whose result is an argument of the task failed.
    case inputFailed(TaskID)
    /// The result of this task, an argument of the failed one, cannot be found, and why.
    case inputMissing(TaskID, String)
    /// The task waited longer than its time-out, for this reason in the end.
    case timeout(WaitReason?)
    /// The engine left while it had the task; how often the task was tried, this time included.
    case engineDied(EngineUUID, tries: Int = 1)
    /// The task's answer was lost with the controller before this one; how often the task was tried, this time included.
    case answerLost(EngineUUID, tries: Int)
    /// No engine is registered, and the task may not wait for one any longer.
    case noEngine(NoEngine)
    /// The client aborted the task, which no engine had or whose engine did not run it.
    case aborted
}
