package import ApusWire
internal import HeapModule

/// Chooses the engine that runs each load-balanced task, and keeps account of the task until it has ended.
///
/// The scheduler is a value. An event goes in, the effects it calls for are appended to the caller's list, and nothing
/// else happens: no socket, clock, log or random source is reachable from here. The owner of the scheduler, called the driver
/// below, keeps the request message of every live task and performs the effects, in order, before the next event.
///
/// A task is live from its submission until an effect ends it: `relay`, `fail`. Each accepted task gets exactly one such
/// effect. A live task is blocked (waits for other tasks), ready (waits for an engine), or assigned (an engine has it).
package struct TaskScheduler: Sendable {
    package enum Event: Sendable, Equatable {
        /// The hub registered an engine. The driver must send this event before clients hear of the engine.
        ///
        /// The engine runs one task at a time, so each task has all the engine's resources (`gpu`: 1) to itself.
        case engineJoined(
            EngineUUID, understandsRecall: Bool, abilities: EngineAbilities = .stock, resources: [String: Double] = [:])
        /// The engine's abilities have changed since it joined.
        case engineChanged(EngineUUID, EngineAbilities)
        /// The engine said goodbye but its connection still stands: it gets no more tasks, and has five seconds to
        /// answer those it holds.
        case engineRetired(EngineUUID)
        /// The engine is gone, or is taken for gone. Each task that it held fails now, or is given to another engine.
        ///
        /// Tasks that are not in `begun` are given out again, and this does not count as a try. Nil: the engine may have begun
        /// any of its tasks.
        case engineLeft(EngineUUID, begun: Set<TaskID>? = nil)
        case submitted(TaskRequest)
        case replied(TaskReply)
        /// The engine gives back tasks that it has not started, after a `recall` or of its own accord.
        case recalled([TaskID], by: EngineUUID)
        /// A task that the engine runs waits for other tasks, or for their results. Meanwhile the engine can run more tasks.
        case waits(TaskID, on: EngineUUID)
        /// A task that waited at the engine for other tasks runs on.
        case goesOn(TaskID, on: EngineUUID)
        /// A client aborted these tasks. Blocked and ready ones end as aborted. An assigned one ends by its engine's reply, and
        /// is not tried again.
        case aborted([TaskID])
        /// All tasks of a client are aborted, as by `aborted`.
        case clientAborted(Int)
        /// The driver has the result of the first task, an argument of the second, as `findResult` asked.
        case resultFound(of: TaskID, for: TaskID)
        /// The driver cannot get the result of the first task, an argument of the second, and why.
        case resultMissing(of: TaskID, for: TaskID, why: String)
        /// The program that starts the engines will start no more of them, and why. From now on tasks fail, instead of waiting,
        /// while no engine is registered. An engine that registers all the same is used.
        case noEngineIsComing(String)
        /// An engine may register again, so tasks wait for one. This is the state at first.
        case engineIsComing
        /// Something other than a task has run at the engine, a push for example. The engine may now accept tasks that it
        /// refused.
        case engineTouched(EngineUUID)
        /// An engine of the controller before this one may come back, and then reports what it holds. Comes before `restored`.
        case engineExpected(EngineUUID, EngineAbilities = .stock)
        /// The store has a task without an outcome, with the number of its failed tries and the engine that was given it last, if
        /// any. Tasks come in order of submission.
        ///
        /// The event is also sent for a task that a client submits while engines have yet to report, or that an engine has
        /// reported.
        case restored(TaskRequest, failures: Int, on: EngineUUID?)
        /// The records say how a task ended that this scheduler was never given, or has forgotten.
        case ended(TaskID, succeeded: Bool, on: EngineUUID?)
        /// The records have no outcome of a task that `findOutcome` named, or cannot be read, and then why.
        case outcomeMissing(of: TaskID, why: String? = nil)
        /// An engine has reported what it holds.
        case engineReported(EngineUUID, EngineReport)
        /// The time named by the last `setTimer` has come.
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// Hand the task's stored request to the engine.
        case send(TaskID, to: EngineUUID)
        /// Hand the task's request, signed anew, to an engine that had it before.
        ///
        /// The engine refuses a signature that it has seen, so the message must differ in a byte without meaning.
        case sendAgain(TaskID, to: EngineUUID)
        /// Forward the reply just received to the task's client. The task has ended.
        case relay(TaskID, from: EngineUUID)
        /// Tell the task's client that it failed. The task has ended.
        case fail(TaskID, TaskFailure)
        /// Look for the result of the first task, which is not live. The second task, which is live, takes the result as an
        /// argument.
        case findResult(of: TaskID, for: TaskID)
        /// Look in the records for the end of a task that is not known here and on which live tasks depend, and then send `ended` or
        /// `outcomeMissing`. Only with `Configuration.hasRecords`.
        case findOutcome(of: TaskID)
        /// Drop the request just received, and do not store it: a task with this id is live or has ended.
        case refuse(TaskID)
        /// Ask the engine to give back the listed tasks, as far as it has not started them.
        case recall([TaskID], from: EngineUUID)
        /// Send `timerFired` at this time. Replaces the time of the `setTimer` before.
        case setTimer(MonotonicTime)
    }

    /// How an engine is chosen among those that may run a task (`TaskScheduler.scheme_name` in ipyparallel).
    package enum Scheme: String, Sendable, CaseIterable {
        /// The one with the fewest tasks; of several, the one whose last task was sent longest ago.
        case leastload
        /// The one whose last task was sent longest ago.
        case lru
        /// One at random.
        case plainrandom
        /// Of two at random, the one whose last task was sent longer ago.
        case twobin
        /// Of two at random, drawn the likelier the fewer tasks they have, the one with fewer.
        case weighted
    }

    package struct Configuration: Sendable {
        package var scheme: Scheme
        /// How many unfinished tasks one engine may hold (`TaskScheduler.hwm`); 0 for any number; nil for a number that adapts to
        /// the tasks' run times (``AdaptiveDepth``).
        package var highWaterMark: Int?
        /// How many finished tasks are remembered for tasks that depend on them, 32 bytes each. A task that depends on
        /// a forgotten one has it looked for in the records, or fails with an invalid dependency where there are none.
        package var rememberedTasks: Int
        /// Whether the driver has records of more ended tasks than the scheduler remembers, such as those of an earlier controller.
        package var hasRecords: Bool
        /// How many entries the log behind `story(of:)` keeps; 0 for no log.
        package var storyLength: Int
        package var seed: UInt64
        /// How long a task without an engine time-out of its own waits while no engine is registered; nil or zero for ever.
        package var engineTimeout: Duration?
        /// How long after an engine refused a task for a condition the engine is offered the task again, even if no change is
        /// known; nil or zero: only after a change.
        package var dependencyInterval: Duration?

        package init(
            scheme: Scheme = .leastload, highWaterMark: Int? = nil, rememberedTasks: Int = 1_000_000, storyLength: Int = 0,
            seed: UInt64 = 0, engineTimeout: Duration? = nil, dependencyInterval: Duration? = nil, hasRecords: Bool = false
        ) {
            self.hasRecords = hasRecords
            self.engineTimeout = engineTimeout
            self.dependencyInterval = dependencyInterval
            self.scheme = scheme
            self.highWaterMark = highWaterMark
            self.rememberedTasks = rememberedTasks
            self.storyLength = storyLength
            self.seed = seed
        }
    }

    let scheme: Scheme
    /// The most tasks that any engine may hold; nil if each engine has a limit that adapts.
    let fixedLimit: Int32?
    let engineTimeout: Duration?
    let dependencyInterval: Duration?
    let hasRecords: Bool
    var random: SeededGenerator

    /// Live tasks by slot; free slots are linked from `freeTask`.
    var tasks: [TaskState] = []
    var freeTask: Int32 = -1
    /// State that only some tasks need, at the index `TaskState.details`; free indexes are listed in `freeDetails`.
    var details: [TaskDetails] = []
    var freeDetails: [Int32] = []
    /// Finds the slot of each live task.
    var slots = FingerprintTable()
    var finished: FinishedTasks
    /// Tasks that are looked for in the records, each with the live tasks that depend on it; some of these may have ended since.
    var soughtOutcomes: [TaskID: [TaskHandle]] = [:]
    /// Whether any task was ever given out again.
    var hasRetried = false
    /// Numbers tasks in order of submission, from 1.
    var lastSequence: UInt64 = 0

    /// Engines by slot; free slots are listed in `freeEngines`.
    var engines: [EngineState] = []
    var freeEngines: [Int32] = []
    /// The slot of each engine that has joined and not left.
    var engineSlots: [EngineUUID: Int32] = [:]
    /// The slot of each engine that may be given tasks, by its serial number, which no other engine ever gets.
    var registered: [Int32: Int32] = [:]
    var lastSerial: Int32 = 0
    /// The serial numbers of the engines that left last. An engine that was taken for dead may come back.
    var departed = DepartedEngines()
    /// Why no engine is coming, in the words of the program that starts engines; nil while one may come.
    var noEngineReason: String?
    /// The kinds of engines, at places that engines refer to; more than one place once engines of two kinds were here together.
    var kinds: [EngineKind] = []
    /// The engines that can meet each need that was looked up since an engine last came or went; nil where all engines can.
    var ableByNeed: [TaskNeed: [Int32]?] = [:]
    /// Counts assignments, so that engines can be ordered by their last.
    var lastUse: Int64 = 0

    /// Registered engines without a task.
    var idle = EngineHeap()
    /// Registered engines with tasks and room for more.
    var partly = EngineHeap()

    /// Ready tasks, in one group for each set of engines that may run them; the first group is for any engine and always there.
    /// Between events no group has a waiting task and an engine with room for it.
    var groups: [PlacementGroup] = [PlacementGroup(rule: .any)]
    var freeGroups: [Int32] = []
    /// The groups after the first that have tasks, by rule.
    var groupByRule: [PlacementRule: Int32] = [:]
    /// The groups in `groupByRule` whose rule excludes engines.
    var excludingGroups: [Int32] = []

    /// Blocked and ready tasks.
    package private(set) var waitingCount = 0
    /// Tasks that an engine has.
    package private(set) var assignedCount = 0
    /// Replies dropped because the engine did not have the task: late, doubled or forged ones.
    package private(set) var strayReplies = 0

    /// The time of the last `setTimer`; the distant future when no `timerFired` is due.
    var timer = MonotonicTime.distantFuture
    /// Waiting tasks with a time-out; entries whose clock has been stopped since are skipped.
    var timeouts = Heap<TimeoutEntry>()
    /// Tasks that wait before a retry; entries whose task has ended are skipped.
    var pauses = Heap<PauseEntry>()
    /// Tasks that engines have refused; some may have ended since.
    var refused: [TaskHandle] = []
    /// When refusals of a task are forgotten; entries whose task has ended are skipped.
    var reoffers = Heap<PauseEntry>()
    /// When the engine time-outs of waiting tasks end; empty while an engine is registered. Entries whose task has ended are
    /// skipped.
    var absences = Heap<PauseEntry>()
    /// Numbers the times in which no engine is registered, from 1.
    var absence: UInt32 = 1
    /// Engines of the controller before this one that have not reported what they hold.
    var unreported: Set<EngineUUID> = []
    /// What those of `unreported` could run for the controller before this one.
    var expectedAbilities: [EngineUUID: EngineAbilities] = [:]
    /// Restored tasks that wait until `unreported` is empty; some may have ended since.
    var suspended: [TaskHandle] = []
    /// Retired engines and when each is taken for gone if it has not left, the earliest first.
    var retirements: [(engine: EngineUUID, at: MonotonicTime)] = []
    /// When to look for tasks that wait at an engine behind a long task; the distant future if no such look is due.
    var recallCheck = MonotonicTime.distantFuture
    /// How many engines hold a task behind another and could give it back.
    var deepEngines = 0

    /// Empty between events: tasks whose dependencies can no longer be met, tasks to be placed, engines with new room.
    var doomed: [TaskHandle] = []
    var awakened: [TaskHandle] = []
    var roomy: [Int32] = []
    var candidates: [Int32] = []
    /// Whether the last registered engine has gone within this event.
    var absenceBegins = false

    /// The targets looked up last; forgotten when an engine joins.
    var lastTargets: (uuids: [EngineUUID], serials: [Int32]) = ([], [])

    var log: StoryLog

    package init(_ configuration: Configuration = Configuration()) {
        self.scheme = configuration.scheme
        self.engineTimeout = configuration.engineTimeout
        self.dependencyInterval = configuration.dependencyInterval.flatMap { $0 > .zero ? $0 : nil }
        self.hasRecords = configuration.hasRecords
        self.fixedLimit = configuration.highWaterMark.map { $0 <= 0 ? .max : Int32(clamping: $0) }
        self.random = SeededGenerator(seed: configuration.seed)
        self.finished = FinishedTasks(limit: configuration.rememberedTasks)
        self.log = StoryLog(length: configuration.storyLength)
    }

    /// Handles an event and appends its effects to the list.
    package mutating func handle(_ event: Event, at now: MonotonicTime, effects: inout [Effect]) {
        switch event {
        case .submitted(let request): self.submit(request, at: now, effects: &effects)
        case .replied(let reply): self.take(reply, at: now, effects: &effects)
        case .engineJoined(let engine, let understandsRecall, let abilities, let resources):
            self.join(engine, understandsRecall: understandsRecall, abilities, resources: resources)
        case .engineChanged(let engine, let abilities): self.change(engine, abilities)
        case .engineRetired(let engine): self.retire(engine, at: now, effects: &effects)
        case .engineLeft(let engine, let begun): self.leave(engine, begun: begun, at: now, effects: &effects)
        case .recalled(let tasks, let engine): self.takeBack(tasks, from: engine, at: now)
        case .waits(let task, let engine): self.setWaiting(task, on: engine, true, at: now)
        case .goesOn(let task, let engine): self.setWaiting(task, on: engine, false, at: now)
        case .aborted(let tasks): for task in tasks { self.abort(task, at: now, effects: &effects) }
        case .clientAborted(let client): self.abortAll(of: client, at: now, effects: &effects)
        case .resultFound(let input, let task): self.takeInput(input, for: task, missing: nil)
        case .resultMissing(let input, let task, let reason): self.takeInput(input, for: task, missing: reason)
        case .noEngineIsComing(let reason): self.noEngineReason = reason
        case .engineIsComing: self.noEngineReason = nil
        case .engineTouched(let engine): self.touch(engine)
        case .engineExpected(let engine, let abilities): self.expect(engine, abilities)
        case .restored(let request, let failures, let engine):
            self.restore(request, failures: failures, on: engine, at: now, effects: &effects)
        case .ended(let task, let succeeded, let engine):
            self.remember(task, succeeded: succeeded, on: engine)
            self.takeOutcome(of: task)
        case .outcomeMissing(let task, let why): self.takeOutcome(of: task, missing: why)
        case .engineReported(let engine, let report): self.take(report, from: engine, at: now, effects: &effects)
        case .timerFired: self.fireTimer(at: now, effects: &effects)
        }
        self.settle(at: now, effects: &effects)
    }

    // MARK: Submission

    private mutating func submit(_ request: TaskRequest, at now: MonotonicTime, effects: inout [Effect]) {
        let fingerprint = Self.fingerprint(of: request.id)
        guard self.slot(of: request.id, fingerprint) == nil, self.finished.outcome(of: fingerprint) == nil else {
            effects.append(.refuse(request.id))
            return
        }
        let slot = self.addTask(request, fingerprint)
        self.log.note(request.id, .submitted, at: now)

        let isPlain =
            request.after == nil && request.follow == nil && request.targets.isEmpty && (request.timeout ?? .zero) <= .zero
            && request.resources.isEmpty && request.inputs.isEmpty
            && (request.need == nil || self.kinds.count <= 1 && self.unreported.isEmpty)
        self.rememberAble(for: request.need)
        if isPlain {
            // The common case: no task waits before this one and an engine has room.
            if self.groups[0].live == 0, let engine = self.chooseAny(at: now) {
                self.send(slot, to: engine, at: now, effects: &effects)
            } else {
                self.enqueue(slot, .any)
            }
        } else if let failure = self.addConditions(of: request, to: slot, effects: &effects) {
            self.fail(slot, failure, at: now, effects: &effects)
        } else {
            self.awakened.append(self.handle(slot))
        }
        if self.registered.isEmpty, self.tasks[Int(slot)].sequence == self.lastSequence {
            self.startAbsence(of: slot, at: now, effects: &effects)
        }
    }

    mutating func addTask(_ request: TaskRequest, _ fingerprint: UInt64) -> Int32 {
        self.lastSequence += 1
        let state = TaskState(
            id: request.id, fingerprint: fingerprint, sequence: self.lastSequence, client: request.client,
            priority: Int32(clamping: request.priority), depth: UInt16(clamping: request.depth),
            retries: Int32(clamping: request.retries), need: request.need)
        let slot: Int32
        if self.freeTask >= 0 {
            slot = self.freeTask
            self.freeTask = self.tasks[Int(slot)].next
            self.tasks[Int(slot)] = state
        } else {
            slot = Int32(self.tasks.count)
            self.tasks.append(state)
        }
        self.slots.insert(fingerprint, slot)
        self.waitingCount += 1
        if let rule = request.retryRule { self.details[self.makeDetails(of: slot)].retryRule = rule }
        if let limit = request.engineTimeout { self.details[self.makeDetails(of: slot)].engineTimeout = limit }
        return slot
    }

    // MARK: Replies

    private mutating func take(_ reply: TaskReply, at now: MonotonicTime, effects: inout [Effect]) {
        if !self.unreported.isEmpty { self.claim(reply.task, by: reply.engine, at: now) }
        guard let slot = self.slot(of: reply.task), let engine = self.holder(of: slot),
            self.engines[Int(engine)].uuid == reply.engine
        else {
            self.strayReplies += 1
            return
        }
        let othersRun = self.engines[Int(engine)].load > (self.tasks[Int(slot)].isWaiting ? 0 : 1)
        self.engines[Int(engine)].depth.replied(at: now, nowIdle: !othersRun, work: reply.work)
        self.detach(slot, from: engine)
        self.log.note(reply.task, .answered(reply), at: now)

        let serial = self.engines[Int(engine)].serial
        let givenUp = self.tasks[Int(slot)].isAborted
        if !reply.dependenciesMet {
            if givenUp {
                self.fail(slot, .aborted, at: now, effects: &effects)
            } else {
                self.noteRefusal(slot, by: serial, lacks: reply.lacks, at: now, effects: &effects)
                self.awakened.append(self.handle(slot))
            }
        } else if reply.status != .ok, self.tasks[Int(slot)].retries > 0, !givenUp, self.isWorthARetry(slot, after: reply.error),
            self.canRetry(slot, after: serial)
        {
            self.retry(slot, at: now, effects: &effects)
        } else {
            effects.append(.relay(reply.task, from: reply.engine))
            self.end(slot, FinishedTasks.Outcome(succeeded: reply.status == .ok, engine: serial))
        }
        if self.engines[Int(engine)].isRetired, !self.engines[Int(engine)].isExpected, self.engines[Int(engine)].first < 0 {
            self.leave(reply.engine, at: now, effects: &effects)
        }
    }

    /// Notes that the task failed on an engine, and returns whether any engine may run the task again, now or later.
    private mutating func canRetry(_ slot: Int32, after serial: Int32) -> Bool {
        self.noteAttempt(slot, on: serial, .failed)
        return self.rule(for: slot) != nil
    }

    /// Whether the task's retry rule, if it has one, allows a retry after an error of this name.
    func isWorthARetry(_ slot: Int32, after error: String?) -> Bool {
        let index = self.tasks[Int(slot)].details
        guard index >= 0, let rule = self.details[Int(index)].retryRule else { return true }
        return rule.covers(error)
    }

    /// Whether the task's retries depend on the names of its errors, so that `TaskReply.error` must be filled.
    package func needsErrorName(_ task: TaskID) -> Bool {
        guard let slot = self.slot(of: task), case let index = self.tasks[Int(slot)].details, index >= 0 else { return false }
        return self.details[Int(index)].retryRule.map { !$0.errors.isEmpty } ?? false
    }

    /// How often a live task was tried without success and given out again.
    package func failures(of task: TaskID) -> Int {
        guard self.hasRetried, let slot = self.slot(of: task) else { return 0 }
        return Int(self.tasks[Int(slot)].failures)
    }

    /// Gives a failed task out again, now or after its pause.
    mutating func retry(_ slot: Int32, at now: MonotonicTime, effects: inout [Effect]) {
        self.tasks[Int(slot)].retries -= 1
        self.tasks[Int(slot)].failures += 1
        self.hasRetried = true
        self.awakened.append(self.handle(slot))
        let index = self.makeDetails(of: slot)
        // The task got its engine in time; its time-out begins anew for the next engine.
        self.details[index].deadline = nil
        guard let rule = self.details[index].retryRule else { return }
        let pause = rule.pause(before: self.details[index].retried)
        self.details[index].retried += 1
        guard pause > .zero else { return }
        let end = now + pause
        self.details[index].pausedUntil = end
        self.pauses.insert(PauseEntry(end: end, task: self.handle(slot)))
        self.wake(at: end, effects: &effects)
    }

    /// Takes back tasks that the engine has not started.
    private mutating func takeBack(_ ids: [TaskID], from uuid: EngineUUID, at now: MonotonicTime) {
        guard let engine = self.engineSlots[uuid] else { return }
        if self.engines[Int(engine)].isRecalling {
            self.engines[Int(engine)].isRecalling = false
            if self.engines[Int(engine)].load > 1, !self.engines[Int(engine)].isRetired { self.deepEngines += 1 }
        }
        for id in ids {
            guard let slot = self.slot(of: id), self.holder(of: slot) == engine else { continue }
            self.takeBack(slot, from: engine, at: now)
        }
    }

    /// Takes back a task that its engine has not started.
    mutating func takeBack(_ slot: Int32, from engine: Int32, at now: MonotonicTime) {
        self.detach(slot, from: engine)
        self.log.note(self.tasks[Int(slot)].id, .givenBack(self.engines[Int(engine)].uuid), at: now)
        self.noteAttempt(slot, on: self.engines[Int(engine)].serial, .recalled)
        self.details[self.makeDetails(of: slot)].deadline = nil
        self.awakened.append(self.handle(slot))
    }

    // MARK: Abort

    private mutating func abort(_ id: TaskID, at now: MonotonicTime, effects: inout [Effect]) {
        guard let slot = self.slot(of: id) else { return }
        if self.tasks[Int(slot)].status == .assigned {
            self.tasks[Int(slot)].isAborted = true
        } else {
            self.fail(slot, .aborted, at: now, effects: &effects)
        }
    }

    private mutating func abortAll(of client: Int, at now: MonotonicTime, effects: inout [Effect]) {
        let mine = self.tasks.filter { $0.status != .free && $0.client == client }
        for task in mine.sorted(by: { $0.sequence < $1.sequence }) { self.abort(task.id, at: now, effects: &effects) }
    }

    // MARK: Endings

    /// Ends a task that no engine holds, with a failure instead of a reply.
    mutating func fail(_ slot: Int32, _ failure: TaskFailure, at now: MonotonicTime, effects: inout [Effect]) {
        let id = self.tasks[Int(slot)].id
        self.log.note(id, .failed(failure), at: now)
        effects.append(.fail(id, failure))
        var engine: Int32 = -1
        if case .engineDied = failure, let last = self.lastAttempt(of: slot) { engine = last }
        self.end(slot, FinishedTasks.Outcome(succeeded: false, engine: engine))
    }

    /// Forgets a task that no engine holds, remembers its outcome, and informs the tasks that depend on it.
    mutating func end(_ slot: Int32, _ outcome: FinishedTasks.Outcome) {
        self.leaveQueue(slot)
        self.waitingCount -= 1
        let (id, fingerprint) = (self.tasks[Int(slot)].id, self.tasks[Int(slot)].fingerprint)
        self.slots.remove(fingerprint, slot)
        self.finished.remember(fingerprint, outcome)
        let details = self.tasks[Int(slot)].details
        self.tasks[Int(slot)] = TaskState(next: self.freeTask)
        self.freeTask = slot
        if details >= 0 {
            let dependents = self.details[Int(details)].dependents
            self.details[Int(details)] = TaskDetails()
            self.freeDetails.append(details)
            self.inform(dependents, of: id, outcome)
        }
    }

    // MARK: Between an event and the next

    /// Completes an event: failures spread to dependent tasks, and awakened tasks are given to engines with room.
    private mutating func settle(at now: MonotonicTime, effects: inout [Effect]) {
        if !self.doomed.isEmpty { self.failDoomed(at: now, effects: &effects) }
        if self.absenceBegins { self.startAbsence(at: now, effects: &effects) }
        if self.noEngineReason != nil {
            self.endUnservable(at: now, effects: &effects)
            // The tasks that depended on those just ended were waiting too, and have ended with them.
            self.doomed.removeAll(keepingCapacity: true)
        }
        if !self.awakened.isEmpty { self.queueAwakened(at: now, effects: &effects) }
        if !self.roomy.isEmpty {
            for index in self.roomy.indices { self.fill(self.roomy[index], at: now, effects: &effects) }
            self.roomy.removeAll(keepingCapacity: true)
        }
        if !self.awakened.isEmpty {
            for index in self.awakened.indices {
                let handle = self.awakened[index]
                guard self.isCurrent(handle) else { continue }
                if self.tasks[Int(handle.slot)].status == .ready {
                    self.drain(self.tasks[Int(handle.slot)].place, at: now, effects: &effects)
                }
                if self.tasks[Int(handle.slot)].status != .assigned {
                    self.startClock(of: handle.slot, at: now, effects: &effects)
                    if self.registered.isEmpty { self.startAbsence(of: handle.slot, at: now, effects: &effects) }
                }
            }
            self.awakened.removeAll(keepingCapacity: true)
        }
        if self.deepEngines > 0, self.recallCheck == .distantFuture, !self.idle.isEmpty {
            self.recallCheck = now.advanced(byNanoseconds: Self.recallCheckDelay)
            self.wake(at: self.recallCheck, effects: &effects)
        }
    }

    /// Ends all tasks that have become impossible, and the tasks that become impossible by their failure.
    private mutating func failDoomed(at now: MonotonicTime, effects: inout [Effect]) {
        var index = 0
        while index < self.doomed.count {
            let handle = self.doomed[index]
            index += 1
            if self.isCurrent(handle), self.tasks[Int(handle.slot)].status != .assigned {
                let details = self.tasks[Int(handle.slot)].details
                let doom = details >= 0 ? self.details[Int(details)].doom : nil
                self.fail(
                    handle.slot, doom ?? .impossibleDependency(self.impossibility(of: handle.slot)), at: now, effects: &effects)
            }
        }
        self.doomed.removeAll(keepingCapacity: true)
    }

    /// Puts each awakened task in its queue, the first submitted first, or fails the task if it has become impossible.
    private mutating func queueAwakened(at now: MonotonicTime, effects: inout [Effect]) {
        if self.awakened.count > 1 { self.awakened.sort { $0.sequence < $1.sequence } }
        var index = 0
        while index < self.awakened.count {
            let handle = self.awakened[index]
            index += 1
            guard self.isCurrent(handle), self.tasks[Int(handle.slot)].status != .assigned else { continue }
            self.consider(handle.slot)
            if !self.doomed.isEmpty { self.failDoomed(at: now, effects: &effects) }
        }
    }

    /// The hash of an id. It is different in every process, so that no peer can choose ids that collide.
    static func fingerprint(of id: TaskID) -> UInt64 { UInt64(bitPattern: Int64(id.hashValue)) }

    /// The slot of a live task.
    func slot(of id: TaskID) -> Int32? { self.slot(of: id, Self.fingerprint(of: id)) }

    private func slot(of id: TaskID, _ fingerprint: UInt64) -> Int32? {
        self.slots.first(fingerprint) { self.tasks[Int($0)].fingerprint == fingerprint && self.tasks[Int($0)].id == id }
    }

    func handle(_ slot: Int32) -> TaskHandle { TaskHandle(slot: slot, sequence: self.tasks[Int(slot)].sequence) }

    func isCurrent(_ handle: TaskHandle) -> Bool { self.tasks[Int(handle.slot)].sequence == handle.sequence }

    /// The slot of the engine that has the task; nil if none has.
    func holder(of slot: Int32) -> Int32? {
        self.tasks[Int(slot)].status == .assigned ? self.tasks[Int(slot)].place : nil
    }

    mutating func countAssigned(by change: Int) {
        self.assignedCount += change
        self.waitingCount -= change
    }
}
