package import ApusWire
internal import DequeModule

/// Decides what a client makes of what comes from its controller, and what becomes of each task that it has sent.
///
/// The session is a value. An event goes in, the effects it calls for are appended to the caller's list, and nothing else happens:
/// no socket, lock, clock or log is reachable from here. Whoever holds the session keeps the messages and those who wait,
/// and performs the effects in order, before the next event.
///
/// A task is pending from its submission until an effect ends it. Those who wait for it are told exactly once: that its outcome is
/// there, or why there will be none. Messages name a task by its id, effects by the slot that its submission gave it, so that one
/// table of ids does for the session and its holder.
///
/// | where | what is decided |
/// |---|---|
/// | `ClientSession+Tasks` | which reply and which output belong to which task, and how long output is waited for |
/// | `ClientSession+Engines` | which engines there are, and what ends with them |
/// | `ClientSession+Channels` | what a lost and regained channel means for what was on its way |
/// | `ClientSession+Recovery` | what the hub is asked for tasks whose answers may be lost |
/// | `ClientSession+Ending` | the timer, and the end |
package struct ClientSession: Sendable {
    /// The small number that a pending task has for itself. Once an effect has ended the task, another task may get its slot.
    package typealias Slot = Int

    /// What a submission comes to.
    package enum Submission: Sendable, Equatable {
        /// The request is to be sent, and effects will name the task by the slot.
        case accepted(Slot)
        /// The request is not to be sent, and those who wait for the task are told why.
        case refused(Failure)
    }

    package enum Event: Sendable, Equatable {
        /// Nobody waits for the task any more.
        case abandoned(TaskID)
        case replied(Reply)
        /// A reply is larger than this client takes, so that only its first parts came.
        case replyWasTooLarge(Reply, limit: Int)
        /// Output of the task came.
        case outputCame(of: TaskID)
        /// The engine says that it has finished the task, and sent all output.
        case idled(after: TaskID)

        /// The hub answered who is registered, with the content of its `connection_reply`; nil: the question will have no answer.
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
        /// No results came, of none of the tasks that were asked for.
        case resultsFailed(ResultProblem, recovery: Int)
        /// Which engines the hub has given tasks to, of those tasks that it has given to one.
        case enginesFound([TaskID: EngineUUID], recovery: Int)
        /// The hub could not be asked, or gave no answer that means anything.
        case recoveryFailed(Int)

        /// The client is being closed: nothing can be submitted any more, and what was sent leaves.
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
        /// The result that the event brought, with its output, is the task's outcome: tell those who wait, and forget the task.
        case restore(Slot)
        /// Nothing more is waited for: tell those who wait, if they have not been told, and forget the task. It has an outcome.
        case conclude(Slot)
        /// Tell those who wait why there will be no outcome, and forget the task.
        case fail(Slot, Failure)
        /// Forget the task, for which nobody waits.
        case forget(Slot)
        /// Send the task's request again, as it was.
        case sendAgain(Slot)
        /// Wake those who wait for engines to come or go, or for sockets to connect.
        case announceChange
        /// Log that so many tasks wait for an engine while there is none.
        case warnOfNoEngines(waiting: Int)
        /// Ask the hub who is registered; nobody waits for the answer.
        case refreshEngines
        /// Ask the hub who is registered, and so who it is.
        case identifyHub(recovery: Int)
        /// Ask the hub for the tasks' results.
        case fetchResults([TaskID], recovery: Int)
        /// Ask the hub which engines it has given the tasks to.
        case findEngines([TaskID], recovery: Int)
        /// Call again with `timerFired` at this time. Replaces the time named before.
        case setTimer(MonotonicTime)
    }

    /// What becomes of a task after something of it was kept.
    package enum Next: Sendable, Equatable {
        /// Those who wait for the task wait on.
        case wait
        /// Those who wait are told. The task is kept for output that may follow, which nobody needs for the result.
        case tell
        /// Those who wait are told, if they have not been told, and the task is forgotten: nothing more is expected.
        case end
    }

    /// The controller's sockets that a client has: five take requests and answer them, two publish.
    package enum Channel: Sendable, Hashable, CaseIterable {
        case query, mux, task, control, broadcast
        case iopub, notification

        package var takesRequests: Bool { self != .iopub && self != .notification }
        /// Whether what is sent there is work, and not about it.
        package var takesTasks: Bool { self.takesRequests && self != .query && self != .control }
    }

    /// What must be in, besides the reply, for the result to be there.
    package enum OutputPolicy: Sendable, Equatable {
        /// As much output as the reply says there is.
        case counted
        /// All output: the engine has said that it is idle again.
        case awaited
        /// None: many engines' output belongs to one reply, and nobody counts it; or there is none, for it is no work.
        case ignored
    }

    /// What the session has to know of a request.
    package struct Request: Sendable, Equatable {
        package var channel: Channel
        /// The engines that the request was addressed to; empty where a scheduler chooses. Several share one coalesced reply.
        package var targets: [EngineUUID]
        package var output: OutputPolicy

        package init(on channel: Channel, to targets: [EngineUUID] = [], output: OutputPolicy = .counted) {
            self.channel = channel
            self.targets = targets
            self.output = output
        }
    }

    /// What the session has to know of a reply that was verified and never came before.
    package struct Reply: Sendable, Equatable {
        /// The request that the reply names as its parent.
        package var request: TaskID
        /// The request whose copy the parent is, of a broadcast.
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
        /// The connection broke before the task was, and the hub cannot help.
        case lost(Loss)
    }

    /// Why a task is lost with its connection.
    package enum Loss: Sendable, Equatable {
        /// The hub that is there now has no record of it.
        case unknown(isAnotherHub: Bool)
        /// The task's result could not be fetched, or not be read.
        case unreadable
        /// The controller that had it has ended, and had given it to no engine.
        case unassigned
        /// The controller that had it has ended, and its engine has not come to the one there now.
        case engineStayedAway
        /// What became of it could not be asked.
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

    /// A task that is not forgotten.
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
        /// What was submitted later waits in the socket, and goes to the controller that is there then.
        let lastSequence: UInt64
        /// Who the hub was.
        let hub: String?
    }

    /// An engine that has left, whose last replies get a moment.
    struct Departure: Sendable {
        let end: MonotonicTime
        let id: EngineID
        let uuid: EngineUUID
        /// An engine that comes back under the uuid has what is sent to it later.
        let lastSequence: UInt64
    }

    /// How long the controller may be out of reach before those who wait are told.
    let patience: Duration
    /// How long output may follow the reply that it belongs to.
    let outputPatience: Duration

    var pending = PendingTasks()
    var lastSequence: UInt64 = 0
    /// Replied tasks that output may follow, and when they are forgotten at the latest, in that order.
    var lateOutput: Deque<(end: MonotonicTime, task: TaskID)> = []

    package internal(set) var directory = EngineDirectory()
    /// In the order of their ends.
    var departures: Deque<Departure> = []
    /// Whether it has been said that tasks wait while no engine is registered. Said again after engines have been there.
    var hasWarnedOfNoEngines = false
    /// When that is looked at; nil while it need not be.
    var warningTime: MonotonicTime?
    /// Why no engine is coming, by the words of whoever starts them; nil while one may.
    package internal(set) var noEngineIsComing: String?
    /// What the controller can do beyond ipyparallel's.
    package internal(set) var features: Set<ControllerFeature> = []

    /// The session of the hub that answered last; another hub has another.
    package internal(set) var hub: String?
    /// Channels that have reached the controller, so that nothing published from now on is missed.
    package internal(set) var connected: Set<Channel> = []
    var lost: [Channel: LostChannel] = [:]
    /// When those who wait are told that the controller is out of reach; nil while it is within reach.
    var patienceEnd: MonotonicTime?
    /// What is being asked about tasks whose answers may be lost, by numbers that are given once.
    var recoveries: [Int: Recovery] = [:]
    var lastRecovery = 0

    /// Why nothing can be sent any more; nil while it can.
    package internal(set) var ending: Ending?
    /// When those who still wait are told of a shutdown.
    var shutdownEnd: MonotonicTime?
    /// The time last named by `setTimer`, if it has not come.
    var timer: MonotonicTime?

    package init(patience: Duration, outputPatience: Duration) {
        self.patience = patience
        self.outputPatience = outputPatience
    }

    /// Takes a task that a caller submits. This is no event, for it needs no time, and the caller needs the slot.
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
        // By far the most frequent first.
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
        case .recoveryFailed(let recovery): self.giveUp(recovery, &effects)

        case .closing: self.beginEnd(.closed)
        case .closed: self.close(&effects)
        case .timerFired: self.takeTime(now, &effects)
        }
    }

    // MARK: What is known

    /// The slot of the task of this id; nil when it is not pending.
    package func slot(of task: TaskID) -> Slot? { self.pending.slot(of: task) }

    /// Whether any of the engines owes an answer to something that was sent to it directly.
    package func isAwaiting(anyOf engines: Set<EngineUUID>) -> Bool {
        self.pending.tasks.contains { $0.stage != .told && !engines.isDisjoint(with: $0.request.targets) }
    }
}

extension MessageType {
    /// Whether a request changes nothing, so that it may be asked again when the connection lost its answer. What changes something
    /// may have been done, and only its asker can know whether to ask again.
    package var isQuestion: Bool {
        switch self {
        case .connectionRequest, .queueRequest, .loadRequest, .uptimeRequest, .resultRequest, .historyRequest, .databaseRequest:
            true
        default: false
        }
    }
}
