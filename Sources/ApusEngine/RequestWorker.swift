import ApusCore
import ApusFunctions
import ApusWire
import Foundation
import NIOCore
import Pickle
import Synchronization

/// What the worker shares with the event loop.
struct WorkSetup: Sendable {
    let engineID: EngineID
    let uuid: EngineUUID
    let signer: Signer
    let options: EngineOptions
    let exchange: WorkExchange
    let namespace: InMemoryNamespace
    let running: RunningCall
    /// Runs Python; nil in an engine of Swift functions only.
    let kernel: PythonKernel?
    /// Signatures of requests begun or aborted. Those given back are not in it: they may come again.
    let replays: SharedReplayMemory
    /// Called with the reason, from the worker, for each request that is dropped.
    let noteProblem: @Sendable (String) -> Void
}

/// Runs requests one at a time on a thread of its own, so that nothing a function does holds up heartbeats and control.
///
/// Checking, decoding and encoding happen here as well: the event loop and this thread share the processor's work.
struct RequestWorker: ~Copyable {
    private let setup: WorkSetup
    private var messages: EngineMessages
    private var caller: FunctionCaller
    /// What this request sends, in order.
    private var outgoing: [OutgoingMessage] = []
    /// When this request was taken up.
    private var taken = NIODeadline.now()

    private init(_ setup: WorkSetup, _ context: EngineContext) {
        self.setup = setup
        self.messages = EngineMessages(engineID: setup.engineID, uuid: setup.uuid, signer: setup.signer)
        self.caller = FunctionCaller(
            lookUp: setup.options.lookUp, namespace: setup.namespace, running: setup.running, context: context)
    }

    /// Starts the thread; it ends when the exchange is closed, and then calls `whenEnded`.
    static func start(_ setup: WorkSetup, whenEnded: @escaping @Sendable () -> Void) {
        let thread = Thread {
            let context = EngineContext(engineID: setup.engineID.number, uuid: setup.uuid.text, namespace: setup.namespace)
            // Bound once for the thread and not for each task.
            EngineContext.$current.withValue(context) {
                var worker = RequestWorker(setup, context)
                worker.run()
            }
            whenEnded()
        }
        thread.name = "apus-worker"
        // What a program's main thread usually has.
        thread.stackSize = 8 << 20
        thread.start()
    }

    private mutating func run() {
        while let (request, mayBeAborted) = self.setup.exchange.next(sending: &self.outgoing) {
            do { try self.answer(request, mayBeAborted) } catch { self.setup.noteProblem("a request was dropped: \(error)") }
        }
    }

    // MARK: One request

    private mutating func answer(_ request: IncomingRequest, _ mayBeAborted: Bool) throws(WireError) {
        self.taken = .now()
        var message = try Message(frames: request.frames)
        guard self.setup.signer.accepts(message.signature, for: message.parts) else { throw WireError("its signature is wrong") }
        guard self.setup.replays.remember(message.signature) else {
            throw WireError("its signature was here before")
        }
        let type = try MessageType(scanning: message.header)
        let metadata = try RequestMetadata(scanning: message.metadata)
        if mayBeAborted, let id = MessageHeader.messageID(scanning: message.header), self.setup.exchange.consumeAbortion(of: id) {
            self.outgoing += self.messages.abortion(of: message, type: type, metadata, on: request.channel)
            return
        }
        if !metadata.isQuiet {
            // At once: output that is published while the function runs must not overtake it.
            self.outgoing.append(self.messages.status(.busy, parent: message.header))
            self.setup.exchange.send(&self.outgoing)
        }
        if let shared = metadata.shared {
            do { message = try message.mapping(shared) } catch {
                self.refuse(message, type, metadata, on: request.channel, EngineTaskError(.engineError, "\(error)"))
                if !metadata.isQuiet { self.outgoing.append(self.messages.status(.idle, parent: message.header)) }
                return
            }
        }
        if let kernel = self.setup.kernel, !self.isSwiftCall(message, type, metadata) {
            // Its output and its reply come from the kernel's own thread, so what was said before goes first.
            self.setup.exchange.send(&self.outgoing)
            if kernel.run(message, type: type, metadata, on: request.channel) { try self.abortCells() }
            return
        }
        switch type {
        case .applyRequest: self.apply(message, metadata, on: request.channel)
        case .executeRequest: self.refuse(message, type, metadata, on: request.channel, self.noPython)
        default:
            if let content = self.messages.content(forKernelRequest: type, message.content) {
                self.outgoing.append(self.messages.reply(type.reply, to: message, on: request.channel, content: content))
            }
        }
        if !metadata.isQuiet { self.outgoing.append(self.messages.status(.idle, parent: message.header)) }
    }

    /// Whether the request calls a function of this program. On an engine with Python all others are Python's.
    private func isSwiftCall(_ message: Message, _ type: MessageType, _ metadata: RequestMetadata) -> Bool {
        guard type == .applyRequest, let function = message.buffers.first else { return false }
        if metadata.build != nil { return true }
        // The pickle of a name is short.
        guard function.readableBytes < 512 else { return false }
        var buffers = message.buffers.prefix(1)
        guard let name = (try? ObjectBuffers.deserialize(&buffers))?.referenceName else { return false }
        return (try? self.setup.options.lookUp(name)) != nil
    }

    /// Answers the cells that wait behind one that failed: whoever sent them meant them to follow its success.
    private mutating func abortCells() throws(WireError) {
        for request in self.setup.exchange.takeOut(where: { $0.type == .executeRequest }) {
            let message = try Message(frames: request.frames)
            guard self.setup.signer.accepts(message.signature, for: message.parts),
                self.setup.replays.remember(message.signature)
            else { throw WireError("an aborted request's signature is wrong") }
            let metadata = try RequestMetadata(scanning: message.metadata)
            self.outgoing += self.messages.abortion(of: message, type: .executeRequest, metadata, on: request.channel)
        }
    }

    private static let okContent = ByteBuffer(string: "{\"status\": \"ok\"}")

    private mutating func apply(_ message: Message, _ metadata: RequestMetadata, on channel: EngineChannel) {
        let started = WireDate.now
        let capture = self.setup.options.capture
        capture?.begin(parent: message.header)
        self.caller.begin(message.header, limit: metadata.limit)
        let outcome: Result<[ByteBuffer], any Error>
        do {
            if let build = metadata.build, build != self.setup.options.build { throw self.otherBuild(build) }
            let payload = try ApplyPayload(decoding: message.buffers)
            let result = try self.caller.run(payload, metadata)
            if let limit = metadata.limit { try self.checkWork(limit) }
            outcome = .success(ObjectBuffers.serialize(result))
        } catch {
            outcome = .failure(error)
        }
        var outputs = capture?.end(&self.outgoing) ?? 0
        switch outcome {
        case .success(let buffers):
            let replyMetadata = metadata.reply(
                .ok, by: self.messages, started: started, outputs: outputs, work: self.work)
            self.outgoing.append(
                self.messages.reply(
                    .applyReply, to: message, on: channel, metadata: replyMetadata, content: Self.okContent, buffers: buffers))
        case .failure(let error):
            let content = ErrorContent(
                error, method: "apply", function: self.caller.called?.function, arguments: self.caller.called?.arguments ?? [],
                by: self.messages)
            self.outgoing.append(self.messages.error(content, parent: message.header))
            outputs += 1
            let replyMetadata = metadata.reply(
                .error, by: self.messages, started: started,
                meetsDependencies: content.name != ErrorName.unmetDependency.rawValue, outputs: outputs, work: self.work)
            self.outgoing.append(
                self.messages.reply(
                    .applyReply, to: message, on: channel, metadata: replyMetadata, content: JSONValue.object(content.json).packed
                ))
        }
    }

    /// Refuses a result that came too late. An asynchronous function is cancelled at its limit; any other can only be judged when
    /// it has ended.
    private func checkWork(_ limit: Double) throws {
        let seconds = Double(self.work) / 1_000_000
        guard seconds > limit else { return }
        throw EngineTaskError(
            .engineError,
            "the function ran \(seconds) s, longer than its limit of \(limit) s, and its result was dropped. Only an 'async' function "
                + "that heeds cancellation can be stopped at its limit")
    }

    /// Microseconds since this request was taken up.
    private var work: Int { Int((NIODeadline.now() - self.taken).nanoseconds / 1000) }

    private func otherBuild(_ build: String) -> EngineTaskError {
        EngineTaskError(
            .functionNotFound,
            "engine \(self.setup.engineID) is another build of the program (\(self.setup.options.build.prefix(12))) than the one that "
                + "asks (\(build.prefix(12))). Restart the engines with the new executable")
    }

    private var noPython: EngineTaskError {
        EngineTaskError(
            .notImplementedError,
            "engine \(self.setup.engineID) runs Swift functions; source text runs on Python engines. Call a function by its name instead"
        )
    }

    /// Answers a request that cannot be begun.
    private mutating func refuse(
        _ message: Message, _ type: MessageType, _ metadata: RequestMetadata, on channel: EngineChannel, _ error: EngineTaskError
    ) {
        let started = WireDate.now
        let isExecute = type == .executeRequest
        let content = ErrorContent(
            error, method: isExecute ? "execute" : "apply", function: nil, arguments: [], by: self.messages)
        self.outgoing.append(self.messages.error(content, parent: message.header))
        let members: JSONObject = isExecute ? ["execution_count": 0, "user_expressions": [:], "payload": []] : [:]
        let replyMetadata = metadata.reply(
            .error, by: self.messages, started: started, outputs: 1)
        self.outgoing.append(
            self.messages.reply(
                type.reply, to: message, on: channel, metadata: replyMetadata,
                content: JSONValue.object(content.json.merging(members) { $1 }).packed))
    }
}

/// The replay memory of the request channels; the loop uses it too, for what it aborts.
final class SharedReplayMemory: Sendable {
    private let memory = Mutex(ReplayMemory())

    /// Remembers a verified signature. False when it was here before.
    func remember(_ signature: ByteBuffer) -> Bool { self.memory.withLock { $0.remember(signature) } }
}

extension MessageType {
    /// The type in a packed header.
    init(scanning header: ByteBuffer) throws(WireError) {
        let type = try header.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) -> String? in
            guard try cursor.find("msg_type") else { return nil }
            return try cursor.readStringOrSkip()
        }
        guard let type else { throw WireError("its header has no msg_type") }
        self.init(rawValue: type)
    }
}

extension EngineMessages {
    /// What answers a request that must not start: statuses and the aborted reply.
    mutating func abortion(
        of message: Message, type: MessageType, _ metadata: RequestMetadata, on channel: EngineChannel
    ) -> [OutgoingMessage] {
        let reply = self.reply(
            type.reply, to: message, on: channel,
            metadata: metadata.reply(.aborted, by: self, started: .now, outputs: 0),
            content: ByteBuffer(string: "{\"status\": \"aborted\"}"))
        if metadata.isQuiet { return [reply] }
        return [self.status(.busy, parent: message.header), reply, self.status(.idle, parent: message.header)]
    }

    /// The content that answers a Jupyter request which is not about running anything; nil for what is not answered.
    func content(forKernelRequest type: MessageType, _ content: ByteBuffer) -> ByteBuffer? {
        let members: JSONObject
        switch type.rawValue {
        case "kernel_info_request":
            members = [
                "protocol_version": "5.4", "implementation": "apus", "implementation_version": "1.0", "banner": "Apus engine",
                "language_info": ["name": "swift", "version": "6", "mimetype": "text/x-swift", "file_extension": ".swift"],
                "help_links": [],
            ]
        case "complete_request":
            let position = (try? JSONValue(parsing: content))?["cursor_pos"] ?? 0
            members = ["matches": [], "cursor_start": position, "cursor_end": position, "metadata": [:]]
        case "inspect_request": members = ["found": false, "data": [:], "metadata": [:]]
        case "history_request": members = ["history": []]
        case "comm_info_request": members = ["comms": [:]]
        case "is_complete_request": return JSONValue.object(["status": "unknown"]).packed
        case "connect_request": members = [:]
        default: return nil
        }
        return JSONValue.object(members.merging(["status": "ok"]) { $1 }).packed
    }
}
