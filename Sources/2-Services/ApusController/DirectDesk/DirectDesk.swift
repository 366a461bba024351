import ApusCore
import ApusStore
import ApusWire
import NIOCore

/// The direct side of the controller: requests that name their engine, their replies, and everyone's output (protocol article, "Mux
/// and control").
final class DirectDesk {
    private var queues = DirectQueues()

    private let engines: EngineRoster
    private let session: ControllerSession
    private let loans: BufferLoans
    private let recorder: Recorder
    private let muxClient: Outlet
    private let returning: ReturningClientsOutlet
    private let muxEngine: Outlet
    private let controlClient: Outlet
    private let controlEngine: Outlet
    private let iopubClient: Outlet
    private let broadcastClient: Outlet

    /// - Parameter outlets: Its own are those of mux, control and output; by that of broadcast clients it answers in place of engines
    ///   that are gone.
    init(engines: EngineRoster, session: ControllerSession, loans: BufferLoans, recorder: Recorder, outlets: Outlets) {
        self.engines = engines
        self.session = session
        self.loans = loans
        self.recorder = recorder
        self.muxClient = outlets.muxClient
        self.returning = ReturningClientsOutlet(outlets.muxClient, recorder: recorder)
        self.muxEngine = outlets.muxEngine
        self.controlClient = outlets.controlClient
        self.controlEngine = outlets.controlEngine
        self.iopubClient = outlets.iopubClient
        self.broadcastClient = outlets.broadcastClient
    }

    // MARK: Requests

    /// `[client, engine, delimiter, …]` becomes `[engine, client, delimiter, …]`.
    func relayMux(_ request: VerifiedRequest) {
        let (message, header) = (request.message, request.header)
        let engine = EngineUUID(String(buffer: message.identities[1]))
        self.returning.spoke(message.identities[0], as: header.session)
        guard self.engines.isRegistered(engine) else { return self.answerUnknownEngine(request, engine, by: self.muxClient) }
        var relayed = self.loans.lending(message, to: engine, for: header.id).frames
        relayed.swapAt(0, 1)
        self.muxEngine.send(relayed)
        if header.type == .applyRequest || header.type == .executeRequest {
            self.noteSent(message, header, as: header.id, to: engine, port: .mux)
        }
    }

    func relayControl(_ request: VerifiedRequest) {
        let engine = EngineUUID(String(buffer: request.message.identities[1]))
        guard self.engines.isRegistered(engine) else { return self.answerUnknownEngine(request, engine, by: self.controlClient) }
        var relayed = request.message.frames
        relayed.swapAt(0, 1)
        self.controlEngine.send(relayed)
    }

    /// A request was sent to an engine that will answer it.
    ///
    /// - Parameter task: The id under which it is answered: that of a broadcast's copy is not its header's.
    func noteSent(_ request: Message, _ header: MessageHeader, as task: TaskID, to engine: EngineUUID, port: DirectRequest.Port) {
        self.queues.submitted(task, to: engine, DirectRequest(request, at: port))
        self.recorder.note(
            .submitted(task, request: request, client: header.session, date: header.date, queue: .direct, engine: engine))
    }

    /// Python's relays lose such a message and its sender waits; ours says that there is nobody.
    private func answerUnknownEngine(_ request: VerifiedRequest, _ engine: EngineUUID, by outlet: Outlet) {
        let (message, header) = (request.message, request.header)
        guard header.type.isAnswered else { return }
        let error = ErrorContent(
            .engineError, "Engine '\(engine)' is not registered; message '\(header.id)' was not delivered")
        let reply = self.session.message(
            header.type.reply, identities: [message.identities[0], message.identities[1]], parent: message.header,
            metadata: ReplyMetadata.standIn(.error, for: engine), content: error.json)
        outlet.send(reply.frames)
    }

    // MARK: After a controller that was killed

    /// An engine of the controller before this one may come back. Told before requests are restored.
    func expect(_ engine: EngineUUID) { self.queues.engineExpected(engine) }

    /// A client has connected, or its connection has dropped.
    func clientConnected(_ client: ByteBuffer) { self.returning.connected(client) }
    func clientLeft(_ client: ByteBuffer) { self.returning.disconnected(client) }

    /// Takes up a request that has no outcome; one of a broadcast, or to an engine that is not expected, ends as lost.
    func restore(_ record: TaskRecord, as request: Message, on loop: any EventLoop) {
        guard let engine = record.assignedEngine else { return }
        self.returning.expectClients(on: loop)
        let isBroadcast = (try? JSONValue(parsing: request.metadata))?["is_broadcast"]?.bool == true
        if !isBroadcast, self.queues.restored(record.id, to: engine, DirectRequest(request, at: .mux, returning: record.client)) {
            return
        }
        let function = FunctionName.text(in: request.buffers.first)
        self.recorder.note(
            .lost(record.id, on: engine, error: self.engines.lostAnswer(engine, record.id, function, tries: nil), at: .now))
    }

    /// The engine has said what it holds: what it was given by the controller before this one and does not have ends as lost.
    ///
    /// - Returns: The requests that have ended.
    func take(_ report: EngineReport, from engine: EngineUUID) -> [TaskID] {
        let left = self.queues.engineReported(engine, report)
        for (task, request) in left {
            let function = request.function.flatMap { FunctionName.text(in: $0) }
            let error = self.engines.lostAnswer(engine, task, function, tries: nil)
            guard let reply = self.reply(to: request, of: engine, error) else { continue }
            self.recorder.note(.completed(task, reply: reply, received: .now))
            self.answer(reply, to: request)
        }
        self.muxClient.flush()
        return left.map(\.task)
    }

    // MARK: Replies

    /// A direct request has ended: what the task desk has to know of it.
    struct Ending {
        let task: TaskID
        let reply: Message
        let engine: EngineUUID
    }

    /// `[engine, client, delimiter, …]` becomes `[client, engine, delimiter, …]`.
    ///
    /// - Returns: The request that has ended by it; nil for none.
    func relayMuxReply(_ reply: VerifiedMessage) -> Ending? {
        let message = reply.message
        let engine = EngineUUID(String(buffer: message.identities[0]))
        guard self.engines.isTimely(message, from: engine) else { return nil }
        let task = MessageHeader.messageID(scanning: message.parent)
        let returning = task.flatMap { self.queues.returningClient(of: $0, at: engine) }
        if let task { self.noteReply(message, to: task, from: engine) }
        var relayed = message.frames
        if let returning {
            relayed.remove(at: 1)
            self.returning.answer(relayed, to: returning)
        } else {
            relayed.swapAt(0, 1)
            self.recorder.answer(relayed, by: self.muxClient)
        }
        return task.map { Ending(task: $0, reply: message, engine: engine) }
    }

    /// The same for control, where nothing is kept of a request.
    func relayControlReply(_ reply: VerifiedMessage) {
        var relayed = reply.message.frames
        relayed.swapAt(0, 1)
        self.controlClient.send(relayed)
    }

    /// An engine has answered a request.
    func noteReply(_ reply: Message, to task: TaskID, from engine: EngineUUID) {
        self.queues.replied(task, by: engine, wasAborted: reply.content.textMember("status") == "aborted")
        self.loans.letGo(of: task)
        self.recorder.note(.completed(task, reply: reply, received: .now))
    }

    /// `[topic, delimiter, …]`, or no topic: passed on to every client, and what belongs to a task is kept with it.
    ///
    /// - Returns: The engine that says by this that it ends; nil for nearly all output.
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

    /// Answers the requests that an engine leaves, in its place.
    ///
    /// - Returns: Those that there were.
    func answerRequests(of engine: EngineUUID) -> [TaskID] {
        let left = self.queues.engineLeft(engine)
        for (task, request) in left {
            self.loans.letGo(of: task)
            let function = FunctionName.text(in: request.function)
            if let reply = self.reply(to: request, of: engine, self.engines.died(engine, task, function, tries: nil)) {
                self.recorder.note(.completed(task, reply: reply, received: .now))
                self.answer(reply, to: request)
            } else {
                self.recorder.note(.stranded(task, on: engine, at: .now))
            }
        }
        self.muxClient.flush()
        self.broadcastClient.flush()
        return left.map(\.task)
    }

    /// Gives the requests up that an engine leaves. Nobody is told, for their clients were when it said goodbye.
    ///
    /// - Returns: Those that there were.
    func strandRequests(of engine: EngineUUID) -> [TaskID] {
        self.queues.engineLeft(engine).map { task, _ in
            self.loans.letGo(of: task)
            self.recorder.note(.stranded(task, on: engine, at: .now))
            return task
        }
    }

    /// Sends a reply that is made in an engine's place.
    private func answer(_ reply: Message, to request: DirectRequest) {
        if let returning = request.returning { return self.returning.answer(Array(reply.frames.dropFirst()), to: returning) }
        self.recorder.answer(reply.frames, by: request.port == .mux ? self.muxClient : self.broadcastClient)
    }

    /// The reply in an engine's place to a request that it does not answer; nil for a copy of a coalescing broadcast, which fails as a
    /// whole.
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

    /// A load-balanced task ended on the engine.
    func taskFinished(_ task: TaskID, on engine: EngineUUID) { self.queues.finished(task, on: engine) }
    /// Whether an engine was given the request directly and has not answered.
    func isQueued(_ task: TaskID) -> Bool { self.queues.isQueued(task) }
    func queue(of engine: EngineUUID) -> [TaskID] { self.queues.queue(of: engine) }
    func queueCount(of engine: EngineUUID) -> Int { self.queues.queueCount(of: engine) }
    /// The ids that ended there last, oldest first: as many as are kept.
    func completed(of engine: EngineUUID) -> [TaskID] { self.queues.completed(of: engine) }
    func completedCount(of engine: EngineUUID) -> Int { self.queues.completedCount(of: engine) }
}
