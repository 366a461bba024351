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
    private var live: [TaskID: LiveTask] = [:]

    /// The scheduler's effects while they are performed; kept so that the storage serves again.
    private var effects: [TaskScheduler.Effect] = []
    /// Events that effects have caused. Effects are performed first; these are handled after the last of them.
    private var followUps: [TaskScheduler.Event] = []
    /// The reply that the scheduler is being told of, which it may want relayed.
    private var currentReply: Message?
    private var timer: Scheduled<Void>?
    private var needs = TaskNeedReader()
    /// Why tasks failed, for those that depend on them.
    private var failures = RecentFailures()
    /// Requests that are being resubmitted: their replies go to nobody.
    private var resubmitted: Set<TaskID> = []
    /// Whether unfinished tasks of the controller before this one were taken up: a task that is not known here was never accepted.
    private(set) var restores = false
    /// Engines of the controller before this one that are asked what they hold, and when they are asked again. A stock engine is
    /// asked by a probe.
    private var reports: [EngineUUID: (timer: Scheduled<Void>, isProbed: Bool)] = [:]
    /// The tasks that a stock engine has answered by the time it answers a probe.
    private var probes: [EngineUUID: Set<TaskID>] = [:]
    /// Tasks that engines say they hold and that the store does not have: their clients send them again.
    private var unknownHeld: [TaskID: EngineUUID] = [:]
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
        /// Those of its arguments that are other tasks' results; nil for none.
        let arguments: TaskArguments?
        /// The session of a client that an earlier controller served, whose connection has to be found; nil for one of this one's.
        var returning: String?
    }

    /// - Parameters:
    ///   - direct: Tells which direct requests are under way, whose results a task may take, and counts what engines have finished.
    ///   - store: Has the results of earlier tasks.
    init(
        _ options: ControllerOptions, engines: EngineRoster, direct: DirectDesk, session: ControllerSession, gate: Gate,
        loans: BufferLoans, recorder: Recorder, store: any TaskStore, outlets: Outlets, work: LoopTasks, on loop: any EventLoop
    ) {
        self.scheme = TaskScheme(options.scheme)
        self.scheduler = TaskScheduler(self.scheme.configuration(options))
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
    }

    // MARK: Requests

    /// A request from a client: `[client, delimiter, …]`.
    func take(_ verified: VerifiedRequest) {
        let (message, header) = (verified.message, verified.header)
        guard let client = message.identities.first else { return self.gate.drop("no client is named", at: .taskClient) }
        self.returning.spoke(client, as: header.session)
        do {
            guard self.scheme != .none else { return self.refuse(message, header, client) }
            let request = try self.request(in: message, header, from: client)
            guard self.live[header.id] == nil else { throw WireError("task '\(header.id)' is here already") }
            let arguments = request.inputs.isEmpty ? nil : try TaskArguments(of: message)
            self.recorder.note(
                .submitted(header.id, request: message, client: header.session, date: header.date, queue: .balanced, engine: nil))
            self.submit(message, request, arguments)
            if let claimed = self.unknownHeld.removeValue(forKey: header.id) { self.askForReport(claimed, of: [header.id]) }
        } catch {
            self.gate.drop("\(error)", at: .taskClient)
        }
    }

    /// What a request says to the scheduler. A pure scheduler honours none of it.
    private func request(in message: Message, _ header: MessageHeader, from client: ByteBuffer) throws -> TaskRequest {
        let number = self.number(of: client)
        if self.scheme == .pure { return TaskRequest(header.id, client: number) }
        let asked = try RequestMetadata.ForScheduler(scanning: message.metadata)
        return TaskRequest(header.id, client: number, asked, need: self.needs.need(of: message, header.type, asked))
    }

    /// Python's clients do not send tasks to a controller without a scheduler; others are told.
    private func refuse(_ message: Message, _ header: MessageHeader, _ client: ByteBuffer) {
        let error = ErrorContent(
            .engineError, "this controller has no task scheduler; address the engines, or use another --scheme")
        let reply = self.session.message(
            header.type.reply, identities: [client], parent: message.header, metadata: ReplyMetadata.standIn(.error),
            content: error.json)
        self.clients.send(reply.frames)
    }

    private func submit(_ message: Message, _ request: TaskRequest, _ arguments: TaskArguments?) {
        var request = request
        if let arguments {
            self.perform(self.inputs.handle(.submitted(request.id, taking: arguments.tasks)))
            request.inputs = self.inputs.missing(for: request.id)
        }
        self.live[request.id] = LiveTask(message: message, arguments: arguments)
        let holder = self.unknownHeld.isEmpty ? nil : self.unknownHeld[request.id]
        // While engines have yet to say what they hold, one of them may have what a client sends again.
        if holder != nil || self.scheduler.awaitsReports {
            self.perform(.restored(request, failures: 0, on: holder))
        } else {
            self.perform(.submitted(request))
        }
    }

    /// Forgets a task that has ended, or was none.
    @discardableResult
    private func forget(_ task: TaskID) -> LiveTask? {
        guard let ended = self.live.removeValue(forKey: task) else { return nil }
        self.loans.letGo(of: task)
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

    /// A client's connection has dropped.
    ///
    /// - Returns: The number that it had; nil if it never submitted anything.
    func clientLeft(_ client: ByteBuffer) -> Int? {
        self.returning.disconnected(client)
        return self.clientNumbers.removeValue(forKey: client)
    }

    /// A client has connected.
    func clientConnected(_ client: ByteBuffer) { self.returning.connected(client) }

    /// A client's abort goes to the engines; tasks that no engine has yet can only be stopped here.
    func abortWaiting(_ request: VerifiedRequest) {
        guard let content = try? JSONValue(parsing: request.message.content) else { return }
        let ids = ControlRequest.messageIDs(in: content)
        if !ids.isEmpty { self.perform(.aborted(ids)) }
    }

    /// Runs recorded tasks again under new ids. Nobody waits for their replies: whoever wants them asks for the records.
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
                // Of a request to an engine, what it says of results was not read when it came.
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

    /// An engine of the controller before this one may come back. Told before tasks are restored.
    func expect(_ engine: EngineUUID) { self.perform(.engineExpected(engine)) }

    /// Takes up the tasks that have no outcome, in the order in which they were submitted.
    ///
    /// - Parameter ended: Tasks that have one, on which these depend.
    func restore(_ records: [TaskRecord], ended: [TaskRecord]) {
        self.restores = true
        if !records.isEmpty { self.returning.expectClients(on: self.loop) }
        for record in ended {
            let succeeded = record.reply?.content.textMember("status") == "ok"
            self.perform(.ended(record.id, succeeded: succeeded, on: record.engine))
        }
        for record in records {
            do { try self.restore(try RestoredTask(record, signing: self.session)) } catch {
                let error = ErrorContent(.engineError, "task '\(record.id)' cannot be taken up again: \(error)")
                self.recorder.note(.lost(record.id, on: record.assignedEngine, error: error, at: .now))
            }
        }
    }

    private func restore(_ task: RestoredTask) throws {
        let (message, header) = (task.message, task.header)
        var request = try self.request(in: message, header, from: message.identities[0])
        request.timeout = task.remaining(of: request.timeout, at: .now)
        let arguments = request.inputs.isEmpty ? nil : try TaskArguments(of: message)
        if let arguments {
            self.perform(self.inputs.handle(.submitted(request.id, taking: arguments.tasks)))
            request.inputs = self.inputs.missing(for: request.id)
        }
        self.live[request.id] = LiveTask(message: message, arguments: arguments, returning: header.session)
        self.perform(.restored(request, failures: task.failures, on: task.engine))
    }

    /// The engine has said what it holds.
    func take(_ report: EngineReport, from engine: EngineUUID) {
        self.reports[engine]?.timer.cancel()
        self.reports[engine] = nil
        self.perform(.engineReported(engine, report))
        let others = report.has.subtracting(report.asked)
        // What it was not asked about it may have answered, and the answer may be lost.
        let claimed = others.filter { self.scheduler.engine(of: $0) == engine }
        if !claimed.isEmpty { self.askForReport(engine, of: claimed) }
        for task in others where self.live[task] == nil { self.unknownHeld[task] = engine }
        self.clients.flush()
    }

    /// Asks an engine of the controller before this one what it holds, until it says so or is gone.
    private func expectReport(of engine: EngineRegistry.Engine) {
        guard self.scheduler.awaitsReport(of: engine.uuid) else { return }
        let asked = Set(self.scheduler.assigned(to: engine.uuid) + self.direct.queue(of: engine.uuid))
        if engine.announcement?["reports"]?.bool == true {
            self.askForReport(engine.uuid, of: asked)
        } else {
            self.probe(engine.uuid)
        }
        self.awaitReport(of: engine.uuid, asked, rounds: Self.reportRounds)
    }

    /// How often, once in ``reportPause``, an engine is asked before it counts as one that has nothing.
    private static let reportRounds = 50
    private static let reportPause = TimeAmount.milliseconds(200)

    private func awaitReport(of engine: EngineUUID, _ asked: Set<TaskID>, rounds: Int) {
        let timer = self.loop.assumeIsolated().scheduleTask(in: Self.reportPause) { [weak self] in
            guard let self, let awaited = self.reports[engine] else { return }
            guard self.scheduler.awaitsReport(of: engine) else { return self.reports[engine] = nil }
            if awaited.isProbed {
                // A stock engine answers in order: it may run a task for days before it comes to the probe.
                self.awaitReport(of: engine, asked, rounds: rounds)
            } else if rounds > 1 {
                self.askForReport(engine, of: asked)
                self.awaitReport(of: engine, asked, rounds: rounds - 1)
            } else {
                self.take(EngineReport(asked: asked, has: [], lost: asked), from: engine)
            }
        }
        let isProbed = self.probes[engine] != nil
        self.reports[engine] = (timer, isProbed)
    }

    private func askForReport(_ engine: EngineUUID, of tasks: Set<TaskID>) {
        guard let identity = self.engines.identity(of: engine) else { return }
        let message = self.session.message(
            .reportRequest, identities: [identity, ControllerSession.identity],
            content: ["msg_ids": .array(tasks.sorted().map { .string($0.text) })])
        self.control.send(message.frames)
        self.control.flush()
    }

    /// Asks a stock engine something that it answers after all that it was given before: what has no answer by then will have none.
    private func probe(_ engine: EngineUUID) {
        guard let identity = self.engines.identity(of: engine) else { return }
        self.probes[engine] = Set(self.scheduler.assigned(to: engine))
        let message = self.session.message(
            .kernelInfoRequest, identities: [identity, ControllerSession.identity], content: [:])
        self.engineSide.send(message.frames)
        self.engineSide.flush()
    }

    /// Whether the reply answers a probe of ours.
    private func takesProbeReply(_ message: Message, from engine: EngineUUID) -> Bool {
        guard message.identities.count > 1, message.identities[1] == ControllerSession.identity,
            let asked = self.probes.removeValue(forKey: engine)
        else { return false }
        self.take(EngineReport(asked: asked, has: [], lost: asked), from: engine)
        return true
    }

    // MARK: Replies

    /// A reply from an engine: `[engine, client, delimiter, …]`.
    func takeReply(_ verified: VerifiedMessage) {
        let message = verified.message
        guard let engine = message.identities.first else { return self.gate.drop("no engine is named", at: .taskEngine) }
        guard let id = MessageHeader.messageID(scanning: message.parent) else {
            return self.gate.drop("a reply has no parent", at: .taskEngine)
        }
        guard self.engines.isTimely(message, from: EngineUUID(String(buffer: engine))) else { return }
        if !self.probes.isEmpty, self.takesProbeReply(message, from: EngineUUID(String(buffer: engine))) { return }
        // A task of an earlier controller's: nobody is there to answer, but its record is, for those who ask the hub.
        if self.live[id] == nil { self.recorder.note(.completed(id, reply: message, received: .now)) }
        do {
            var metadata = try ReplyMetadata.ForController(scanning: message.metadata)
            // Metadata without a status would leave the task without an end; the content has one too.
            if metadata.status == nil {
                switch message.content.textMember("status") {
                case "ok": metadata.status = .ok
                case "aborted": metadata.status = .aborted
                default: metadata.status = .error
                }
            }
            if self.scheme == .pure { metadata.dependenciesMet = true }
            let uuid = EngineUUID(String(buffer: engine))
            self.currentReply = message
            let error = metadata.status == .error && self.scheduler.needsErrorName(id) ? message.content.textMember("ename") : nil
            let lacks = metadata.dependenciesMet ? nil : MissingModule.name(in: message)
            self.perform(
                .replied(
                    TaskReply(
                        to: id, from: uuid, metadata.status ?? .error, dependenciesMet: metadata.dependenciesMet,
                        lacks: lacks, work: metadata.work, error: error)))
            self.currentReply = nil
        } catch {
            self.gate.drop("\(error)", at: .taskEngine)
        }
    }

    /// An engine says that a task waits for others, or goes on: `[engine, delimiter, …]`.
    func takeWaitNotice(_ message: Message, from engine: EngineUUID) {
        guard let content = try? JSONValue(parsing: message.content), let id = content["msg_id"]?.string,
            let waits = content["waits"]?.bool
        else { return self.gate.drop("a wait notice names no task", at: .taskEngine) }
        self.perform(waits ? .waits(TaskID(id), on: engine) : .goesOn(TaskID(id), on: engine))
    }

    /// An engine's answer to a recall: `[engine, "apus", delimiter, …]`.
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

    /// The engine gets no more tasks, and may answer those it has.
    func engineRetired(_ engine: EngineUUID) { self.perform(.engineRetired(engine)) }

    /// The engine's tasks end, or are given to others; those that have ended are told of before this returns.
    ///
    /// - Parameter begun: Which of them the engine had begun; nil: any may be.
    func engineLeft(_ engine: EngineUUID, begun: Set<TaskID>? = nil) {
        self.reports.removeValue(forKey: engine)?.timer.cancel()
        self.probes[engine] = nil
        if !self.unknownHeld.isEmpty { self.unknownHeld = self.unknownHeld.filter { $0.value != engine } }
        self.perform(.engineLeft(engine, begun: begun))
        self.clients.flush()
    }

    /// Something other than a task has run on the engine; conditions that did not hold there may hold now.
    func engineTouched(_ engine: EngineUUID) {
        if self.scheduler.mayHaveRefusals { self.perform(.engineTouched(engine)) }
    }

    /// Has tasks fail where no engine is registered, for none is coming, and why; nil: has them wait again.
    func expectNoEngine(_ reason: String?) { self.perform(reason.map { .noEngineIsComing($0) } ?? .engineIsComing) }

    /// Closes the engine's connection.
    func cut(_ identity: ByteBuffer) { self.engineSide.disconnect(identity) }

    // MARK: Direct requests

    /// A direct request has been answered by its engine: tasks may want its result.
    func directRequestEnded(_ ending: DirectDesk.Ending) {
        self.keepIfWanted(ending.task, ending.reply)
        self.performFollowUps()
        self.engineTouched(ending.engine)
    }

    /// Direct requests have ended that their engine did not answer.
    func directRequestsLost(_ tasks: [TaskID]) {
        for task in tasks { self.keepIfWanted(task, nil) }
        self.performFollowUps()
    }

    // MARK: What there is

    /// The scheduler's account of tasks, to be asked.
    func assigned(to engine: EngineUUID) -> [TaskID] { self.scheduler.assigned(to: engine) }
    /// Tasks that no engine has.
    var waiting: [TaskID] { self.scheduler.waiting }
    var waitingCount: Int { self.scheduler.waitingCount }
    /// Why no engine will come; nil while one may.
    var noEngineIsComing: String? { self.scheduler.noEngineIsComing }

    /// Why tasks wait, in words, by their ids; of those asked for that do.
    func reasons(for tasks: some Sequence<TaskID>) -> JSONObject {
        let context = self.reasonContext
        var reasons: JSONObject = [:]
        for task in tasks {
            if let reason = self.scheduler.whyWaiting(task) { reasons[task.text] = .string(reason.text(context)) }
        }
        return reasons
    }

    /// What engines are called in reasons, and why tasks failed.
    private var reasonContext: ReasonContext {
        ReasonContext(now: self.now, name: { self.engines.name(of: $0) }, error: { self.failures[$0] })
    }

    private var now: MonotonicTime { MonotonicTime(nanoseconds: self.loop.now.uptimeNanoseconds) }

    // MARK: Effects

    private func perform(_ event: TaskScheduler.Event) {
        self.handle(event)
        if !self.followUps.isEmpty { self.performFollowUps() }
    }

    /// Takes up the events that effects brought about, once all effects of the event before have been performed.
    private func performFollowUps() {
        while !self.followUps.isEmpty { self.handle(self.followUps.removeFirst()) }
    }

    private func handle(_ event: TaskScheduler.Event) {
        // The list is taken and given back, so that its storage serves again.
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
                    let outcome = await TaskInputs.Outcome(of: task, in: desk.store)
                    desk.perform(
                        desk.inputs.handle(
                            .lookedUp(task, outcome, isUnderWay: desk.live[task] != nil || desk.direct.isQueued(task))))
                    desk.performFollowUps()
                }
            }
        }
    }

    /// A task has ended, with this reply if an engine made one; tasks may want its result.
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

    /// The request with a space more in its metadata, which means nothing, and so another signature: an engine that has had a
    /// message does not take it twice.
    private func resigned(_ task: LiveTask) -> Message {
        let message = task.message
        var parts = message.parts
        parts.metadata.writeStaticString(" ")
        let again = self.session.signedAgain(
            parts, identities: Array(message.identities), buffers: Array(message.buffers))
        if let id = MessageHeader.messageID(scanning: parts.header) {
            self.live[id] = LiveTask(message: again, arguments: task.arguments, returning: task.returning)
        }
        return again
    }

    /// The request with how often its task has been tried, for what its engine may have to say of its end.
    private func telling(attempt: Int, in message: Message) -> Message {
        guard var metadata = (try? JSONValue(parsing: message.metadata))?.object else { return message }
        metadata[ApusMember.attempt] = .int(attempt)
        var parts = message.parts
        parts.metadata = JSONValue.object(metadata).packed
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
        self.noteFailure(of: task, reply)
        self.keepIfWanted(task, reply)
        self.direct.taskFinished(task, on: engine)
        self.recorder.note(.completed(task, reply: reply, received: .now))
        guard self.resubmitted.isEmpty || self.resubmitted.remove(task) == nil else { return }
        var frames = reply.frames
        if let returning {
            // The identity that the engine names is of the client's connection to the controller before this one.
            frames.remove(at: 1)
            if self.scheme == .pure { frames.removeFirst() }
            return self.returning.answer(frames, to: returning)
        }
        // A pure scheduler does not say who answered, as the proxy that it stands for cannot.
        if self.scheme == .pure { frames.removeFirst() } else { frames.swapAt(0, 1) }
        self.recorder.answer(frames, by: self.clients)
    }

    /// Keeps why a task failed on an engine, for those that depend on it.
    private func noteFailure(of task: TaskID, _ reply: Message) {
        switch reply.content.textMember("status") {
        case "ok": return
        case "aborted": self.failures.note(task, "it was aborted")
        default:
            let content = (try? JSONValue(parsing: reply.content)) ?? .null
            self.failures.note(task, ErrorContent(content))
        }
    }

    /// A task of this id has ended here before. What that one left stays as it is, and whoever asked is told.
    private func refuseAgain(_ task: TaskID) {
        guard let request = self.forget(task)?.message else { return }
        self.recorder.takeBackSubmission(of: task)
        let error = ErrorContent(.engineError, "task '\(task)' has ended before; a task that is run again needs a new id")
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
