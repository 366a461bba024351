internal import ApusWire

/// A live task. Small, since there may be a hundred thousand; state that few tasks need is in `TaskDetails`.
struct TaskState: Sendable {
    enum Status: UInt8, Sendable {
        case free
        /// Waits for other tasks, for results, for the end of a pause, or for engines' reports.
        case blocked
        /// Waits for an engine, in the group `place`.
        case ready
        /// Held by the engine in slot `place`.
        case assigned
    }

    var id: TaskID
    var fingerprint: UInt64
    /// The number of the task's submission; 0 in a free slot.
    var sequence: UInt64
    var client: Int
    var priority: Int32
    var retries: Int32
    /// How often the task was tried without success and given out again.
    var failures: Int32 = 0
    var place: Int32 = -1
    /// The neighbours among the engine's tasks; `next` also links free slots. -1 at either end.
    var next: Int32 = -1
    var previous: Int32 = -1
    /// The index of the task's details; -1 if it has none.
    var details: Int32 = -1
    var status: Status
    var need: TaskNeed?
    /// Whether the client has aborted the task, so that it gets no retries.
    var isAborted = false
    /// Whether the task runs at its engine and waits there for other tasks.
    var isWaiting = false
    /// Whether the task has waited for others at its present engine.
    var hasWaited = false
    /// Whether an earlier controller had the task, and may have given it to an engine; until this controller gives it out anew.
    var isRestored = false
    /// How many nested tasks the task was submitted within.
    var depth: UInt16

    init(
        id: TaskID, fingerprint: UInt64, sequence: UInt64, client: Int, priority: Int32, depth: UInt16, retries: Int32,
        need: TaskNeed?
    ) {
        self.need = need
        self.depth = depth
        self.id = id
        self.fingerprint = fingerprint
        self.sequence = sequence
        self.client = client
        self.priority = priority
        self.retries = retries
        self.status = .blocked
    }

    /// A free slot.
    init(next: Int32) {
        self.init(id: TaskID(""), fingerprint: 0, sequence: 0, client: 0, priority: 0, depth: 0, retries: 0, need: nil)
        self.next = next
        self.status = .free
    }
}

/// State of a task that has conditions or a history of engines, or on which others depend.
struct TaskDetails: Sendable {
    /// An engine that had the task and no longer has it.
    struct Attempt: Sendable {
        enum Ending: Sendable {
            /// The task failed there, or the engine left with it or lost its answer.
            case failed
            /// The engine does not meet the task's dependencies, and is asked again after a change there or after a set interval.
            case refused(at: MonotonicTime)
            /// The engine does not have this module.
            case lacks(String, at: MonotonicTime)
            /// The engine refused the task, and may accept it now.
            case mayHaveChanged
            /// The engine did not start the task: it gave the task back, or never received it.
            case recalled

            var isFailure: Bool { if case .failed = self { true } else { false } }
            var isRefusal: Bool { self.lacksModule || { if case .refused = self { true } else { false } }() }
            var lacksModule: Bool { if case .lacks = self { true } else { false } }
        }
        /// The engine's serial number.
        var engine: Int32
        var ending: Ending
    }

    struct Dependent: Sendable {
        enum Kind: Sendable {
            /// The dependent task runs after this task has ended.
            case after
            /// The dependent task runs where this task has run.
            case follow
            /// The dependent task takes this task's result as an argument.
            case input
        }
        var task: TaskHandle
        var kind: Kind
    }

    /// Tasks whose results are arguments and are not there yet.
    struct Inputs: Sendable {
        /// The tasks that have not ended.
        var unfinished: [TaskID] = []
        /// The tasks that have ended or were never submitted here, whose results the driver looks for.
        var sought: [TaskID] = []

        var isEmpty: Bool { self.unfinished.isEmpty && self.sought.isEmpty }
    }

    /// The tasks that must end before this one; nil once the condition is met.
    var after: DependencyState?
    var follow: DependencyState?
    /// Tasks of `after` and `follow` that are looked for in the records. They count as unfinished.
    var sought: Set<TaskID> = []
    var inputs = Inputs()
    /// Why the task fails when an input or the records are the cause; nil for any other cause.
    var doom: TaskFailure?
    /// The time-out in nanoseconds; 0 for none.
    var timeout: UInt64 = 0
    /// When the time-out is over; nil until the task begins to wait, and again once it is retried or given back.
    var deadline: MonotonicTime?
    /// How long the task waits while no engine is registered: zero for ever; nil for as long as the scheduler's configuration
    /// says.
    var engineTimeout: Duration?
    /// The number of the absence of engines in which the task's engine time-out was started.
    var absence: UInt32 = 0
    /// The engine that died last of those that had the task.
    var lastLost: EngineUUID?
    /// Whether the task is listed in the scheduler's `refused`.
    var isListedAsRefused = false
    /// Counts starts and stops of the time-out's clock; odd while it runs.
    var timeoutArming: UInt32 = 0
    var retryRule: RetryRule?
    /// How often the task was retried under its rule, for the length of the next pause.
    var retried = 0
    /// The end of the pause before the next retry; nil if there is none.
    var pausedUntil: MonotonicTime?
    /// Whether the task waits until all engines of the controller before this one have reported what they hold.
    var awaitsReports = false
    /// Serial numbers of the engines that the task may run on, in order; nil for any.
    var targets: [Int32]?
    /// The amounts that the engine must own; empty for none.
    var resources: [String: Double] = [:]
    var attempts: [Attempt] = []
    /// Tasks that depend on this one, in order of submission; some may have ended.
    var dependents: [Dependent] = []
}

/// A task by its slot and sequence number; stale once the slot holds another task.
struct TaskHandle: Sendable, Equatable {
    var slot: Int32
    var sequence: UInt64
}

/// How far a dependency is met.
struct DependencyState: Sendable {
    let condition: TaskDependency
    /// Tasks that have not ended.
    var unfinished = 0
    /// Serial numbers of the engines where tasks ended in an accepted way, one per task; -1 for one that had no engine.
    var endedOn: [Int32] = []
    private var satisfied = 0
    private var violated = false
    /// The task that violated the condition first; for a condition on any of several tasks, the one that violated it last.
    private(set) var culprit: (task: TaskID, succeeded: Bool)?

    init(_ condition: TaskDependency) { self.condition = condition }

    mutating func note(_ outcome: FinishedTasks.Outcome, of task: TaskID) {
        if outcome.succeeded ? self.condition.success : self.condition.failure {
            self.satisfied += 1
            self.endedOn.append(outcome.engine)
        } else {
            if !self.violated || !self.condition.all { self.culprit = (task, outcome.succeeded) }
            self.violated = true
        }
    }

    var isMet: Bool {
        self.condition.all ? self.unfinished == 0 && !self.violated : self.satisfied > 0 || self.condition.tasks.isEmpty
    }

    var isUnreachable: Bool {
        self.condition.all ? self.violated : self.unfinished == 0 && self.satisfied == 0 && !self.condition.tasks.isEmpty
    }
}
