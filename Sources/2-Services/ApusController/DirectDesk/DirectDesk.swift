import ApusCore
import ApusStore
import ApusWire
import NIOCore

/// The direct side of the controller: requests that name their engine, their replies, and the output of all requests (protocol
/// article, "Mux and control").
final class DirectDesk {
    private var queues = DirectQueues()
    /// Whether the unfinished requests of the controller before this one were taken up, so that a request unknown here was never
    /// recorded.
    private var restores = false
    /// The requests of which it is not certain that their engines have them, as they are to be sent if the engines do not.
    private var doubtful: [TaskID: (message: Message, port: DirectRequest.Port)] = [:]
    /// Called to have an engine asked about requests.
    var onQuestion: (EngineUUID, Set<TaskID>) -> Void = { _, _ in }
    /// Called to have a copy of a broadcast sent to its engine.
    var onCopy: (EngineUUID, Message, TaskID) -> Void = { _, _, _ in }

    private let engines: EngineRoster
    private let session: ControllerSession
    private let loans: BufferLoans
    private let recorder: Recorder
    private let store: any TaskStore
    private let work: LoopTasks
    private let loop: any EventLoop
    private let muxClient: Outlet
    private let returning: ReturningClientsOutlet
    /// Answers to copies of broadcasts for clients of the controller before this one.
    let returningToBroadcasts: ReturningClientsOutlet
    private let muxEngine: Outlet
    private let controlClient: Outlet
    private let controlEngine: Outlet
    private let iopubClient: Outlet
    private let broadcastClient: Outlet

    /// How long an engine may take to get a request that was sent again before it is asked whether it has it.
    private static let deliveryTime = TimeAmount.seconds(10)

    /// - Parameters:
    ///   - store: Has the answers to requests of earlier controllers that clients send again.
    ///   - outlets: The desk sends by the sockets of mux, control and output, and by the one of broadcast clients when it answers in
    ///     place of an engine that is gone.
    init(
        engines: EngineRoster, session: ControllerSession, loans: BufferLoans, recorder: Recorder, store: any TaskStore,
        outlets: Outlets, work: LoopTasks, on loop: any EventLoop
    ) {
        self.store = store
        self.work = work
        self.loop = loop
        self.engines = engines
        self.session = session
        self.loans = loans
        self.recorder = recorder
        self.muxClient = outlets.muxClient
        self.returning = ReturningClientsOutlet(outlets.muxClient, recorder: recorder)
        self.returningToBroadcasts = ReturningClientsOutlet(outlets.broadcastClient, recorder: recorder)
        self.muxEngine = outlets.muxEngine
        self.controlClient = outlets.controlClient
        self.controlEngine = outlets.controlEngine
        self.iopubClient = outlets.iopubClient
        self.broadcastClient = outlets.broadcastClient
    }

    // MARK: Requests

    /// Sends a request to its engine: `[client, engine, delimiter, …]` becomes `[engine, client, delimiter, …]`.
    func relayMux(_ request: VerifiedRequest) {
        let (message, header) = (request.message, request.header)
        let engine = EngineUUID(String(buffer: message.identities[1]))
        self.returning.spoke(message.identities[0], as: header.session)
        let isTask = header.type == .applyRequest || header.type == .executeRequest
        if isTask, self.restores {
            switch self.queues.reception(of: header.id, for: engine) {
            case .send: break
            case .keep: return self.keep(request, for: engine)
            case .ask:
                self.keep(request, for: engine)
                return self.onQuestion(engine, [header.id])
            case .drop: return
            case .answerFromRecords: return self.answerFromRecords(request, engine)
            }
        }
        guard self.engines.isRegistered(engine) else { return self.answerUnknownEngine(request, engine, by: self.muxClient) }
        self.send(message, to: engine, as: header.id)
        if isTask { self.noteSent(message, header, as: header.id, to: engine, port: .mux) }
    }

    private func send(_ message: Message, to engine: EngineUUID, as task: TaskID) {
        var relayed = self.loans.lending(message, to: engine, for: task).frames
        relayed.swapAt(0, 1)
        self.muxEngine.send(relayed)
    }

    func relayControl(_ request: VerifiedRequest) {
        let engine = EngineUUID(String(buffer: request.message.identities[1]))
        guard self.engines.isRegistered(engine) else { return self.answerUnknownEngine(request, engine, by: self.controlClient) }
        var relayed = request.message.frames
        relayed.swapAt(0, 1)
        self.controlEngine.send(relayed)
    }

    /// Notes that a request was sent to an engine, so that it is answered even if the engine dies.
    ///
    /// - Parameter task: The id under which the request is answered. For a copy of a broadcast it is not the id in the header.
    func noteSent(_ request: Message, _ header: MessageHeader, as task: TaskID, to engine: EngineUUID, port: DirectRequest.Port) {
        self.queues.submitted(task, to: engine, DirectRequest(request, at: port))
        self.recorder.note(
            .submitted(task, request: request, client: header.session, date: header.date, queue: .direct, engine: engine))
    }

    /// Answers a request to an engine that is not registered with an error. Python's relays drop the request, and its sender
    /// waits.
    private func answerUnknownEngine(_ request: VerifiedRequest, _ engine: EngineUUID, by outlet: Outlet) {
        let (message, header) = (request.message, request.header)
        guard header.type.isAnswered else { return }
        let error = self.engines.undelivered(to: engine, header.id, FunctionName.text(in: message.buffers.first))
        let reply = self.session.message(
            header.type.reply, identities: [message.identities[0], message.identities[1]], parent: message.header,
            metadata: ReplyMetadata.standIn(.error, for: engine), content: error.json)
        outlet.send(reply.frames)
    }

    // MARK: After a controller that was killed

    /// Expects an engine of the controller before this one to come back. Must be called before its requests are restored.
    ///
    /// - Parameter reports: Whether the engine can say what it holds.
    func expect(_ engine: EngineUUID, reports: Bool) { self.queues.engineExpected(engine, reports: reports) }

    /// Engines of the controller before this one that say what they hold. A client may send a request to them again that this
    /// controller does not know: it will not run twice.
    var reporting: [EngineUUID] { self.queues.reporting }

    /// Keeps a request that a client may have sent to the controller before this one, until it is certain whether its engine has it.
    private func keep(_ request: VerifiedRequest, for engine: EngineUUID) {
        let (message, header) = (request.message, request.header)
        self.doubtful[header.id] = (message, .mux)
        self.queues.submitted(
            header.id, to: engine, DirectRequest(message, at: .mux, returning: header.session), isInDoubt: true)
        self.recorder.note(
            .submitted(header.id, request: message, client: header.session, date: header.date, queue: .direct, engine: engine))
    }

    /// Answers a request that a client has sent again, and that its engine has answered in between.
    private func answerFromRecords(_ request: VerifiedRequest, _ engine: EngineUUID) {
        self.recorder.flush()
        self.work.start(for: self) { desk in
            let fields: Set<TaskField> = [.resultHeader, .resultMetadata, .resultContent, .resultBuffers]
            let message = request.message
            let identities = Array(message.identities)
            let error: ErrorContent
            do throws(TaskStoreError) {
                let record = try await desk.store.recordsRetrying(of: [request.header.id], fields: fields).first
                if let answer = record?.reply {
                    let again = desk.session.repeating(answer, to: message, identities: identities)
                    return desk.recorder.answer(again.frames, by: desk.muxClient)
                }
                // The record was purged in between.
                error = desk.engines.lostAnswer(
                    engine, request.header.id, FunctionName.text(in: message.buffers.first), tries: nil)
            } catch let problem { error = problem.content }
            let refusal = desk.session.message(
                request.header.type.reply, identities: identities, parent: message.header,
                metadata: ReplyMetadata.standIn(.error, for: engine, at: .now), content: error.json)
            desk.recorder.answer(refusal.frames, by: desk.muxClient)
        }
    }

    /// Records the first answer to a request that is not known here, and sends the answer to the client whose session it names.
    ///
    /// The controller before this one passed the request on and was killed before the store had it.
    ///
    /// - Returns: Whether the request was such a one.
    func takeUnknown(_ answer: Message, to task: TaskID, from engine: EngineUUID) -> Bool {
        guard self.restores, !self.queues.isQueued(task, at: engine), let header = try? MessageHeader(scanning: answer.parent),
            header.type == .applyRequest || header.type == .executeRequest, self.queues.answeredUnknown(task, by: engine)
        else { return false }
        self.recorder.note(
            .submitted(
                task, request: .lost(header: answer.parent), client: header.session, date: header.date, queue: .direct,
                engine: engine))
        self.noteReply(answer, to: task, from: engine)
        self.sendBack(answer, to: header.session, by: Self.isBroadcast(answer) ? .broadcast : .mux)
        return true
    }

    /// Sends a client that has connected the answers that are held for clients of the controller before this one.
    func clientConnected(_ client: ByteBuffer) { self.returning.connected(client) }
    func clientLeft(_ client: ByteBuffer) { self.returning.disconnected(client) }

    /// Begins to take up requests without an outcome.
    func beginRestoring() {
        self.restores = true
        self.returning.expectClients(on: self.loop)
        self.returningToBroadcasts.expectClients(on: self.loop)
    }

    /// Takes up a request, or a copy of a broadcast, without an outcome. One to an engine that is not expected ends as lost.
    func restore(_ record: TaskRecord, as request: Message) {
        let engine = record.assignedEngine
        let port: DirectRequest.Port = Self.isBroadcast(request) ? .broadcast : .mux
        var request = request
        if port == .broadcast {
            // Clients do not name the engines of a broadcast in front of its messages.
            request = Message(
                identities: Array(request.identities.prefix(1)), signature: request.signature, parts: request.parts,
                buffers: Array(request.buffers))
        }
        if let engine, self.queues.restored(record.id, to: engine, DirectRequest(request, at: port, returning: record.client)) {
            self.doubtful[record.id] = (request, port)
            return
        }
        let function = FunctionName.text(in: request.buffers.first)
        let error = self.engines.lostAnswer(engine ?? EngineUUID("?"), record.id, function, tries: nil)
        self.recorder.note(.lost(record.id, on: engine, error: error, at: .now))
    }

    /// Whether it is a copy of a broadcast, or the answer to one.
    private static func isBroadcast(_ message: Message) -> Bool {
        guard let metadata = try? JSONValue(parsing: message.metadata) else { return false }
        return metadata[MetadataMember.isBroadcast]?.bool == true
    }

    /// Compares an engine's report with the requests that it may have got from the controller before this one: those that it never
    /// got are sent, and those whose answers are lost end.
    ///
    /// - Returns: The requests that have ended.
    func take(_ report: EngineReport, from engine: EngineUUID) -> [TaskID] {
        let settlement = self.queues.engineReported(engine, report)
        for (task, request) in settlement.lost {
            self.end(task, request, of: engine, self.engines.lostAnswer(engine, task, request.functionName, tries: nil))
        }
        for task in settlement.missing {
            guard let (message, port) = self.doubtful[task] else { continue }
            if port == .mux { self.send(message, to: engine, as: task) } else { self.onCopy(engine, message, task) }
        }
        // An engine that had such a request after all, and forgot it, drops it as played again and does not answer.
        if !settlement.missing.isEmpty {
            self.loop.assumeIsolated().scheduleTask(in: Self.deliveryTime) { [weak self] in
                self?.checkDelivery(of: settlement.missing, to: engine)
            }
        }
        if !settlement.found.isEmpty { self.onQuestion(engine, Set(settlement.found)) }
        if !self.doubtful.isEmpty {
            for task in report.has.union(settlement.missing) { self.doubtful[task] = nil }
        }
        self.muxClient.flush()
        return settlement.lost.map(\.task)
    }

    /// Asks an engine about requests that were sent to it again and have no answer.
    private func checkDelivery(of tasks: [TaskID], to engine: EngineUUID) {
        let asked = self.queues.engineHadTime(engine, for: tasks)
        if !asked.isEmpty, self.engines.isRegistered(engine) { self.onQuestion(engine, Set(asked)) }
    }

    // MARK: Replies

    /// The end of a direct request, for the task desk.
    struct Ending {
        let task: TaskID
        let reply: Message
        let engine: EngineUUID
    }

    /// Sends a reply to its client: `[engine, client, delimiter, …]` becomes `[client, engine, delimiter, …]`.
    ///
    /// - Returns: The request that has ended by the reply; nil for none.
    func relayMuxReply(_ reply: VerifiedMessage) -> Ending? {
        let message = reply.message
        let engine = EngineUUID(String(buffer: message.identities[0]))
        guard self.engines.isTimely(message, from: engine) else { return nil }
        let task = MessageHeader.messageID(scanning: message.parent)
        if let task, self.takeUnknown(message, to: task, from: engine) {
            return Ending(task: task, reply: message, engine: engine)
        }
        let request = task.flatMap { self.noteReply(message, to: $0, from: engine) }
        var relayed = message.frames
        if let returning = request?.returning {
            self.sendBack(message, to: returning, by: .mux)
        } else {
            relayed.swapAt(0, 1)
            self.recorder.answer(relayed, by: self.muxClient)
        }
        return task.map { Ending(task: $0, reply: message, engine: engine) }
    }

    /// Sends an engine's answer to a client of the controller before this one, whose connection to that controller it names.
    ///
    /// A part of a coalesced answer is not sent: its client asks for the records of all parts.
    func sendBack(_ answer: Message, to session: String, by port: DirectRequest.Port) {
        var frames = answer.frames
        frames.remove(at: 1)
        if port == .mux { return self.returning.answer(frames, to: session) }
        frames.removeFirst()
        let metadata = (try? JSONValue(parsing: answer.metadata)) ?? .null
        if metadata[MetadataMember.isCoalescing]?.bool != true { self.returningToBroadcasts.answer(frames, to: session) }
    }

    /// Sends a control reply to its client. Nothing is kept of a control request.
    func relayControlReply(_ reply: VerifiedMessage) {
        var relayed = reply.message.frames
        relayed.swapAt(0, 1)
        self.controlClient.send(relayed)
    }

    /// Records the reply to a request, and frees what was kept for it.
    ///
    /// - Returns: The request; nil if the engine had no such request.
    @discardableResult
    func noteReply(_ reply: Message, to task: TaskID, from engine: EngineUUID) -> DirectRequest? {
        let request = self.queues.replied(task, by: engine, wasAborted: reply.content.textMember("status") == "aborted")
        self.letGo(of: task)
        self.recorder.note(.completed(task, reply: reply, received: .now))
        return request
    }

    /// Sends output, `[topic, delimiter, …]` or without a topic, to every client, and records the output of a task.
    ///
    /// - Returns: The engine that announces its end by this message; nil for nearly all output.
    func relayOutput(_ output: VerifiedMessage) -> EngineUUID? {
        let message = output.message
        self.iopubClient.send(message.frames)
        guard let header = try? MessageHeader(scanning: message.header), header.type != .status else { return nil }
        if header.type == .shutdownReply { return EngineUUID(header.session) }
        if let id = MessageHeader.messageID(scanning: message.parent),
            let output = TaskOutput(type: header.type, content: message.content)
        {
            self.recorder.note(.output(id, output))
        }
        return nil
    }

    // MARK: Engines

    func engineJoined(_ engine: EngineUUID) { self.queues.engineJoined(engine) }

    /// Answers the requests of an engine that is gone, in its place.
    ///
    /// - Returns: The requests.
    func answerRequests(of engine: EngineUUID) -> [TaskID] {
        let left = self.queues.engineLeft(engine)
        for (task, request) in left {
            self.end(task, request, of: engine, self.engines.died(engine, task, request.functionName, tries: nil))
        }
        self.muxClient.flush()
        self.broadcastClient.flush()
        return left.map(\.task)
    }

    /// Gives up the requests of an engine that is gone. No client is told, for clients were told when the engine said goodbye.
    ///
    /// - Returns: The requests.
    func strandRequests(of engine: EngineUUID) -> [TaskID] {
        self.queues.engineLeft(engine).map { task, _ in
            self.letGo(of: task)
            self.recorder.note(.stranded(task, on: engine, at: .now))
            return task
        }
    }

    /// Ends a request that its engine will not answer: sends and records a reply in the engine's place.
    private func end(_ task: TaskID, _ request: DirectRequest, of engine: EngineUUID, _ error: ErrorContent) {
        self.letGo(of: task)
        guard let reply = self.reply(to: request, of: engine, error) else {
            return self.recorder.note(.stranded(task, on: engine, at: .now))
        }
        self.recorder.note(.completed(task, reply: reply, received: .now))
        if let returning = request.returning {
            let outlet = request.port == .mux ? self.returning : self.returningToBroadcasts
            return outlet.answer(Array(reply.frames.dropFirst()), to: returning)
        }
        self.recorder.answer(reply.frames, by: request.port == .mux ? self.muxClient : self.broadcastClient)
    }

    /// Forgets what was kept of a request until its end.
    private func letGo(of task: TaskID) {
        self.loans.letGo(of: task)
        if !self.doubtful.isEmpty { self.doubtful[task] = nil }
    }

    /// The reply to a request in place of its engine; nil for a copy of a coalescing broadcast, which fails as a whole.
    private func reply(to request: DirectRequest, of engine: EngineUUID, _ error: ErrorContent) -> Message? {
        guard let header = try? MessageHeader(scanning: request.header) else { return nil }
        var metadata = ReplyMetadata.standIn(.error, for: engine, at: .now)
        if request.port == .broadcast {
            guard let asked = try? JSONValue(parsing: request.metadata), asked[MetadataMember.isCoalescing]?.bool != true else {
                return nil
            }
            metadata = metadata.answering(broadcast: asked[MetadataMember.originalMessageID] ?? "", isCoalescing: false)
        }
        return self.session.message(
            header.type.reply, identities: request.identities, parent: request.header, metadata: metadata,
            content: error.json)
    }

    /// Closes the engine's connections.
    func cut(_ identity: ByteBuffer) {
        self.muxEngine.disconnect(identity)
        self.controlEngine.disconnect(identity)
    }

    // MARK: What engines have done

    /// Counts a load-balanced task that ended on the engine.
    func taskFinished(_ task: TaskID, on engine: EngineUUID) { self.queues.finished(task, on: engine) }
    /// Whether an engine was given the request directly and has not answered.
    func isQueued(_ task: TaskID) -> Bool { self.queues.isQueued(task) }
    func queue(of engine: EngineUUID) -> [TaskID] { self.queues.queue(of: engine) }
    func queueCount(of engine: EngineUUID) -> Int { self.queues.queueCount(of: engine) }
    /// The ids that the engine completed last, oldest first, as many as are kept.
    func completed(of engine: EngineUUID) -> [TaskID] { self.queues.completed(of: engine) }
    func completedCount(of engine: EngineUUID) -> Int { self.queues.completedCount(of: engine) }

    /// Looks for contradictions in what the desk and its core keep; for tests.
    func checkInvariants() throws {
        try self.queues.checkInvariants()
        for task in self.doubtful.keys where !self.queues.isQueued(task) {
            throw BrokenInvariant(description: "direct request \(task) is kept, which no engine owes an answer to")
        }
    }
}

extension DirectRequest {
    /// The name of the function that the request calls; nil where it has none.
    fileprivate var functionName: String? { FunctionName.text(in: self.function) }
}
