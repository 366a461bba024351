import ApusCore
import ApusFunctions
import ApusStore
import ApusTransport
import ApusWire
import NIOCore
import Pickle

// The load-balanced side: requests in, replies out, and between them the scheduler (protocol article, "Task scheduler").
extension ControllerService {
    /// A request from a client: `[client, delimiter, …]`.
    func takeTask(_ verified: VerifiedRequest) {
        let (message, header) = (verified.message, verified.header)
        guard let client = message.identities.first else { return self.dropped("no client is named", at: .taskClient) }
        do {
            guard self.scheme != .none else { return self.refuseTask(message, header, client) }
            var request = TaskRequest(header.id, client: self.number(of: client))
            // A pure scheduler honours none of what a request says of itself.
            if self.scheme != .pure { request = try TaskRequest(header.id, client: request.client, scanning: message.metadata) }
            if request.need == nil, self.scheme != .pure { request.need = self.need(of: message, header.type) }
            if request.isLimited { request.need = .limit(request.need) }
            guard self.live[header.id] == nil else { throw WireError("task '\(header.id)' is here already") }
            let inputs = try self.inputs(of: message, request)
            self.changes.append(
                .submitted(header.id, request: message, client: header.session, date: header.date, queue: .balanced, engine: nil))
            self.submit(message, request, inputs)
        } catch {
            self.dropped("\(error)", at: .taskClient)
        }
    }

    /// What a request asks of its engine: cells are Python, and so are calls but those of a function by its name.
    private func need(of message: Message, _ type: MessageType) -> TaskNeed? {
        guard type == .applyRequest, let function = message.buffers.first else { return .python }
        // One function is called many times.
        if let last = self.lastCall, last.function == function { return last.need ?? Self.needOfMapped(message) }
        var need: TaskNeed? = .python
        if function.readableBytes < Self.readableFunction, let value = Self.value(in: function) {
            if let name = value.referenceName { need = .name(name) }
            // What ipyparallel's mapping function maps decides.
            if value.pythonFunctionName == PythonCall.mapFunction.pythonFunctionName { need = nil }
        }
        self.lastCall = (function, need)
        return need ?? Self.needOfMapped(message)
    }

    /// Names, and ipyparallel's own functions, are shorter than this, in bytes.
    private static let readableFunction = 4096

    private static func needOfMapped(_ message: Message) -> TaskNeed {
        // Function, counts, first argument.
        guard let mapped = message.buffers.dropFirst(2).first, mapped.readableBytes < Self.readableFunction,
            let name = Self.value(in: mapped)?.referenceName
        else { return .python }
        return .name(name)
    }

    private static func value(in buffer: ByteBuffer) -> PickleValue? {
        var buffers = [buffer][...]
        return try? ObjectBuffers.deserialize(&buffers)
    }

    /// Python's clients do not send tasks to a controller without a scheduler; others are told.
    private func refuseTask(_ message: Message, _ header: MessageHeader, _ client: ByteBuffer) {
        let error = ErrorContent(
            .engineError, "this controller has no task scheduler; address the engines, or use another --scheme")
        let reply = self.session.message(
            header.type.reply, identities: [client], parent: message.header, metadata: ["status": "error"], content: error.json)
        self.send(reply.frames, on: .taskClient)
    }

    /// A task of this id has ended here before. What that one left stays as it is, and whoever asked is told.
    private func refuseAgain(_ task: TaskID) {
        guard let request = self.forget(task)?.message else { return }
        // Its record was begun in this turn of the loop, and nothing of it has gone to the store.
        let begun = self.changes.lastIndex { change in
            if case .submitted(task, _, _, _, _, _) = change { true } else { false }
        }
        if let begun { self.changes.remove(at: begun) }
        let error = ErrorContent(.engineError, "task '\(task)' has ended before; a task that is run again needs a new id")
        let reply = self.session.message(
            .applyReply, identities: Array(request.identities), parent: request.header, metadata: ["status": "error"],
            content: error.json)
        self.answer(reply.frames, on: .taskClient)
    }

    func submit(_ message: Message, _ request: TaskRequest, _ inputs: TaskInputs? = nil) {
        var request = request
        if let inputs { request.inputs = self.want(inputs, for: request.id) }
        self.live[request.id] = LiveTask(message: message, inputs: inputs)
        self.perform(.submitted(request))
    }

    /// Forgets a task that has ended, or was none.
    @discardableResult
    private func forget(_ task: TaskID) -> LiveTask? {
        guard let ended = self.live.removeValue(forKey: task) else { return nil }
        self.letGo(of: task)
        if let inputs = ended.inputs { self.release(inputs, of: task) }
        return ended
    }

    private func number(of client: ByteBuffer) -> Int {
        if let number = self.clientNumbers[client] { return number }
        self.lastClientNumber += 1
        let number = self.lastClientNumber
        self.clientNumbers[client] = number
        return number
    }

    /// A reply from an engine: `[engine, client, delimiter, …]`.
    func takeTaskReply(_ verified: VerifiedMessage) {
        let message = verified.message
        guard let engine = message.identities.first else { return self.dropped("no engine is named", at: .taskEngine) }
        // Replies name their client.
        if message.identities.count == 1 { return self.takeNotice(message, from: EngineUUID(String(buffer: engine))) }
        guard let id = MessageHeader.messageID(scanning: message.parent) else {
            return self.dropped("a reply has no parent", at: .taskEngine)
        }
        guard self.isTimely(message, from: EngineUUID(String(buffer: engine))) else { return }
        // A task of an earlier controller's: nobody is there to answer, but its record is, for those who ask the hub.
        if self.live[id] == nil { self.changes.append(.completed(id, reply: message, received: .now)) }
        do {
            var metadata = try ReplyMetadata(scanning: message.metadata)
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
            self.currentReply = (message: message, engine: engine)
            let error = metadata.status == .error && self.scheduler.needsErrorName(id) ? message.content.textMember("ename") : nil
            let lacks = metadata.dependenciesMet ? nil : MissingModule.name(in: message)
            self.perform(
                .replied(
                    TaskReply(
                        to: id, from: uuid, metadata.status ?? .error, dependenciesMet: metadata.dependenciesMet,
                        lacks: lacks, work: metadata.work, error: error)))
            self.currentReply = nil
        } catch {
            self.dropped("\(error)", at: .taskEngine)
        }
    }

    // MARK: Effects

    func perform(_ event: TaskScheduler.Event) {
        self.handle(event)
        if !self.followUps.isEmpty { self.performFollowUps() }
    }

    /// Takes up the events that effects brought about, once all effects of the event before have been performed.
    func performFollowUps() {
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
        case .send(let task, let engine): self.sendTask(task, to: engine, again: false)
        case .sendAgain(let task, let engine): self.sendTask(task, to: engine, again: true)
        case .relay(let task, let engine): self.relayTaskReply(task, from: engine)
        case .fail(let task, let failure): self.failTask(task, failure)
        case .findResult(let result, let task): self.seekResult(of: result, for: task)
        case .refuse(let task): self.refuseAgain(task)
        case .recall(let tasks, let engine): self.recall(tasks, from: engine)
        case .setTimer(let time):
            self.schedulerTimer?.cancel()
            let deadline = NIODeadline.uptimeNanoseconds(time.nanoseconds)
            self.schedulerTimer = self.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
                self.assumeIsolated { service in
                    service.perform(.timerFired)
                    service.flushSockets()
                    service.scheduleFlush()
                }
            }
        }
    }

    // MARK: Performing

    private func sendTask(_ task: TaskID, to engine: EngineUUID, again: Bool) {
        guard let identity = self.engines[engine]?.identity, let live = self.live[task] else { return }
        var message = again ? self.resigned(live) : live.message
        let failures = self.scheduler.failures(of: task)
        if failures > 0 { message = self.telling(attempt: failures + 1, in: message) }
        if let inputs = live.inputs { message = self.completed(message, inputs) }
        message = self.lending(message, to: engine, for: task)
        var frames: [ByteBuffer] = []
        frames.reserveCapacity(message.frames.count + 1)
        frames.append(identity)
        frames.append(contentsOf: message.frames)
        self.send(frames, on: .taskEngine)
        self.changes.append(.assigned(task, to: engine))
    }

    /// The request with a space more in its metadata, which means nothing, and so another signature: an engine that has had a
    /// message does not take it twice.
    private func resigned(_ task: LiveTask) -> Message {
        let message = task.message
        var parts = message.parts
        parts.metadata.writeStaticString(" ")
        let again = self.signedAgain(parts, identities: Array(message.identities), buffers: Array(message.buffers))
        if let id = MessageHeader.messageID(scanning: parts.header) {
            self.live[id] = LiveTask(message: again, inputs: task.inputs)
        }
        return again
    }

    /// The request with how often its task has been tried, for what its engine may have to say of its end.
    private func telling(attempt: Int, in message: Message) -> Message {
        guard var metadata = (try? JSONValue(parsing: message.metadata))?.object else { return message }
        metadata["apus_attempt"] = .int(attempt)
        var parts = message.parts
        parts.metadata = JSONValue.object(metadata).packed
        return self.signedAgain(parts, identities: Array(message.identities), buffers: Array(message.buffers))
    }

    private func relayTaskReply(_ task: TaskID, from engine: EngineUUID) {
        guard let (reply, _) = self.currentReply else { return }
        self.forget(task)
        self.noteFailure(of: task, reply)
        self.keepIfWanted(task, reply)
        self.direct.finished(task, on: engine)
        self.changes.append(.completed(task, reply: reply, received: .now))
        guard self.resubmitted.isEmpty || self.resubmitted.remove(task) == nil else { return }
        var frames = reply.frames
        // A pure scheduler does not say who answered, as the proxy that it stands for cannot.
        if self.scheme == .pure { frames.removeFirst() } else { frames.swapAt(0, 1) }
        self.answer(frames, on: .taskClient)
    }

    private func failTask(_ task: TaskID, _ failure: TaskFailure) {
        guard let request = self.forget(task)?.message else { return }
        self.keepIfWanted(task, nil)
        let error: ErrorContent
        var metadata: JSONObject = [:]
        var identities = Array(request.identities)
        let context = self.reasonContext
        switch failure {
        case .invalidDependency(let reason): error = ErrorContent(.invalidDependency, reason.text(context))
        case .impossibleDependency(let reason): error = ErrorContent(.impossibleDependency, reason.text(context))
        case .inputFailed(let input):
            error = ErrorContent(
                .impossibleDependency,
                "task '\(input)', whose result is an argument of task '\(task)', gave no result"
                    + (self.failures[input].map { ": \($0)" } ?? ""))
        case .inputMissing(let input, let reason):
            error = ErrorContent(
                .impossibleDependency,
                "the result of task '\(input)', an argument of task '\(task)', is not to be had: \(reason)")
        case .timeout(let reason):
            error = ErrorContent(
                .taskTimeout,
                "task '\(task)' waited longer than its time-out allows" + (reason.map { ": \($0.text(context))" } ?? ""))
        case .engineDied(let engine, let tries):
            error = self.engineDied(engine, task, Self.name(ofFunction: request.buffers.first), tries: tries)
            metadata = ["status": "error", "engine": .string(engine.text), "date": .string(WireDate.now.description)]
            identities.append(ByteBuffer(string: engine.text))
        case .noEngine(let reason):
            error = ErrorContent(.noEnginesRegistered, reason.text(context))
        case .aborted: error = ErrorContent(name: ErrorName.taskAborted.rawValue, value: "")
        }
        if case .aborted = failure { self.failures.note(task, "it was aborted") } else { self.failures.note(task, error) }
        var content = error.json
        if case .aborted = failure {
            content = ["status": "aborted"]
            metadata["status"] = "aborted"
        }
        let reply = self.session.message(
            .applyReply, identities: identities, parent: request.header, metadata: metadata, content: content)
        self.changes.append(.completed(task, reply: reply, received: .now))
        guard self.resubmitted.isEmpty || self.resubmitted.remove(task) == nil else { return }
        self.answer(reply.frames, on: .taskClient)
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

    /// What engines are called in reasons, and why tasks failed.
    var reasonContext: ReasonContext {
        ReasonContext(
            now: self.now, name: { uuid in self.engines[uuid].map { "engine \($0.id)" } ?? "engine '\(uuid)'" },
            error: { self.failures[$0] })
    }

    /// What an engine says of itself: `[engine, delimiter, …]`.
    private func takeNotice(_ message: Message, from engine: EngineUUID) {
        switch try? MessageHeader(scanning: message.header).type {
        case .engineEnded: self.takeLastWords(message, from: engine)
        default: self.takeWaitNotice(message, from: engine)
        }
    }

    // MARK: Tasks that wait

    /// An engine says that a task waits for others, or goes on: `[engine, delimiter, …]`.
    private func takeWaitNotice(_ message: Message, from engine: EngineUUID) {
        guard let content = try? JSONValue(parsing: message.content), let id = content["msg_id"]?.string,
            let waits = content["waits"]?.bool
        else { return self.dropped("a wait notice names no task", at: .taskEngine) }
        self.perform(waits ? .waits(TaskID(id), on: engine) : .goesOn(TaskID(id), on: engine))
    }

    // MARK: Recall

    /// The identity under which the controller's own control requests travel; a client's has five bytes and begins with zero.
    static let ownIdentity = ByteBuffer(string: "apus")

    private func recall(_ tasks: [TaskID], from engine: EngineUUID) {
        guard let identity = self.engines[engine]?.identity else { return }
        let message = self.session.message(
            .recallRequest, identities: [identity, Self.ownIdentity], content: ["msg_ids": .array(tasks.map { .string($0.text) })]
        )
        self.send(message.frames, on: .controlEngine)
    }

    /// An engine's answer to a recall: `[engine, "apus", delimiter, …]`.
    func takeRecallReply(_ message: Message, from engine: EngineUUID) {
        guard let content = try? JSONValue(parsing: message.content) else { return }
        let given = (content["msg_ids"]?.array ?? []).compactMap { $0.string.map { TaskID($0) } }
        self.perform(.recalled(given, by: engine))
    }
}
