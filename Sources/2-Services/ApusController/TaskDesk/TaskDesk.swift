import ApusCore
import ApusFunctions
import ApusStore
import ApusWire
import NIOCore

/// The load-balanced side of the controller: requests in, replies out, and between them the scheduler (protocol article, "Task
/// scheduler").
final class TaskDesk {
    private let scheme: TaskScheme
    private var scheduler: TaskScheduler
    private var inputs = TaskInputs()
    /// Tasks whose ends the scheduler wants to know, and for which the store has not been asked yet.
    private var soughtOutcomes: [TaskID] = []
    /// Whether clients may be sending requests again that an earlier controller had not recorded, so that a task which is not known
    /// may come yet.
    private var expectsRequests = false
    private var live: [TaskID: LiveTask] = [:]
    /// Tasks that end when their client has been gone for long.
    private var abandoned = AbandonedTasks<ClientLine>()

    /// The scheduler's effects while they are performed; kept so that the memory is used again.
    private var effects: [TaskScheduler.Effect] = []
    /// Events that effects have caused. They are handled after the last effect of the present event.
    private var followUps: [TaskScheduler.Event] = []
    /// The reply whose event is being handled, for the effect `relay`; nil otherwise.
    private var currentReply: Message?
    private var timer: Scheduled<Void>?
    private var needs = TaskNeedReader()
    /// Why tasks failed, for the errors of tasks that depend on them.
    private var failures = RecentFailures()
    /// Resubmitted tasks that have not ended. Their replies are recorded and sent to no client.
    private var resubmitted: Set<TaskID> = []
    /// Whether the unfinished tasks of the controller before this one were taken up, so that a task unknown here was never
    /// accepted.
    private(set) var restores = false
    /// Tasks that engines have reported and that were not known here, each with its engine. Their clients send them again.
    private var unknownHeld: [TaskID: EngineUUID] = [:]
    /// The questions to engines of the controller before this one.
    private let inquiries: EngineInquiries
    /// Numbers for clients, by their identity at the task socket.
    private var clientNumbers: [ByteBuffer: Int] = [:]
    /// Counts up, so that no number is ever given to two clients.
    private var lastClientNumber = 0

    private let engines: EngineRoster
    private let direct: DirectDesk
    private let session: ControllerSession
    private let gate: Gate
    private let loans: BufferLoans
    private let recorder: Recorder
    private let store: any TaskStore
    private let work: LoopTasks
    private let loop: any EventLoop
    private let clients: Outlet
    private let returning: ReturningClientsOutlet
    private let engineSide: Outlet
    private let control: Outlet

    /// A task between its request and its end.
    private struct LiveTask {
        /// The request as it came, behind its client's identity.
        let message: Message
        /// The arguments that are results of other tasks; nil for none.
        let arguments: TaskArguments?
        /// The session of the client if the task was restored, whose connection has to be found; nil for a task submitted here.
        var returning: String?
    }

    /// - Parameters:
    ///   - direct: Knows which direct requests are under way, whose results a task may take, and counts what each engine finished.
    ///   - store: Has the results of tasks that have ended, and a durable one the ends of tasks of earlier controllers.
    init(
        _ options: ControllerOptions, engines: EngineRoster, direct: DirectDesk, session: ControllerSession, gate: Gate,
        loans: BufferLoans, recorder: Recorder, store: any TaskStore, outlets: Outlets, work: LoopTasks, on loop: any EventLoop
    ) {
        self.scheme = TaskScheme(options.scheme)
        self.scheduler = TaskScheduler(self.scheme.configuration(options, hasRecords: store.isDurable))
        self.engines = engines
        self.direct = direct
        self.session = session
        self.gate = gate
        self.loans = loans
        self.recorder = recorder
        self.store = store
        self.work = work
        self.loop = loop
        self.clients = outlets.taskClient
        self.returning = ReturningClientsOutlet(outlets.taskClient, recorder: recorder)
        self.engineSide = outlets.taskEngine
        self.control = outlets.controlEngine
        self.inquiries = EngineInquiries(
            engines: engines, session: session, control: outlets.controlEngine, tasks: outlets.taskEngine, on: loop)
        self.inquiries.onReport = { [unowned self] in self.take($0, from: $1) }
        direct.onQuestion = { [unowned self] in self.inquiries.ask($0, of: $1) }
    }

    // MARK: Requests

    /// Takes a request from a client: `[client, delimiter, …]`.
    func take(_ verified: VerifiedRequest) {
        let (message, header) = (verified.message, verified.header)
        guard let client = message.identities.first else { return self.gate.drop("no client is named", at: .taskClient) }
        self.returning.spoke(client, as: header.session)
        do {
            guard self.scheme != .none else { return self.refuse(message, header, client) }
            let asked = self.scheme == .pure ? .init() : try RequestMetadata.ForScheduler(scanning: message.metadata)
            let request = self.request(in: message, header, asked, from: client)
            guard self.live[header.id] == nil else { throw WireError("task '\(header.id)' is here already") }
            let arguments = request.inputs.isEmpty ? nil : try TaskArguments(of: message)
            self.recorder.note(
                .submitted(header.id, request: message, client: header.session, date: header.date, queue: .balanced, engine: nil))
            self.submit(message, request, arguments, of: header.session)
            self.bind(header.id, to: header.session, asked, by: ClientLine(socket: .taskClient, identity: client))
            // The engine that has the task may have answered it to the controller before this one.
            if self.restores, let holder = self.unknownHeld.removeValue(forKey: header.id), self.live[header.id] != nil {
                self.inquiries.ask(holder, of: [header.id])
            }
        } catch {
            self.gate.drop("\(error)", at: .taskClient)
        }
    }

    /// Reads what a request asks of the scheduler; a pure scheduler ignores all of it.
    private func request(
        in message: Message, _ header: MessageHeader, _ asked: RequestMetadata.ForScheduler, from client: ByteBuffer
    ) -> TaskRequest {
        let number = self.number(of: client)
        if self.scheme == .pure { return TaskRequest(header.id, client: number) }
        return TaskRequest(header.id, client: number, asked, need: self.needs.need(of: message, header.type, asked))
    }

    /// Answers a task with an error, because this controller has no task scheduler. Python's clients send none to such a
    /// controller.
    private func refuse(_ message: Message, _ header: MessageHeader, _ client: ByteBuffer) {
        let error = ErrorContent(
            .engineError, "this controller has no task scheduler; address the engines, or use another --scheme")
        let reply = self.session.message(
            header.type.reply, identities: [client], parent: message.header, metadata: ReplyMetadata.standIn(.error),
            content: error.json)
        self.clients.send(reply.frames)
    }

    /// - Parameter client: The session of the client; nil where nobody waits for the reply.
    private func submit(
        _ message: Message, _ request: TaskRequest, _ arguments: TaskArguments?, of client: String? = nil
    ) {
        let holder = self.unknownHeld[request.id]
        // While engines have yet to report, one of them may have a task that a client sends again, and answer it by the name that the
        // client's connection had at the controller before this one.
        let mayBeHeld = holder != nil || self.scheduler.awaitsReports
        self.admit(message, request, arguments, returning: mayBeHeld ? client : nil) {
            mayBeHeld ? .restored($0, failures: 0, on: holder) : .submitted($0)
        }
    }

    /// Keeps a task from now on, and tells the scheduler of it by this event.
    private func admit(
        _ message: Message, _ request: TaskRequest, _ arguments: TaskArguments?, returning: String?,
        by event: (TaskRequest) -> TaskScheduler.Event
    ) {
        var request = request
        if let arguments {
            self.perform(self.inputs.handle(.submitted(request.id, taking: arguments.tasks)))
            request.inputs = self.inputs.missing(for: request.id)
        }
        self.live[request.id] = LiveTask(message: message, arguments: arguments, returning: returning)
        self.perform(event(request))
    }

    /// Forgets a task that has ended or was refused.
    @discardableResult
    private func forget(_ task: TaskID) -> LiveTask? {
        guard let ended = self.live.removeValue(forKey: task) else { return nil }
        self.loans.letGo(of: task)
        if !self.abandoned.isEmpty { self.perform(self.abandoned.handle(.ended(task))) }
        if ended.arguments != nil { self.perform(self.inputs.handle(.ended(task))) }
        return ended
    }

    private func number(of client: ByteBuffer) -> Int {
        if let number = self.clientNumbers[client] { return number }
        self.lastClientNumber += 1
        let number = self.lastClientNumber
        self.clientNumbers[client] = number
        return number
    }

    /// Forgets a client whose connection has dropped.
    ///
    /// - Returns: The client's number; nil if the client never submitted a task.
    func clientLeft(_ client: ByteBuffer) -> Int? {
        self.returning.disconnected(client)
        return self.clientNumbers.removeValue(forKey: client)
    }

    // MARK: Clients that are gone

    /// A connection of a client; names of connections are unique to their socket.
    struct ClientLine: Hashable {
        let socket: ControllerSocket
        let identity: ByteBuffer
    }

    /// Whether any task ends with its client, so that the desk has to be told whose connections are there.
    var watchesClients: Bool { !self.abandoned.isEmpty }

    /// Notes that a request of this session came by the connection.
    func heard(_ session: String, by connection: ClientLine) {
        self.perform(self.abandoned.handle(.heard(session, by: connection)))
    }

    func disconnected(_ connection: ClientLine) { self.perform(self.abandoned.handle(.disconnected(connection))) }

    private func bind(
        _ task: TaskID, to session: String, _ asked: RequestMetadata.ForScheduler, by connection: ClientLine?
    ) {
        guard let grace = asked.abandonedAfter, self.live[task] != nil else { return }
        self.perform(self.abandoned.handle(.submitted(task, session: session, grace: grace, by: connection)))
    }

    private func perform(_ effects: [AbandonedTasks<ClientLine>.Effect]) {
        for effect in effects {
            switch effect {
            case .wait(let session, let absence, let grace):
                self.loop.assumeIsolated().scheduleTask(in: TimeAmount(grace)) { [weak self] in
                    guard let self else { return }
                    self.perform(self.abandoned.handle(.graceOver(session: session, absence: absence, grace: grace)))
                }
            case .abort(let tasks): self.perform(.aborted(tasks))
            }
        }
    }

    /// Sends a client that has connected the answers that are held for clients of the controller before this one.
    func clientConnected(_ client: ByteBuffer) { self.returning.connected(client) }

    /// Ends the tasks of a client's abort that no engine has. The abort itself goes to the engines.
    func abortWaiting(_ request: VerifiedRequest) {
        guard let content = try? JSONValue(parsing: request.message.content) else { return }
        let ids = ControlRequest.messageIDs(in: content)
        if !ids.isEmpty { self.perform(.aborted(ids)) }
    }

    /// Runs recorded tasks again under new ids. Their replies go to no client, but are in the records.
    func resubmit(_ records: [TaskRecord]) -> HubAnswer {
        let tasks = records.compactMap { Resubmission(of: $0, as: self.session.nextMessageID(), at: .now) }
        var again: [(task: Resubmission, message: Message, request: TaskRequest, arguments: TaskArguments?)] = []
        for task in tasks {
            let message = self.session.signedAgain(
                task.parts, identities: [ControllerSession.identity], buffers: task.buffers)
            var request = TaskRequest(task.id)
            do {
                request.inputs = Array(try ResultPlaces(scanning: message.metadata).results.values)
                again.append((task, message, request, request.inputs.isEmpty ? nil : try TaskArguments(of: message)))
            } catch {
                // The results that a direct request names were not checked when it came.
                return HubAnswer(TaskStoreError(.valueError, "task '\(task.original)' cannot be run again: \(error)"))
            }
        }
        for (task, message, request, arguments) in again {
            for change in task.changes(request: message) { self.recorder.note(change) }
            self.resubmitted.insert(task.id)
            self.submit(message, request, arguments)
        }
        return HubAnswers.resubmitted(tasks)
    }

    // MARK: After a controller that was killed

    /// Expects an engine of the controller before this one to come back. Must be called before tasks are restored.
    func expect(_ engine: EngineUUID, _ abilities: EngineAbilities) { self.perform(.engineExpected(engine, abilities)) }

    /// Begins to take up tasks without an outcome.
    func beginRestoring() {
        self.restores = true
        self.returning.expectClients(on: self.loop)
        self.expectsRequests = true
        self.loop.assumeIsolated().scheduleTask(in: Self.grace) { [weak self] in self?.expectsRequests = false }
    }

    /// How long a task that nobody knows is looked for again after a restart.
    private static let grace = TimeAmount.seconds(5)
    /// The pause between two looks.
    private static let pause = TimeAmount.milliseconds(100)

    /// Takes up a task without an outcome. Tasks come in the order in which they were submitted.
    func restore(_ task: RestoredTask) throws {
        let (message, header) = (task.message, task.header)
        var request = self.request(in: message, header, task.asked, from: message.identities[0])
        request.timeout = task.remaining(of: request.timeout, at: .now)
        let arguments = request.inputs.isEmpty ? nil : try TaskArguments(of: message)
        self.admit(message, request, arguments, returning: header.session) {
            .restored($0, failures: task.failures, on: task.engine)
        }
        self.bind(header.id, to: header.session, task.asked, by: nil)
    }

    /// Takes an engine's report of what it holds, for this desk and the direct one.
    ///
    /// A reported task that is not known here is kept for the client that sends it again.
    func take(_ report: EngineReport, from engine: EngineUUID) {
        self.inquiries.answered(report, by: engine)
        let others = report.has.subtracting(report.asked)
        let unassigned = others.filter { self.scheduler.engine(of: $0) != engine }
        self.perform(.engineReported(engine, report))
        self.directRequestsLost(self.direct.take(report, from: engine))
        // The engine may have answered a task that it was not asked about, and the answer may be lost. Only tasks that this report has
        // assigned to the engine are asked about: each report names all that the engine holds, so questions about the rest would never end.
        let claimed = unassigned.filter { self.scheduler.engine(of: $0) == engine }
        if !claimed.isEmpty { self.inquiries.ask(engine, of: claimed) }
        for task in others where self.live[task] == nil && !self.scheduler.hasEnded(task) { self.unknownHeld[task] = engine }
        self.clients.flush()
    }

    /// Asks an engine of the controller before this one what it holds.
    private func expectReport(of engine: EngineRegistry.Engine) {
        guard self.scheduler.awaitsReport(of: engine.uuid) else { return }
        let asked = Set(self.scheduler.assigned(to: engine.uuid) + self.direct.queue(of: engine.uuid))
        self.inquiries.ask(engine.uuid, of: asked, byProbe: engine.announcement?["reports"]?.bool != true)
    }

    private func takesProbeReply(_ message: Message, from engine: EngineUUID) -> Bool {
        self.inquiries.takesReply(message, from: engine) { asked in
            !asked.isDisjoint(with: self.scheduler.assigned(to: engine) + self.direct.queue(of: engine))
        }
    }

    /// Records the answer to a task that is not known here, and sends the answer to the client whose session it names.
    ///
    /// The controller before this one gave the task out and was killed before the store had the request. The record is made of
    /// the request's header, which every answer repeats. A client that sends the task again is answered from the record
    /// (``refuseAgain(_:)``); a stock client does not send the task again.
    private func takeUnknown(_ answer: Message, to task: TaskID, from engine: EngineUUID) {
        self.unknownHeld[task] = nil
        if let header = try? MessageHeader(scanning: answer.parent) {
            self.recorder.note(
                .submitted(
                    task, request: .lost(header: answer.parent), client: header.session, date: header.date, queue: .balanced,
                    engine: engine))
            self.recorder.note(.completed(task, reply: answer, received: .now))
            self.sendBack(answer, to: header.session)
        }
        self.failures.note(task, answer)
        self.perform(.ended(task, succeeded: answer.content.textMember("status") == "ok", on: engine))
    }

    /// Sends an engine's answer to a client of the controller before this one. The identity that the answer has is that of the
    /// client's connection to that controller.
    private func sendBack(_ answer: Message, to client: String) {
        var frames = answer.frames
        frames.remove(at: 1)
        if self.scheme == .pure { frames.removeFirst() }
        self.returning.answer(frames, to: client)
    }

    // MARK: Replies

    /// Takes a reply from an engine: `[engine, client, delimiter, …]`.
    func takeReply(_ verified: VerifiedMessage) {
        let message = verified.message
        guard let engine = message.identities.first else { return self.gate.drop("no engine is named", at: .taskEngine) }
        guard let id = MessageHeader.messageID(scanning: message.parent) else {
            return self.gate.drop("a reply has no parent", at: .taskEngine)
        }
        let uuid = EngineUUID(String(buffer: engine))
        guard self.engines.isTimely(message, from: uuid) else { return }
        if self.restores, self.takesProbeReply(message, from: uuid) { return }
        // A task that is not live was an earlier controller's. No client is known, but clients can ask the hub for the record.
        if self.live[id] == nil {
            if self.restores, !self.scheduler.hasEnded(id) { return self.takeUnknown(message, to: id, from: uuid) }
            self.recorder.note(.completed(id, reply: message, received: .now))
        }
        do {
            var metadata = try ReplyMetadata.ForController(scanning: message.metadata)
            // If the metadata has no status, the content's is taken, so that the task ends.
            if metadata.status == nil {
                switch message.content.textMember("status") {
                case "ok": metadata.status = .ok
                case "aborted": metadata.status = .aborted
                default: metadata.status = .error
                }
            }
            if self.scheme == .pure { metadata.dependenciesMet = true }
            self.currentReply = message
            let error = metadata.status == .error && self.scheduler.needsErrorName(id) ? message.content.textMember("ename") : nil
            let lacks = metadata.dependenciesMet ? nil : MissingModule.name(in: message)
            self.perform(
                .replied(
                    TaskReply(
                        to: id, from: uuid, metadata.status ?? .error, dependenciesMet: metadata.dependenciesMet,
                        lacks: lacks, work: metadata.work, error: error)))
            self.currentReply = nil
            if metadata.status != .ok { self.noteFailure(of: id) }
        } catch {
            self.gate.drop("\(error)", at: .taskEngine)
        }
    }

    /// Records the failure of a task that waits for its next engine, so that a controller that takes over does not allow the try again. A task
    /// that has its next engine is recorded with it.
    private func noteFailure(of task: TaskID) {
        let failures = self.scheduler.failures(of: task)
        guard failures > 0, self.scheduler.engine(of: task) == nil else { return }
        self.recorder.note(.assigned(task, to: nil, failures: failures))
    }

    /// Takes an engine's notice that a task waits for others, or runs on: `[engine, delimiter, …]`.
    func takeWaitNotice(_ message: Message, from engine: EngineUUID) {
        guard let content = try? JSONValue(parsing: message.content), let id = content["msg_id"]?.string,
            let waits = content["waits"]?.bool
        else { return self.gate.drop("a wait notice names no task", at: .taskEngine) }
        self.perform(waits ? .waits(TaskID(id), on: engine) : .goesOn(TaskID(id), on: engine))
    }

    /// Takes an engine's answer to a recall: `[engine, "apus", delimiter, …]`.
    func takeRecallReply(_ message: Message, from engine: EngineUUID) {
        guard let content = try? JSONValue(parsing: message.content) else { return }
        let given = (content["msg_ids"]?.array ?? []).compactMap { $0.string.map { TaskID($0) } }
        self.perform(.recalled(given, by: engine))
    }

    // MARK: Engines

    func engineJoined(_ engine: EngineRegistry.Engine) {
        self.perform(
            .engineJoined(
                engine.uuid, understandsRecall: engine.understandsRecall, abilities: engine.abilities, resources: engine.resources
            ))
        self.expectReport(of: engine)
    }

    func engineChanged(_ engine: EngineRegistry.Engine) { self.perform(.engineChanged(engine.uuid, engine.abilities)) }

    /// Gives the engine no more tasks; it may still answer the tasks that it has.
    func engineRetired(_ engine: EngineUUID) { self.perform(.engineRetired(engine)) }

    /// Ends the engine's tasks, or gives them to other engines. Clients of ended tasks are answered before this returns.
    ///
    /// - Parameter begun: The tasks that the engine had begun; nil if that is not known.
    func engineLeft(_ engine: EngineUUID, begun: Set<TaskID>? = nil) {
        self.inquiries.drop(engine)
        if !self.unknownHeld.isEmpty { self.unknownHeld = self.unknownHeld.filter { $0.value != engine } }
        self.perform(.engineLeft(engine, begun: begun))
        self.clients.flush()
    }

    /// Has tasks that the engine refused offered to it again, because something other than a task has run there.
    func engineTouched(_ engine: EngineUUID) {
        if self.scheduler.mayHaveRefusals { self.perform(.engineTouched(engine)) }
    }

    /// Has tasks fail while no engine is registered, because none is coming, for this reason; nil has them wait again.
    func expectNoEngine(_ reason: String?) { self.perform(reason.map { .noEngineIsComing($0) } ?? .engineIsComing) }

    /// Closes the engine's connection.
    func cut(_ identity: ByteBuffer) { self.engineSide.disconnect(identity) }

    // MARK: Direct requests

    /// Gives the result of a direct request to the tasks that take it as an argument.
    func directRequestEnded(_ ending: DirectDesk.Ending) {
        self.keepIfWanted(ending.task, ending.reply)
        self.performFollowUps()
        self.engineTouched(ending.engine)
    }

    /// Tells the tasks that take results of these direct requests that there are none, for their engine did not answer.
    func directRequestsLost(_ tasks: [TaskID]) {
        for task in tasks { self.keepIfWanted(task, nil) }
        self.performFollowUps()
    }

    // MARK: What there is

    /// Tasks that the engine has, in the order sent.
    func assigned(to engine: EngineUUID) -> [TaskID] { self.scheduler.assigned(to: engine) }
    /// Tasks that no engine has.
    var waiting: [TaskID] { self.scheduler.waiting }
    var waitingCount: Int { self.scheduler.waitingCount }
    /// Why no engine is coming; nil while one may come.
    var noEngineIsComing: String? { self.scheduler.noEngineIsComing }

    /// Why tasks wait, in words, by their ids; a task that does not wait is left out.
    func reasons(for tasks: some Sequence<TaskID>) -> JSONObject {
        let context = self.reasonContext
        var reasons: JSONObject = [:]
        for task in tasks {
            if let reason = self.scheduler.whyWaiting(task) { reasons[task.text] = .string(reason.text(context)) }
        }
        return reasons
    }

    /// The names of engines and the errors of tasks, for texts of reasons.
    private var reasonContext: ReasonContext {
        ReasonContext(now: self.now, name: { self.engines.name(of: $0) }, error: { self.failures[$0] })
    }

    private var now: MonotonicTime { MonotonicTime(nanoseconds: self.loop.now.uptimeNanoseconds) }

    /// Looks for contradictions in what the desk and its cores keep; slow, for tests.
    func checkInvariants() throws {
        try self.scheduler.checkInvariants(at: self.now)
        try self.inputs.checkInvariants()
        for task in self.live.keys where !self.scheduler.isLive(task) {
            throw BrokenInvariant(description: "the request of task \(task) is kept, which the scheduler does not have")
        }
        if self.currentReply != nil || !self.followUps.isEmpty {
            throw BrokenInvariant(description: "an event at the task desk was not brought to its end")
        }
    }

    // MARK: Effects

    private func perform(_ event: TaskScheduler.Event) {
        self.handle(event)
        if !self.followUps.isEmpty { self.performFollowUps() }
    }

    /// Handles the events that effects have caused, each after all effects of the event before.
    private func performFollowUps() {
        while !self.followUps.isEmpty { self.handle(self.followUps.removeFirst()) }
    }

    private func handle(_ event: TaskScheduler.Event) {
        // The list is taken and put back, so that its memory is used again.
        var effects = self.effects
        self.effects = []
        self.scheduler.handle(event, at: self.now, effects: &effects)
        for effect in effects { self.perform(effect) }
        effects.removeAll(keepingCapacity: true)
        self.effects = effects
    }

    private func perform(_ effect: TaskScheduler.Effect) {
        switch effect {
        case .send(let task, let engine): self.send(task, to: engine, again: false)
        case .sendAgain(let task, let engine): self.send(task, to: engine, again: true)
        case .relay(let task, let engine): self.relayReply(of: task, from: engine)
        case .fail(let task, let failure): self.fail(task, failure)
        case .findResult(let result, let task):
            self.perform(self.inputs.handle(.sought(result, for: task, isUnderWay: self.direct.isQueued(result))))
        case .findOutcome(let task): self.seekOutcome(of: task)
        case .refuse(let task): self.refuseAgain(task)
        case .recall(let tasks, let engine): self.recall(tasks, from: engine)
        case .setTimer(let time):
            self.timer?.cancel()
            let deadline = NIODeadline.uptimeNanoseconds(time.nanoseconds)
            self.timer = self.loop.assumeIsolated().scheduleTask(deadline: deadline) { [weak self] in self?.perform(.timerFired) }
        }
    }

    private func perform(_ effects: [TaskInputs.Effect]) {
        for effect in effects {
            switch effect {
            case .found(let result, let task): self.followUps.append(.resultFound(of: result, for: task))
            case .missing(let result, let task, let why):
                self.followUps.append(.resultMissing(of: result, for: task, why: why))
            case .lookUp(let task):
                self.recorder.flush()
                self.work.start(for: self) { desk in
                    await desk.lookUpResult(of: task)
                }
            }
        }
    }

    /// Looks in the store for a result that other tasks take.
    private nonisolated(nonsending) func lookUpResult(of task: TaskID) async {
        let outcome = await TaskInputs.Outcome(of: task, in: self.store)
        let isUnderWay = self.live[task] != nil || self.direct.isQueued(task)
        if outcome == nil, !isUnderWay, self.expectsRequests {
            return self.again { desk in desk.work.start(for: desk) { await $0.lookUpResult(of: task) } }
        }
        self.perform(self.inputs.handle(.lookedUp(task, outcome ?? .unknown, isUnderWay: isUnderWay)))
        self.performFollowUps()
    }

    private func again(_ look: @escaping (TaskDesk) -> Void) {
        self.loop.assumeIsolated().scheduleTask(in: Self.pause) { [weak self] in self.map(look) }
    }

    /// Has the store asked for the end of a task; one question for all that are sought until it is asked.
    private func seekOutcome(of task: TaskID) {
        if self.soughtOutcomes.isEmpty { self.work.start(for: self) { await $0.findOutcomes() } }
        self.soughtOutcomes.append(task)
    }

    /// Looks in the store for the ends of the tasks that are sought, and tells the scheduler.
    private nonisolated(nonsending) func findOutcomes() async {
        let tasks = self.soughtOutcomes
        self.soughtOutcomes = []
        self.recorder.flush()
        let fields: Set<TaskField> = [.id, .queue, .engine, .resultMetadata, .resultContent]
        // An error's text is read with each record, so there are limits to how many are read at once.
        for start in stride(from: 0, to: tasks.count, by: 1000) {
            let some = tasks[start..<min(start + 1000, tasks.count)]
            do {
                let records = try await self.store.recordsRetrying(of: Array(some), fields: fields)
                // The scheduler knows no direct request, be it under way or at its end.
                let ended = records.filter { $0.queue == .balanced && $0.isFinished }
                for record in ended { self.takeOutcome(in: record) }
                for task in Set(some).subtracting(ended.map(\.id)).sorted() {
                    if self.expectsRequests, self.live[task] == nil, !records.contains(where: { $0.id == task }) {
                        self.again { $0.seekOutcome(of: task) }
                    } else {
                        self.perform(.outcomeMissing(of: task))
                    }
                }
            } catch {
                for task in tasks[start...] { self.perform(.outcomeMissing(of: task, why: error.message)) }
                return
            }
        }
    }

    private func takeOutcome(in record: TaskRecord) {
        guard let reply = record.reply else { return }
        self.failures.note(record.id, reply)
        self.perform(.ended(record.id, succeeded: reply.content.textMember("status") == "ok", on: record.engine))
    }

    /// Keeps the result of a task that has ended, if other tasks take it; nil for a task without an engine's reply.
    private func keepIfWanted(_ task: TaskID, _ reply: Message?) {
        guard self.inputs.isWanted(task) else { return }
        self.perform(self.inputs.handle(.finished(task, TaskInputs.Outcome(reply))))
    }

    // MARK: To engines

    private func send(_ task: TaskID, to engine: EngineUUID, again: Bool) {
        guard let identity = self.engines.identity(of: engine), let live = self.live[task] else { return }
        var message = again ? self.resigned(live) : live.message
        let failures = self.scheduler.failures(of: task)
        if failures > 0 { message = self.telling(attempt: failures + 1, in: message) }
        if let arguments = live.arguments { message = arguments.completing(message, with: self.inputs) }
        message = self.loans.lending(message, to: engine, for: task)
        var frames: [ByteBuffer] = []
        frames.reserveCapacity(message.frames.count + 1)
        frames.append(identity)
        frames.append(contentsOf: message.frames)
        self.engineSide.send(frames)
        self.recorder.note(.assigned(task, to: engine, failures: failures))
    }

    /// The request with white space after its metadata, signed anew, because an engine refuses a signature that it has seen.
    private func resigned(_ task: LiveTask) -> Message {
        let message = task.message
        var parts = message.parts
        // Random, because an earlier controller may have sent the engine such a copy.
        parts.metadata.writeBytes((0..<16).map { _ in Bool.random() ? UInt8(ascii: " ") : UInt8(ascii: "\t") })
        let again = self.session.signedAgain(
            parts, identities: Array(message.identities), buffers: Array(message.buffers))
        if let id = MessageHeader.messageID(scanning: parts.header) {
            self.live[id] = LiveTask(message: again, arguments: task.arguments, returning: task.returning)
        }
        return again
    }

    /// The request with the number of the present try in its metadata, which the engine tells in its error if Python dies of the
    /// task. The white space of ``resigned(_:)`` stays: an earlier controller may have made the same try at the same engine.
    private func telling(attempt: Int, in message: Message) -> Message {
        guard var metadata = (try? JSONValue(parsing: message.metadata))?.object else { return message }
        metadata[ApusMember.attempt] = .int(attempt)
        var parts = message.parts
        let space = message.metadata.readableBytesView.reversed().prefix { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
        parts.metadata = JSONValue.object(metadata).packed
        parts.metadata.writeBytes(space)
        return self.session.signedAgain(
            parts, identities: Array(message.identities), buffers: Array(message.buffers))
    }

    private func recall(_ tasks: [TaskID], from engine: EngineUUID) {
        guard let identity = self.engines.identity(of: engine) else { return }
        let message = self.session.message(
            .recallRequest, identities: [identity, ControllerSession.identity],
            content: ["msg_ids": .array(tasks.map { .string($0.text) })])
        self.control.send(message.frames)
    }

    // MARK: To clients

    private func relayReply(of task: TaskID, from engine: EngineUUID) {
        guard let reply = self.currentReply else { return }
        let returning = self.forget(task)?.returning
        self.failures.note(task, reply)
        self.keepIfWanted(task, reply)
        self.direct.taskFinished(task, on: engine)
        self.recorder.note(.completed(task, reply: reply, received: .now))
        guard self.resubmitted.isEmpty || self.resubmitted.remove(task) == nil else { return }
        if let returning { return self.sendBack(reply, to: returning) }
        var frames = reply.frames
        // A pure scheduler does not name the engine that answered, because ipyparallel's proxy does not.
        if self.scheme == .pure { frames.removeFirst() } else { frames.swapAt(0, 1) }
        self.recorder.answer(frames, by: self.clients)
    }

    /// Answers a task whose id has ended here. The record of the earlier task stays.
    ///
    /// A controller that takes up tasks may have had an engine's answer before the client sent the task again: such a controller
    /// repeats the recorded answer. Other controllers answer with an error.
    private func refuseAgain(_ task: TaskID) {
        guard let request = self.forget(task)?.message else { return }
        self.recorder.takeBackSubmission(of: task)
        let hasEnded = ErrorContent(
            .engineError, "task '\(task)' has ended before; a task that is run again needs a new id")
        guard self.restores else { return self.refuse(request, hasEnded) }
        self.recorder.flush()
        self.work.start(for: self) { desk in
            let fields: Set<TaskField> = [.resultHeader, .resultMetadata, .resultContent, .resultBuffers, .engine]
            do throws(TaskStoreError) {
                let record = try await desk.store.recordsRetrying(of: [task], fields: fields).first
                guard let record, let reply = record.reply else { return desk.refuse(request, hasEnded) }
                desk.repeatAnswer(reply, by: record.engine, to: request)
            } catch { desk.refuse(request, error.content) }
        }
    }

    /// Sends a recorded answer to the client of this request.
    private func repeatAnswer(_ answer: Message, by engine: EngineUUID?, to request: Message) {
        var identities = Array(request.identities)
        if let engine, self.scheme != .pure { identities.append(ByteBuffer(string: engine.text)) }
        self.recorder.answer(self.session.repeating(answer, to: request, identities: identities).frames, by: self.clients)
    }

    private func refuse(_ request: Message, _ error: ErrorContent) {
        let reply = self.session.message(
            .applyReply, identities: Array(request.identities), parent: request.header, metadata: ReplyMetadata.standIn(.error),
            content: error.json)
        self.recorder.answer(reply.frames, by: self.clients)
    }

    private func fail(_ task: TaskID, _ failure: TaskFailure) {
        guard let ended = self.forget(task) else { return }
        let request = ended.message
        self.keepIfWanted(task, nil)
        let failed = FailureReply(
            failure, of: task, request: request, engines: self.engines, failures: self.failures, context: self.reasonContext)
        failed.note(in: &self.failures, of: task)
        let reply = failed.message(to: request, self.session)
        self.recorder.note(.completed(task, reply: reply, received: .now))
        guard self.resubmitted.isEmpty || self.resubmitted.remove(task) == nil else { return }
        if let returning = ended.returning { return self.returning.answer(Array(reply.frames.dropFirst()), to: returning) }
        self.recorder.answer(reply.frames, by: self.clients)
    }
}
