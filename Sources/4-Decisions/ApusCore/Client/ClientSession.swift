package import ApusWire
internal import DequeModule

/// Decides what each message from the controller means for a client, and how each task that the client has sent ends.
///
/// The session is a value. An event goes in, the effects it calls for are appended to the caller's list, and nothing else
/// happens: no socket, lock, clock or log is reachable from here. The holder of the session keeps the messages and the waiting
/// callers, and performs the effects in order, before the next event.
///
/// A task is pending from its submission until an effect ends it. Callers that wait for the task are told exactly once: that its
/// outcome is there, or why there will be none. Messages name a task by its id, effects by the slot that its submission gave it,
/// so that the session and its holder need only one table of ids.
///
/// | where | what is decided |
/// |---|---|
/// | `ClientSession+Tasks` | which reply and which output belong to which task, and how long the session waits for output |
/// | `ClientSession+Engines` | which engines are registered, and which tasks fail when one leaves |
/// | `ClientSession+Channels` | which requests are looked up or fail when a channel loses the controller |
/// | `ClientSession+Recovery` | which questions the hub is asked about tasks whose answers may be lost |
/// | `ClientSession+Ending` | the timer, and the end of the session |
package struct ClientSession: Sendable {
    /// The small number that a pending task has for itself. Once an effect has ended the task, another task may get its slot.
    package typealias Slot = Int

    /// The outcome of a submission.
    package enum Submission: Sendable, Equatable {
        /// The request is to be sent, and effects will name the task by the slot.
        case accepted(Slot)
        /// The request is not to be sent, and callers that wait for the task are told why.
        case refused(Failure)
    }

    package enum Event: Sendable, Equatable {
        /// No caller waits for the task any more.
        case abandoned(TaskID)
        case replied(Reply)
        /// A reply is larger than this client takes, so that only its first parts came.
        case replyWasTooLarge(Reply, limit: Int)
        /// Output of the task came.
        case outputCame(of: TaskID)
        /// The engine says that it has finished the task, and sent all output.
        case idled(after: TaskID)

        /// The hub answered which engines are registered, with the content of its `connection_reply`; nil: the question will have
        /// no answer.
        case enginesAnswered(EngineDirectory.Question, JSONValue?)
        case engineNews(EngineDirectory.News)
        /// An engine has said whether it stops tasks at their run limits.
        case engineTold(EngineUUID, keepsLimits: Bool)
        /// The tasks have a run limit, and an engine that was to keep it is known not to.
        case limitsAreNotKept(by: EngineID, [TaskID])
        /// The controller says that it shuts down.
        case shutdownAnnounced

        /// A socket has reached the controller, for the first time or again.
        case connected(Channel)
        case disconnected(Channel)

        /// Answers to the questions of a recovery, by its number. The hub has answered who it is.
        case hubIdentified(recovery: Int)
        /// Results came of these tasks; the others that were asked for have none yet.
        case resultsCame([TaskID], recovery: Int)
        /// The question for results failed, for all tasks that were asked for.
        case resultsFailed(ResultProblem, recovery: Int)
        /// The engines that the hub has given the tasks to; a task that it has given to none is missing.
        case enginesFound([TaskID: EngineUUID], recovery: Int)
        /// The hub cannot read its records at the moment, because its disk is full for example. That says nothing about the tasks.
        case recordsUnreadable(recovery: Int)
        /// The hub could not be asked, or its answer could not be understood.
        case recoveryFailed(Int)

        /// The client is being closed: nothing can be submitted any more, and requests that were sent still leave.
        case closing
        /// The sockets are closed.
        case closed
        /// The time last named by `setTimer` has come.
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// The reply that the event brought is the task's outcome.
        case keepReply(of: Slot, Next)
        /// The output that the event brought is the task's.
        case keepOutput(of: Slot, Next)
        /// The result that the event brought, with its output, is the task's outcome: tell the waiting callers, and forget the
        /// task.
        case restore(Slot)
        /// Nothing more will come: tell the waiting callers, if they have not been told, and forget the task. It has an outcome.
        case conclude(Slot)
        /// Tell the waiting callers why there will be no outcome, and forget the task.
        case fail(Slot, Failure)
        /// Forget the task, for which no caller waits.
        case forget(Slot)
        /// Send the task's request again, as it was.
        case sendAgain(Slot)
        /// Wake callers that wait for engines to come or go, or for sockets to connect.
        case announceChange
        /// Log that so many tasks wait for an engine while there is none.
        case warnOfNoEngines(waiting: Int)
        /// Ask the hub which engines are registered; no recovery waits for the answer.
        case refreshEngines
        /// Ask the hub which engines are registered; the answer also says which hub it is from.
        case identifyHub(recovery: Int)
        /// Ask the hub for the tasks' results.
        case fetchResults([TaskID], recovery: Int)
        /// Ask the hub which engines it has given the tasks to.
        case findEngines([TaskID], recovery: Int)
        /// Call again with `timerFired` at this time. Replaces the time named before.
        case setTimer(MonotonicTime)
    }

    /// What becomes of a task after its reply or output was kept.
    package enum Next: Sendable, Equatable {
        /// The callers wait on.
        case wait
        /// The callers are told. The task is kept for output that may follow, which the result does not need.
        case tell
        /// The callers are told, if they have not been told, and the task is forgotten: nothing more is expected.
        case end
    }

    /// The controller's sockets that a client has: five take requests and answer them, two publish.
    package enum Channel: Sendable, Hashable, CaseIterable {
        case query, mux, task, control, broadcast
        case iopub, notification

        package var takesRequests: Bool { self != .iopub && self != .notification }
        /// Whether requests on this channel are tasks, and not requests about tasks.
        package var takesTasks: Bool { self.takesRequests && self != .query && self != .control }
    }

    /// The output that must have come, besides the reply, for the result to be there.
    package enum OutputPolicy: Sendable, Equatable {
        /// As much output as the reply says there is.
        case counted
        /// All output: the engine has said that it is idle again.
        case awaited
        /// None: a coalesced reply stands for many engines, whose output is not counted; or the request is no task and has no
        /// output.
        case ignored
    }

    /// The parts of a request that the session needs.
    package struct Request: Sendable, Equatable {
        package var channel: Channel
        /// The engines that the request was addressed to; empty where a scheduler chooses. Several engines share one coalesced
        /// reply.
        package var targets: [EngineUUID]
        package var output: OutputPolicy

        package init(on channel: Channel, to targets: [EngineUUID] = [], output: OutputPolicy = .counted) {
            self.channel = channel
            self.targets = targets
            self.output = output
        }
    }

    /// The parts that the session needs of a reply that was verified and never came before.
    package struct Reply: Sendable, Equatable {
        /// The request that the reply names as its parent.
        package var request: TaskID
        /// The request that the parent is a copy of, where the request was broadcast.
        package var original: TaskID?
        /// How many messages of output the engine says it sent; nil for engines that do not say.
        package var outputs: Int?
        /// Whether no engine made the reply (dead engine, impossible dependency, aborted), so that no output goes with it.
        package var isSynthetic: Bool
        /// The session of the hub that made the reply; nil for replies of others.
        package var hub: String?

        package init(
            to request: TaskID, original: TaskID? = nil, outputs: Int? = nil, isSynthetic: Bool = false, hub: String? = nil
        ) {
            self.request = request
            self.original = original
            self.outputs = outputs
            self.isSynthetic = isSynthetic
            self.hub = hub
        }
    }

    /// Why a task has no outcome.
    package enum Failure: Sendable, Equatable {
        case ended(Ending)
        /// The controller has been out of reach for as long as patience lasts.
        case controllerOutOfReach
        case engineDied(EngineID)
        case limitNotKept(by: EngineID)
        /// The reply is larger than this client takes.
        case tooLarge(limit: Int)
        /// The connection broke before the question was answered.
        case unanswered
        /// The connection broke before the task was answered, and the hub cannot give its result.
        case lost(Loss)
    }

    /// Why a task is lost with its connection.
    package enum Loss: Sendable, Equatable {
        /// The hub that is there now has no record of the task.
        case unknown(isAnotherHub: Bool)
        /// The task's result could not be fetched, or not be read, or the hub could not read its records for as long as patience lasts.
        case unreadable
        /// The controller that had the task has ended, and had given it to no engine.
        case unassigned
        /// The controller that had the task has ended, and the task's engine has not come to the controller there now.
        case engineStayedAway
        /// The hub could not be asked about the task.
        case unaskable
    }

    /// Why no results came.
    package enum ResultProblem: Sendable, Equatable {
        /// The hub has no record of the one task that was asked for, and never had: it was not accepted.
        case unknown
        /// The hub refused the question; it does so where it does not know one of the tasks.
        case refused
        /// The question failed otherwise, or its answer cannot be read.
        case failed
    }

    /// Why nothing can be sent any more.
    package enum Ending: Sendable, Equatable {
        case closed
        case controllerShutDown
    }

    /// A task that has not ended, or that output may still follow.
    struct Pending: Sendable {
        enum Stage { case waiting, replied, told }

        let id: TaskID
        let request: Request
        /// Numbers tasks in order of submission.
        let sequence: UInt64
        /// Becomes `replied` where output that belongs to the reply must come first, `told` where it need not.
        var stage = Stage.waiting
        var outputsSeen = 0
        /// How many messages of output the reply says there are.
        var outputsExpected: Int?
        var isIdle = false

        /// Whether no more output is expected.
        var hasAllOutput: Bool { self.isIdle || self.outputsExpected.map { self.outputsSeen >= $0 } ?? false }
    }

    /// A channel that has lost the controller.
    struct LostChannel: Sendable {
        /// The number of the last task sent before the loss. Later requests wait in the socket, and go to the next controller.
        let lastSequence: UInt64
        /// The session of the hub before the loss.
        let hub: String?
    }

    /// An engine that has left and whose last replies may still come.
    struct Departure: Sendable {
        let end: MonotonicTime
        let id: EngineID
        let uuid: EngineUUID
        /// The number of the last task sent before the engine left. An engine that comes back under the uuid gets later tasks.
        let lastSequence: UInt64
    }

    /// How long the controller may be out of reach before all tasks fail.
    let patience: Duration
    /// How long output may follow the reply that it belongs to.
    let outputPatience: Duration

    var pending = PendingTasks()
    var lastSequence: UInt64 = 0
    /// Replied tasks that output may follow, and when they are forgotten at the latest, in that order.
    var lateOutput: Deque<(end: MonotonicTime, task: TaskID)> = []

    package internal(set) var directory = EngineDirectory()
    /// Engines that have left, in the order in which the times for their last replies end.
    var departures: Deque<Departure> = []
    /// Whether a warning was given that tasks wait while no engine is registered. Given again after engines have been there.
    var hasWarnedOfNoEngines = false
    /// When a warning of missing engines is due; nil while none is.
    var warningTime: MonotonicTime?
    /// Why no engine is coming, in the controller's words; nil while one may come.
    package internal(set) var noEngineIsComing: String?
    /// The controller's features that ipyparallel's has not.
    package internal(set) var features: Set<ControllerFeature> = []

    /// The session of the hub that answered last; another hub has another.
    package internal(set) var hub: String?
    /// Channels that have reached the controller, so that nothing published from now on is missed.
    package internal(set) var connected: Set<Channel> = []
    var lost: [Channel: LostChannel] = [:]
    /// When all tasks fail because the controller is out of reach; nil while it is within reach.
    var patienceEnd: MonotonicTime?
    /// Recoveries of tasks whose answers may be lost, by numbers that are used once.
    var recoveries: [Int: Recovery] = [:]
    var lastRecovery = 0

    /// Why nothing can be sent any more; nil while it can.
    package internal(set) var ending: Ending?
    /// When the tasks that have not ended fail because of an announced shutdown.
    var shutdownEnd: MonotonicTime?
    /// The time last named by `setTimer`, if it has not come.
    var timer: MonotonicTime?

    package init(patience: Duration, outputPatience: Duration) {
        self.patience = patience
        self.outputPatience = outputPatience
    }

    /// Takes a task that a caller submits. This is a method and not an event, because it needs no time and the caller needs the
    /// slot.
    package mutating func submit(_ task: TaskID, _ request: consuming Request, effects: inout [Effect]) -> Submission {
        if let ending { return .refused(.ended(ending)) }
        self.lastSequence += 1
        let needsAnyEngine = request.channel == .task
        let slot = self.pending.insert(Pending(id: task, request: request, sequence: self.lastSequence))
        if needsAnyEngine { self.warnOfNoEngines(&effects) }
        return .accepted(slot)
    }

    package mutating func handle(_ event: Event, at now: MonotonicTime, effects: inout [Effect]) {
        switch event {
        // The most frequent events first.
        case .replied(let reply): self.take(reply, at: now, &effects)
        case .outputCame(let task): self.takeOutput(of: task, &effects)
        case .idled(let task): self.endOutput(of: task, &effects)
        case .abandoned(let task): if let slot = self.pending.remove(task) { effects.append(.forget(slot)) }
        case .replyWasTooLarge(let reply, let limit):
            if let slot = self.slot(of: reply) { self.fail(slot, .tooLarge(limit: limit), &effects) }

        case .enginesAnswered(let question, let answer): self.take(answer, to: question, at: now, &effects)
        case .engineNews(let news): self.take(news, at: now, &effects)
        case .engineTold(let engine, let keepsLimits): self.directory.note(engine, keepsLimits: keepsLimits)
        case .limitsAreNotKept(let engine, let tasks): for task in tasks { self.fail(task, .limitNotKept(by: engine), &effects) }
        case .shutdownAnnounced: self.awaitShutdown(at: now, &effects)

        case .connected(let channel): self.noteConnected(channel, at: now, &effects)
        case .disconnected(let channel): self.noteLoss(of: channel, at: now, &effects)

        case .hubIdentified(let recovery): self.noteHub(recovery, at: now, &effects)
        case .resultsCame(let tasks, let recovery): self.takeResults(of: tasks, recovery, at: now, &effects)
        case .resultsFailed(let problem, let recovery): self.takeProblem(problem, recovery, at: now, &effects)
        case .enginesFound(let engines, let recovery): self.takeEngines(engines, recovery, at: now, &effects)
        case .recordsUnreadable(let recovery): self.noteUnreadableRecords(recovery, at: now, &effects)
        case .recoveryFailed(let recovery): self.giveUp(recovery, &effects)

        case .closing: self.beginEnd(.closed)
        case .closed: self.close(&effects)
        case .timerFired: self.takeTime(now, &effects)
        }
    }

    // MARK: What is known

    /// The slot of the task of this id; nil when it is not pending.
    package func slot(of task: TaskID) -> Slot? { self.pending.slot(of: task) }

    /// Whether any of the engines owes an answer to a request that was sent to it directly.
    package func isAwaiting(anyOf engines: Set<EngineUUID>) -> Bool {
        self.pending.tasks.contains { $0.stage != .told && !engines.isDisjoint(with: $0.request.targets) }
    }
}

extension MessageType {
    /// Whether a request changes nothing, so that it may be sent again when its answer was lost with the connection. A request
    /// that changes something may have been carried out, so only its sender can decide whether to repeat it.
    package var isQuestion: Bool {
        switch self {
        case .connectionRequest, .queueRequest, .loadRequest, .uptimeRequest, .resultRequest, .historyRequest, .databaseRequest:
            true
        default: false
        }
    }
}
