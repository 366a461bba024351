import ApusCore
import ApusFunctions
import ApusWire
import CEngineMode
import Foundation
import NIOCore
import Pickle
import Locks

/// What the worker shares with the event loop.
struct WorkSetup: Sendable {
    let engineID: EngineID
    let uuid: EngineUUID
    let signer: Signer
    let options: EngineOptions
    let exchange: WorkExchange
    let namespace: InMemoryNamespace
    let calls: AsyncCalls
    let access: ClusterAccess
    /// Whether the controller wants to know which tasks wait for others.
    let tellsWaits: Bool
    /// Runs Python; nil in an engine of Swift functions only.
    let kernel: PythonKernel?
    /// The signatures of requests that were begun or aborted. Requests that were given back are not among them, for they may come
    /// again.
    let replays: SharedReplayMemory
    /// Called with the reason, from the worker, for each request that is dropped.
    let noteProblem: @Sendable (String) -> Void

    /// The requests that were begun and are not answered: the one that has its turn, and those that were set aside.
    var begunRequests: [MessageID] { [self.exchange.current?.messageID].compactMap { $0 } + self.calls.requests }
}

/// Runs requests one at a time on a thread of its own, so that no function delays heartbeats and control requests.
///
/// Messages are also checked, decoded and encoded on this thread, which takes that work off the event loop.
struct RequestWorker: ~Copyable {
    private let setup: WorkSetup
    private var messages: EngineMessages
    private var caller: FunctionCaller
    private let context: EngineContext
    /// Messages to send, in order.
    private var outgoing: [OutgoingMessage] = []
    /// The function that was called last, as it was sent, and whether it is one of this program.
    private var lastCall: (function: ByteBuffer, isSwift: Bool)?
    /// Requests whose functions wait for other tasks, by the number of the call.
    private var aside: [Int: OpenRequest] = [:]
    /// The request whose function has its turn, in a worker without a thread: it takes no other meanwhile.
    private var turning: (request: OpenRequest, call: AsyncCall)?

    /// A request that was begun and is not answered.
    private struct OpenRequest {
        let message: Message
        let metadata: RequestMetadata.ForEngine
        let channel: EngineChannel
        let started: WireDate
        let taken: NIODeadline
        /// When its last turn began, and how long its earlier turns were in all, in nanoseconds.
        var turn: NIODeadline
        var earlierWork: Int64 = 0
        /// The called function and its arguments; nil until an asynchronous function has begun.
        var called: CalledFunction?

        init(_ message: Message, _ metadata: RequestMetadata.ForEngine, on channel: EngineChannel, taken: NIODeadline) {
            self.message = message
            self.metadata = metadata
            self.channel = channel
            self.started = .now
            self.taken = taken
            self.turn = taken
        }

        /// How long its turns were in all, in microseconds.
        var work: Int { Int((self.earlierWork + (NIODeadline.now() - self.turn).nanoseconds) / 1000) }
    }

    private init(_ setup: WorkSetup, _ context: EngineContext) {
        self.setup = setup
        self.context = context
        self.messages = EngineMessages(engineID: setup.engineID, uuid: setup.uuid, signer: setup.signer)
        self.caller = FunctionCaller(lookUp: setup.options.lookUp, namespace: setup.namespace, context: context)
    }

    /// Starts the worker's thread, which ends when the exchange is closed, and then calls `whenEnded`.
    static func start(_ setup: WorkSetup, whenEnded: @escaping @Sendable () -> Void) {
        if let pace = setup.options.pace {
            let worker = RequestWorker(setup, Self.context(setup))
            return PacedWorker(worker, setup.exchange, setup.calls, pace, whenEnded: whenEnded).start()
        }
        let thread = Thread {
            // A stack for signals, so that an endless recursion, which leaves no other stack, can be reported.
            if setup.options.ownsProcess { apus_use_signal_stack() }
            let context = Self.context(setup)
            // Bound once for the thread and not for each task.
            EngineContext.$current.withValue(context) {
                var worker = RequestWorker(setup, context)
                worker.run()
            }
            whenEnded()
        }
        thread.name = "apus-worker"
        // The stack size that a main thread usually has.
        thread.stackSize = 8 << 20
        thread.start()
    }

    private static func context(_ setup: WorkSetup) -> EngineContext {
        var context = EngineContext(engineID: setup.engineID.number, uuid: setup.uuid.text, namespace: setup.namespace)
        context.engine = setup.access
        return context
    }

    private mutating func run() {
        while let work = self.setup.exchange.next(sending: &self.outgoing) { self.perform(work) }
        self.setup.calls.abandon()
    }

    private mutating func perform(_ work: WorkExchange.Work) {
        switch work {
        case .request(let request, let mayBeAborted):
            do { try self.answer(request, mayBeAborted) } catch { self.setup.noteProblem("a request was dropped: \(error)") }
        case .call(let number): self.takeUp(number)
        }
    }

    /// Hands over the last request's messages and takes the next work, for a worker without a thread.
    mutating func step() -> WorkExchange.Step {
        if self.turning != nil { return .sleep }
        let step = self.setup.exchange.step(sending: &self.outgoing)
        if case .end = step { self.setup.calls.abandon() }
        return step
    }

    /// The function that has its turn has given it up, or ended, for a worker without a thread.
    mutating func endTurn() {
        guard let (request, call) = self.turning else { return }
        self.turning = nil
        self.settle(request, call, call.turnEnd)
    }

    /// Does work that was taken, for a worker without a thread.
    mutating func turn(_ work: WorkExchange.Work) { EngineContext.$current.withValue(self.context) { self.perform(work) } }

    // MARK: One request

    private mutating func answer(_ request: IncomingRequest, _ mayBeAborted: Bool) throws(WireError) {
        let taken = NIODeadline.now()
        var message = try Message(frames: request.frames)
        guard self.setup.signer.accepts(message.signature, for: message.parts) else { throw WireError("its signature is wrong") }
        guard self.setup.replays.remember(message.signature) else {
            throw WireError("its signature was here before")
        }
        let type = try MessageType(scanning: message.header)
        let metadata = try RequestMetadata.ForEngine(scanning: message.metadata)
        if mayBeAborted, let id = MessageHeader.messageID(scanning: message.header), self.setup.exchange.consumeAbortion(of: id) {
            self.outgoing += self.messages.abortion(of: message, type: type, metadata, on: request.channel)
            return
        }
        var problem = request.problem.map { WireError($0) }
        if problem == nil, let shared = metadata.shared { do { message = try message.mapping(shared) } catch { problem = error } }
        if problem == nil, let kernel = self.setup.kernel, !self.isSwiftCall(message, type, metadata) {
            // The kernel sends all messages of this request, so those of earlier requests go first.
            self.setup.exchange.send(&self.outgoing)
            if kernel.run(message, type: type, metadata, on: request.channel) { try self.abortCells() }
            return
        }
        if !metadata.isQuiet {
            // Sent at once: output that is published while the function runs must not overtake the status.
            self.outgoing.append(self.messages.status(.busy, parent: message.header))
            self.setup.exchange.send(&self.outgoing)
        }
        if let problem {
            self.refuse(message, type, metadata, on: request.channel, EngineTaskError(.engineError, "\(problem)"))
            if !metadata.isQuiet { self.outgoing.append(self.messages.status(.idle, parent: message.header)) }
            return
        }
        switch type {
        case .applyRequest: return self.apply(OpenRequest(message, metadata, on: request.channel, taken: taken))
        case .executeRequest: self.refuse(message, type, metadata, on: request.channel, self.noPython)
        default:
            if let content = self.messages.content(forKernelRequest: type, message.content) {
                self.outgoing.append(self.messages.reply(type.reply, to: message, on: request.channel, content: content))
            }
        }
        if !metadata.isQuiet { self.outgoing.append(self.messages.status(.idle, parent: message.header)) }
    }

    /// Whether the request calls a function of this program. On an engine with Python all other requests go to Python.
    private mutating func isSwiftCall(_ message: Message, _ type: MessageType, _ metadata: RequestMetadata.ForEngine) -> Bool {
        guard type == .applyRequest, let function = message.buffers.first else { return false }
        if metadata.build != nil { return true }
        // Swift functions are called by name, and the pickle of a name is short.
        guard function.readableBytes < 512 else { return false }
        // Consecutive tasks usually call the same function, so the last decision is kept.
        if let last = self.lastCall, last.function == function { return last.isSwift }
        var buffers = message.buffers.prefix(1)
        let name = (try? ObjectBuffers.deserialize(&buffers))?.referenceName
        let isSwift = name.map { (try? self.setup.options.lookUp($0)) != nil } ?? false
        self.lastCall = (function, isSwift)
        return isSwift
    }

    /// Answers as aborted the cells that wait behind one that failed: they were sent to run after its success.
    private mutating func abortCells() throws(WireError) {
        for request in self.setup.exchange.takeOut(where: { $0.type == .executeRequest }) {
            let message = try Message(frames: request.frames)
            guard self.setup.signer.accepts(message.signature, for: message.parts),
                self.setup.replays.remember(message.signature)
            else { throw WireError("an aborted request's signature is wrong") }
            let metadata = try RequestMetadata.ForEngine(scanning: message.metadata)
            self.outgoing += self.messages.abortion(of: message, type: .executeRequest, metadata, on: request.channel)
        }
    }

    private static let okContent = ByteBuffer(string: "{\"status\": \"ok\"}")

    private mutating func apply(_ request: OpenRequest) {
        self.setup.options.capture?.begin(parent: request.message.header)
        self.caller.begin()
        do {
            if let build = request.metadata.build, build != self.setup.options.build { throw self.otherBuild(build) }
            let payload = try ApplyPayload(decoding: request.message.buffers)
            switch try self.caller.run(payload, request.metadata) {
            case .value(let value): self.finish(request, .success(value))
            case .pending(let rest): self.begin(request, rest)
            }
        } catch {
            self.finish(request, .failure(error))
        }
    }

    // MARK: Asynchronous functions

    private mutating func begin(_ request: OpenRequest, _ body: @escaping @Sendable () async throws -> PickleValue) {
        let id = MessageHeader.messageID(scanning: request.message.header)
        let call = self.setup.calls.add(for: id)
        // From here on an interrupt finds the call. An abort that came after the request had left the queue is seen now.
        if let id, self.setup.exchange.consumeAbortion(of: id) {
            self.setup.calls.remove(call)
            _ = self.setup.options.capture?.end(&self.outgoing)
            self.outgoing += self.messages.abortion(
                of: request.message, type: .applyRequest, request.metadata, on: request.channel)
            return
        }
        var context = self.context
        context.turn = call
        context.depth = request.metadata.depth
        let end = call.begin(limit: request.metadata.limit) { [context] in
            try await EngineContext.$current.withValue(context) { try await body() }
        }
        var request = request
        request.called = self.caller.called
        self.settle(request, call, end)
    }

    /// Goes on with a request whose function wants its turn again.
    private mutating func takeUp(_ number: Int) {
        guard var request = self.aside.removeValue(forKey: number), let call = self.setup.calls.call(number) else { return }
        request.turn = .now()
        switch call.takeUp() {
        case .notNow: self.aside[number] = request
        case .ended(let outcome):
            self.setup.options.capture?.resume(parent: request.message.header)
            self.settle(request, call, .ended(outcome))
        case .turn(let continuation):
            self.setup.options.capture?.resume(parent: request.message.header)
            self.tell(request, waits: false)
            self.setup.exchange.send(&self.outgoing)
            self.settle(request, call, call.goOn(continuation))
        }
    }

    /// Answers the request, or sets it aside while its function waits for other tasks.
    private mutating func settle(_ request: OpenRequest, _ call: AsyncCall, _ end: AsyncCall.TurnEnd?) {
        switch end {
        case nil: self.turning = (request, call)
        case .ended(let outcome):
            self.setup.exchange.noteAnswering(MessageHeader.messageID(scanning: request.message.header))
            self.setup.calls.remove(call)
            self.finish(request, outcome)
        case .aside:
            var request = request
            request.earlierWork += (NIODeadline.now() - request.turn).nanoseconds
            self.setup.options.capture?.pause(&self.outgoing)
            self.tell(request, waits: true)
            self.aside[call.number] = request
        }
    }

    /// Tells the task scheduler that a task waits, so that the engine has room, or goes on. The scheduler does not know direct
    /// requests.
    private mutating func tell(_ request: OpenRequest, waits: Bool) {
        guard self.setup.tellsWaits, request.channel == .task,
            let id = MessageHeader.messageID(scanning: request.message.header)
        else { return }
        self.outgoing.append(self.messages.waitNotice(of: id, waits: waits))
    }

    // MARK: Answers

    private mutating func finish(_ request: OpenRequest, _ outcome: Result<PickleValue, any Error>) {
        let (message, metadata) = (request.message, request.metadata)
        var outputs = self.setup.options.capture?.end(&self.outgoing) ?? 0
        do {
            let value = try outcome.get()
            if let limit = metadata.limit { try self.checkTime(of: request, limit) }
            let replyMetadata = metadata.reply(
                .ok, by: self.messages.engine, started: request.started, outputs: outputs, work: request.work,
                calls: metadata.slice == nil ? nil : (try? value.elements())?.count)
            self.outgoing.append(
                self.messages.reply(
                    .applyReply, to: message, on: request.channel, metadata: replyMetadata, content: Self.okContent,
                    buffers: ObjectBuffers.serialize(value)))
        } catch {
            let calls = error as? FailedCalls
            let content = calls?.content(by: self.messages) ?? self.content(of: error, request.called ?? self.caller.called)
            self.outgoing.append(self.messages.error(content, parent: message.header))
            outputs += 1
            let replyMetadata = metadata.reply(
                .error, by: self.messages.engine, started: request.started,
                meetsDependencies: content.name != ErrorName.unmetDependency.rawValue || error is any RelayedError,
                outputs: outputs, work: request.work, calls: metadata.slice == nil ? nil : calls?.results.count)
            self.outgoing.append(
                self.messages.reply(
                    .applyReply, to: message, on: request.channel, metadata: replyMetadata,
                    content: JSONValue.object(content.json).packed))
        }
        if !metadata.isQuiet { self.outgoing.append(self.messages.status(.idle, parent: message.header)) }
    }

    private func content(of error: any Error, _ called: CalledFunction?) -> ErrorContent {
        ErrorContent(
            error, method: "apply", function: called?.function, arguments: called?.arguments ?? [], by: self.messages)
    }

    /// Throws if the function has passed its limit. An asynchronous function is cancelled at its limit; any other can only be
    /// checked when it has ended. The time that a function waits counts.
    private func checkTime(of request: OpenRequest, _ limit: Double) throws {
        let seconds = Double((NIODeadline.now() - request.taken).nanoseconds / 1000) / 1_000_000
        guard seconds > limit else { return }
        throw EngineTaskError(
            .runLimitExceeded,
            "the function ran \(seconds) s, longer than its limit of \(limit) s, and its result was dropped. Only an 'async' function "
                + "that heeds cancellation can be stopped at its limit")
    }

    private func otherBuild(_ build: String) -> EngineTaskError {
        EngineTaskError(
            .functionNotFound,
            "engine \(self.setup.engineID) is another build of the program (\(self.setup.options.build.prefix(12))) than the one that "
                + "asks (\(build.prefix(12))). Restart the engines with the new executable")
    }

    private var noPython: EngineTaskError {
        EngineTaskError(
            .notImplementedError,
            "engine \(self.setup.engineID) runs Swift functions; source text runs on Python engines. Call a function by its name instead, "
                + "or load a compiled module (loadModule)"
        )
    }

    /// Answers a request that cannot be begun with an error.
    private mutating func refuse(
        _ message: Message, _ type: MessageType, _ metadata: RequestMetadata.ForEngine, on channel: EngineChannel,
        _ error: EngineTaskError
    ) {
        let started = WireDate.now
        let isExecute = type == .executeRequest
        let content = ErrorContent(
            error, method: isExecute ? "execute" : "apply", function: nil, arguments: [], by: self.messages)
        self.outgoing.append(self.messages.error(content, parent: message.header))
        let members: JSONObject = isExecute ? ["execution_count": 0, "user_expressions": [:], "payload": []] : [:]
        let replyMetadata = metadata.reply(
            .error, by: self.messages.engine, started: started, outputs: 1)
        self.outgoing.append(
            self.messages.reply(
                type.reply, to: message, on: channel, metadata: replyMetadata,
                content: JSONValue.object(content.json.merging(members) { $1 }).packed))
    }
}

/// The replay memory of the request channels, which the event loop uses too, for requests that it aborts.
final class SharedReplayMemory: Sendable {
    private let memory = Mutex(ReplayMemory())

    /// Remembers a verified signature. False when the signature was remembered already.
    func remember(_ signature: ByteBuffer) -> Bool { self.memory.withLock { $0.remember(signature) } }
}

extension MessageType {
    /// Reads the message type from a packed header.
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
    /// The messages that answer a request which must not start: statuses and the aborted reply.
    mutating func abortion(
        of message: Message, type: MessageType, _ metadata: RequestMetadata.ForEngine, on channel: EngineChannel
    ) -> [OutgoingMessage] {
        guard type.isAnswered else { return [] }
        let reply = self.reply(
            type.reply, to: message, on: channel,
            metadata: metadata.reply(.aborted, by: self.engine, started: .now, outputs: 0),
            content: ByteBuffer(string: "{\"status\": \"aborted\"}"))
        if metadata.isQuiet { return [reply] }
        return [self.status(.busy, parent: message.header), reply, self.status(.idle, parent: message.header)]
    }

    /// The content that answers a Jupyter request which runs nothing; nil for a request that gets no answer.
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
