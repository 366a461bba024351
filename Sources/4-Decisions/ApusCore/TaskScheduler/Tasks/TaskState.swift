internal import ApusWire

/// A live task. Small, since there may be a hundred thousand; what few tasks need is in `TaskDetails`.
struct TaskState: Sendable {
    enum Status: UInt8, Sendable {
        case free
        /// Waits for other tasks.
        case blocked
        /// Waits for an engine, in the group `place`.
        case ready
        /// Held by the engine in slot `place`.
        case assigned
    }

    var id: TaskID
    var fingerprint: UInt64
    /// The number of its submission; 0 in a free slot.
    var sequence: UInt64
    var client: Int
    var priority: Int32
    var retries: Int32
    /// How often it was tried and given out again.
    var failures: Int32 = 0
    var place: Int32 = -1
    /// Neighbours among its engine's tasks; `next` also links free slots. -1 at either end.
    var next: Int32 = -1
    var previous: Int32 = -1
    /// Where its details are; -1 if it has none.
    var details: Int32 = -1
    var status: Status
    var need: TaskNeed?
    /// Its client wants it to end, so no retries.
    var isAborted = false
    /// Its engine runs it, and it waits for other tasks.
    var isWaiting = false
    /// It has waited so, where it is now.
    var hasWaited = false
    /// An earlier controller gave it to its engine.
    var isRestored = false
    /// How many tasks it was submitted within, one in the other.
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

/// What is kept for a task with conditions, with a history of engines, or that others depend on.
struct TaskDetails: Sendable {
    /// An engine that had the task and has it no more.
    struct Attempt: Sendable {
        enum Ending: Sendable {
            /// It ran there and failed.
            case failed
            /// The engine does not meet its dependencies, and is asked again only when something has changed.
            case refused(at: MonotonicTime)
            /// The engine does not have this module.
            case lacks(String, at: MonotonicTime)
            /// The engine refused it, and something may have changed there since.
            case mayHaveChanged
            /// The engine gave it back unstarted.
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
            /// It runs after this task has ended.
            case after
            /// It runs where this task has run.
            case follow
            /// It takes this task's result for an argument.
            case input
        }
        var task: TaskHandle
        var kind: Kind
    }

    /// Results that are arguments and are not at hand yet.
    struct Inputs: Sendable {
        /// Of tasks that have not ended.
        var unfinished: [TaskID] = []
        /// Of tasks that have, or that were never here: the driver looks for them.
        var sought: [TaskID] = []

        var isEmpty: Bool { self.unfinished.isEmpty && self.sought.isEmpty }
    }

    /// Unmet, or nil.
    var after: DependencyState?
    var follow: DependencyState?
    var inputs = Inputs()
    /// Why it fails once it is looked at again; nil for a dependency like any other.
    var doom: TaskFailure?
    /// In nanoseconds; 0 for none.
    var timeout: UInt64 = 0
    /// When its time-out is over; nil before it has begun to wait, and once an engine has taken it up.
    var deadline: MonotonicTime?
    /// How long it waits while no engine is registered: zero for ever; nil for as long as the scheduler's configuration says.
    var engineTimeout: Duration?
    /// The time without engines in which its clock was started.
    var absence: UInt32 = 0
    /// The engine that died last of those that had it.
    var lastLost: EngineUUID?
    /// Whether it is among those that engines have refused.
    var isListedAsRefused = false
    /// Changes each time the time-out's clock starts or stops.
    var timeoutArming: UInt32 = 0
    var retryRule: RetryRule?
    /// How often it was given out again.
    var retried = 0
    /// Until when it waits before its next retry; nil if it does not.
    var pausedUntil: MonotonicTime?
    /// Whether it waits until the engines of the controller before this one have said what they hold.
    var awaitsReports = false
    /// Serial numbers of the engines it may run on, in order; nil for any.
    var targets: [Int32]?
    /// What the engine must own; empty for nothing.
    var resources: [String: Double] = [:]
    var attempts: [Attempt] = []
    /// In order of submission, ended ones among them.
    var dependents: [Dependent] = []
}

/// A slot, and the task that it must still hold to be the one meant.
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
    /// The task that violated it first; of any of several, the one that ended last.
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
