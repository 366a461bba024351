package import ApusCore
import ApusFunctions
package import ApusTransport
package import ApusWire
package import Logging
import MemoryFiles
package import NIOCore

/// An engine: registers with a controller, answers the controller's heartbeat and runs the requests that come.
///
/// The service owns the sockets and runs on their event loop; requests run on a thread of their own. The service lives as long as
/// ``run()``.
package actor EngineService {
    /// The loop that owns our sockets; being isolated to this actor means being on it.
    private let eventLoop: any EventLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor { self.eventLoop.executor.asUnownedSerialExecutor() }

    /// The engine's name on the wire.
    package nonisolated var uuid: EngineUUID { self.options.uuid }

    /// Where the hub is, for messages to people.
    package nonisolated var address: String { "\(self.host):\(self.connection.common.registration)" }

    private let connection: EngineConnectionInfo
    private let host: String
    private let transport: any Transport
    private let options: EngineOptions
    private var logger: Logger
    private let signer: Signer

    private var core: EngineSession
    /// Makes the messages that need no engine id: registration, functions, the end of the process.
    private var session: Session
    private var controlReplays = ReplayMemory()
    private var sockets: [EngineChannel: any TransportSocket] = [:]
    private var heart: (ping: any TransportSocket, pong: any TransportSocket)?
    /// Whether the controller wants the answers to its pings signed; ipyparallel's controller wants the ping's text alone.
    private var signsHeart = false
    private var registrar: (any TransportSocket)?
    /// Callers that wait for the hub's answer, by the message id of their request.
    private var questions: [MessageID: CheckedContinuation<Void, any Error>] = [:]
    /// Request and output sockets that have no peer yet.
    private var unconnected: Set<EngineChannel> = []
    private var timers: [EngineSession.Timer: Scheduled<Void>] = [:]
    private var ending: CheckedContinuation<EngineEnding, Never>?
    /// How many messages were dropped so far because something was wrong with them.
    private var problemCount = 0

    /// The id that the hub gave us last.
    private var lastID: EngineID?
    /// Closes the sockets of a registration that is over.
    private var standingDown: Task<Void, Never>?
    /// The functions of libraries that were loaded after the start.
    private var laterFunctions: Set<String> = []

    /// The Python kernel. It is started before registration, because Python takes longer to be up.
    private var kernel: PythonKernel?

    // What exists from registration on.
    private var setup: WorkSetup?
    /// Where clients connect to, as the controller says; nil where it does not.
    private var clientConnection: ClientConnectionInfo?
    private var messages: EngineMessages?
    /// The control request that is being answered.
    private var controlRequest: Message?
    /// A buffer for the worker's messages, kept between uses.
    private var batch: [OutgoingMessage] = []
    /// The last answers, for a controller that takes the place of this one.
    private var sentAnswers = SentAnswers<SentAnswer>()

    /// An answer that has been sent.
    private struct SentAnswer {
        /// The header of the request.
        let parent: ByteBuffer
        /// Nil where the answer is too large to be kept: its buffers may be memory that a client or a kernel shares.
        let message: OutgoingMessage?

        static let largest = 64 << 10
    }
    private var looksAgain = false

    /// - Parameters:
    ///   - host: Where the controller is, as ``HostAddress`` reads it from the connection information.
    ///   - eventLoop: The loop to live on; other services may share it.
    /// - Throws: ``WireError`` when the connection information names a signature scheme that we do not have.
    package init(
        connection: EngineConnectionInfo, host: String, transport: any Transport, eventLoop: any EventLoop,
        options: EngineOptions = EngineOptions(), logger: Logger = Logger(label: "apus.engine")
    ) throws(WireError) {
        self.connection = connection
        self.host = host
        self.transport = transport
        self.eventLoop = eventLoop
        self.options = options
        self.logger = logger
        self.signer = try Signer(key: connection.common.key, scheme: connection.common.signatureScheme)
        self.session = Session(id: options.uuid.text, signer: self.signer)
        var session = options.session
        session.hasKernel = options.python != nil
        self.core = EngineSession(options: session)
    }

    // MARK: Life

    /// Runs the engine until it ends, and says why it ended. Cancelling stops the engine without waiting for running requests.
    @discardableResult
    package func run() async -> EngineEnding {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                self.ending = continuation
                self.startKernel()
                self.handle(Task.isCancelled ? .cancelled : .started)
            }
        } onCancel: {
            self.stop()
        }
    }

    /// Ends the engine without waiting for running requests (SIGTERM).
    package nonisolated func stop() { self.tell(.cancelled) }

    /// Ends the engine because the process that started it is gone.
    package nonisolated func parentIsLost() { self.tell(.parentLost) }

    /// Tells the controller that this process ends, by a crash or a function's `exit`, and how; then calls `goOn`, which lets it
    /// end.
    package nonisolated func processEnds(_ cause: EngineEnd.Cause, goOn: @escaping @Sendable () -> Void) {
        self.eventLoop.execute {
            self.assumeIsolated { $0.tellOfEnd(cause) }
            goOn()
        }
    }

    /// Interrupts the running requests that can be interrupted (SIGINT). Nothing happens when the engine is idle.
    package nonisolated func interrupt() {
        self.eventLoop.execute { self.assumeIsolated { _ = $0.interruptWork() } }
    }

    /// Passes on to Python a signal that this process got, from a launcher for example.
    package nonisolated func pass(signal: Int32) {
        self.eventLoop.execute { self.assumeIsolated { _ = $0.kernel?.signal(signal) } }
    }

    private func startKernel() {
        guard let python = self.options.python, self.kernel == nil else { return }
        let kernel = PythonKernel(python, on: self.eventLoop) { event in
            self.eventLoop.execute { self.assumeIsolated { $0.kernelReports(event) } }
        }
        self.kernel = kernel
        kernel.start()
    }

    private func kernelReports(_ event: PythonKernel.Event) {
        switch event {
        case .ready(let what): self.logger.info("kernel is ready", metadata: ["kernel": "\(what)"])
        case .restarted(let why, let pause):
            let text = pause > .zero ? "a new kernel is started in \(pause)" : "a new kernel is started"
            self.logger.warning("\(text)", metadata: ["why": "\(why)"])
        case .failed(let why): self.handle(.kernelLost(why))
        case .quit: self.handle(.kernelQuit)
        }
    }

    private func tellOfEnd(_ cause: EngineEnd.Cause) {
        guard let setup, let task = self.sockets[.task] else { return }
        var words: [OutgoingMessage] = []
        let lines = self.options.capture?.lastWords(&words) ?? []
        // Finished replies go first, by the same connection: their tasks have ended.
        self.fetch(all: true)
        for outgoing in words { self.send(outgoing) }
        let end = EngineEnd(cause, lastLines: lines, begun: Set(setup.begunRequests))
        task.send(self.session.message(.engineEnded, content: end.json).frames)
        task.flush()
    }

    private nonisolated func tell(_ event: EngineSession.Event) {
        self.eventLoop.execute { self.assumeIsolated { $0.handle(event) } }
    }

    /// Everything this service decides passes here, without suspension.
    private func handle(_ event: EngineSession.Event) {
        for effect in self.core.handle(event) { self.perform(effect) }
    }

    private func perform(_ effect: EngineSession.Effect) {
        switch effect {
        case .sendRegistrationRequest: self.register()
        case .sendUnregistrationRequest(let id): self.unregister(id)
        case .serve(let id): self.serve(as: id)
        case .startHeart: self.startHeart()
        case .startTimer(let timer, let milliseconds): self.start(timer, milliseconds)
        case .stopTimer(let timer): self.timers.removeValue(forKey: timer)?.cancel()
        case .reply(let reply): self.reply(reply)
        case .abort(let abortion): self.abort(abortion)
        case .interruptIfRunning(let ids):
            let meant = Set(ids)
            self.setup?.calls.interrupt(anyOf: meant)
            self.kernel?.interrupt(anyOf: meant)
        case .giveBack(let ids): self.giveBack(ids)
        case .report(let ids): self.report(ids)
        case .clearNamespace:
            self.setup?.namespace.removeAll()
            self.kernel?.clear()
        case .restartKernel: self.kernel?.restart()
        case .interrupt(let kind): self.interrupt(answeringAs: kind)
        case .raiseSignal(let number): self.raise(number)
        case .publishShutdown(let restart):
            if let request = self.controlRequest,
                let output = self.messages?.shutdownOutput(restart: restart, parent: request.header)
            {
                self.send(output)
            }
        case .endWork: self.setup?.exchange.close()
        case .standDown: self.standDown()
        case .finish(let ending): self.finish(ending)
        }
    }

    private func start(_ timer: EngineSession.Timer, _ milliseconds: Int) {
        self.timers.removeValue(forKey: timer)?.cancel()
        self.timers[timer] = self.eventLoop.scheduleTask(in: .milliseconds(Int64(milliseconds))) {
            self.assumeIsolated { $0.handle(.timerFired(timer)) }
        }
    }

    private func finish(_ ending: EngineEnding) {
        let missing: Logger.Metadata = ending == .portsSilent ? ["missing": "\(self.unconnected)"] : [:]
        self.logger.info("engine ends", metadata: ["why": "\(ending)"].merging(missing) { $1 })
        self.fetch(all: true)
        self.setup?.exchange.abandon()
        for id in self.questions.keys { self.giveUp(id, "the engine ends") }
        let sockets = [self.registrar, self.heart?.ping, self.heart?.pong].compactMap { $0 } + self.sockets.values
        for socket in sockets { socket.flush() }
        self.sockets = [:]
        self.heart = nil
        self.registrar = nil
        let continuation = self.ending
        self.ending = nil
        let kernel = self.kernel
        self.kernel = nil
        let access = self.setup?.access
        Task {
            await withTaskGroup { group in
                if let access { group.addTask { await access.close() } }
                if let kernel { group.addTask { await kernel.stop(within: .seconds(2)) } }
                for socket in sockets { group.addTask { await socket.close(linger: .seconds(1)) } }
            }
            continuation?.resume(returning: ending)
        }
    }

    /// Drops the requests and sockets of a registration that the hub has ended: it has given the tasks to other engines.
    private func standDown() {
        self.logger.warning("the controller does not know this engine any more: it drops what it has and registers again")
        let sockets = [self.heart?.ping, self.heart?.pong].compactMap { $0 } + self.sockets.values
        self.sockets = [:]
        self.unconnected = []
        self.heart = nil
        for id in self.questions.keys { self.giveUp(id, "the engine registers again") }
        self.setup?.exchange.abandon()
        self.sentAnswers = SentAnswers()
        _ = self.interruptWork()
        let access = self.setup?.access
        self.standingDown = Task {
            for socket in sockets { await socket.close(linger: .zero) }
        }
        Task { await access?.close() }
    }

    /// Looks for contradictions in what the core and the service keep; for tests. To be called between events.
    package func checkInvariants() throws {
        try self.core.checkInvariants()
        if self.core.engineID == nil, !self.sockets.isEmpty || self.heart != nil {
            throw BrokenInvariant(description: "engine \(self.uuid) has sockets for requests and no id")
        }
        if !self.unconnected.isSubset(of: self.sockets.keys), !self.sockets.isEmpty {
            throw BrokenInvariant(description: "engine \(self.uuid) waits for the connection of a socket that it does not have")
        }
    }

    // MARK: Registration

    private func register() {
        guard let standingDown else { return self.askForRegistration() }
        // A socket that is not closed yet would reconnect under the identity that the next one needs.
        self.standingDown = nil
        Task {
            await standingDown.value
            // The engine may have ended meanwhile.
            if self.core.isRegistering { self.askForRegistration() }
        }
    }

    private func askForRegistration() {
        // An earlier socket waits for an answer that may never come, or is connected to another controller.
        if let silent = self.registrar { Task { await silent.close(linger: .zero) } }
        // Without an identity: a connection of this engine's previous process may still have ours.
        let registrar = self.makeSocket(.dealer, identity: ByteBuffer()) { service, event in
            switch event {
            case .received(let messages): for frames in messages { service.receiveFromHub(frames) }
            case .tooLarge(_, let limit): service.note(MessageSize.refusal(limit: limit))
            case .problem(let problem): service.logger.debug("registration socket", metadata: ["problem": "\(problem)"])
            case .peerConnected, .peerDisconnected: break
            }
        }
        self.registrar = registrar
        registrar.connect(to: self.endpoint(self.connection.common.registration))
        var content: JSONObject = [
            "uuid": .string(self.uuid.text),
            "apus": [
                "recall": true, "reports": true, "python": .bool(self.options.python != nil),
                "functions": JSONValue(self.functionNames), "build": .string(self.options.build),
                "pid": .int(Int(ProcessIdentity.current)), "host": .string(HostAddress.hostName),
                "resources": .object(self.options.resources.mapValues { .double($0) }), "replaces": .bool(self.options.replaces),
                "heart": .string(HeartAnswer.signed.rawValue),
            ],
        ]
        if let place = SharedMemory.place, case .object(var apus) = content["apus"] {
            apus["memory"] = .string(place)
            content["apus"] = .object(apus)
        }
        if let id = self.lastID ?? self.options.wantedID { content["id"] = .int(id.number) }
        registrar.send(self.session.message(.registrationRequest, content: content).frames)
        registrar.flush()
    }

    private func unregister(_ id: EngineID?) {
        let content: JSONObject = ["id": id.map { .int($0.number) } ?? .null]
        self.registrar?.send(self.session.message(.unregistrationRequest, content: content).frames)
        self.registrar?.flush()
    }

    private func receiveFromHub(_ frames: [ByteBuffer]) {
        do {
            let message = try self.verified(frames)
            let content = try JSONValue(parsing: message.content)
            switch try MessageType(scanning: message.header) {
            case .registrationReply where content["status"]?.string == "ok":
                guard let id = content["id"]?.int, id >= 0 else { throw WireError("a registration reply has no id") }
                self.signsHeart = content["apus"]?["heart"]?.string == HeartAnswer.signed.rawValue
                self.clientConnection = ClientConnectionInfo(registrationReply: content, of: self.connection)
                self.handle(.registered(EngineID(id), heartbeatPeriod: content["hb_period"]?.int ?? 3000))
            case .functionsReply: self.answer(message.parent, .success(()))
            case .hubError where self.answer(message.parent, .failure(EngineTaskError(.engineError, ErrorContent(content).value))):
                break
            case .registrationReply, .hubError:
                let error = ErrorContent(content)
                self.handle(.refused("\(error.name): \(error.value)"))
            default: break
            }
        } catch {
            self.note("\(error)")
        }
    }

    /// Tells the hub which functions the engine has besides those of its registration, and waits for the hub's answer.
    private func tell(functions: [String]) async throws {
        self.laterFunctions.formUnion(functions)
        // ipyparallel's controllers do not know which engine has which function.
        guard self.clientConnection != nil, let registrar else { return }
        let content: JSONObject = [
            "uuid": .string(self.uuid.text), "functions": JSONValue(self.functionNames),
        ]
        let id = self.session.nextMessageID()
        try await withCheckedThrowingContinuation { continuation in
            self.questions[id] = continuation
            registrar.send(
                self.session.message(.functionsRequest, id: id, content: JSONValue.object(content).packed).frames)
            registrar.flush()
            self.eventLoop.scheduleTask(in: .seconds(30)) {
                self.assumeIsolated { $0.giveUp(id, "the controller has not answered for 30 seconds") }
            }
        }
    }

    /// All functions that the engine has now.
    private var functionNames: [String] {
        if self.laterFunctions.isEmpty { return self.options.functionNames }
        return self.laterFunctions.union(self.options.functionNames).sorted()
    }

    /// - Parameter parent: The header of the question.
    /// - Returns: Whether a caller has waited for the answer.
    @discardableResult
    private func answer(_ parent: ByteBuffer, _ answer: Result<Void, any Error>) -> Bool {
        guard let id = MessageHeader.messageID(scanning: parent), let question = self.questions.removeValue(forKey: id) else {
            return false
        }
        question.resume(with: answer)
        return true
    }

    private func giveUp(_ id: MessageID, _ why: String) {
        self.questions.removeValue(forKey: id)?.resume(
            throwing: EngineTaskError(.engineError, "the controller was not told of the new functions: \(why)"))
    }

    private func verified(_ frames: [ByteBuffer]) throws(WireError) -> Message {
        let message = try Message(frames: frames)
        guard self.signer.accepts(message.signature, for: message.parts) else { throw WireError("a signature is wrong") }
        guard self.controlReplays.remember(message.signature) else { throw WireError("a signature was here before") }
        return message
    }

    private func note(_ problem: String) {
        self.problemCount += 1
        let level: Logger.Level = self.problemCount == 1 ? .warning : .debug
        self.logger.log(level: level, "a message was dropped", metadata: ["why": "\(problem)", "so far": "\(self.problemCount)"])
    }

    // MARK: Serving

    private func serve(as id: EngineID) {
        self.logger[metadataKey: "engine"] = "\(id)"
        self.lastID = id
        let messages = EngineMessages(engineID: id, uuid: self.uuid, signer: self.signer)
        self.messages = messages
        let exchange = WorkExchange { self.eventLoop.execute { self.assumeIsolated { $0.fetch() } } }
        let setup = WorkSetup(
            engineID: id, uuid: self.uuid, signer: self.signer, options: self.options, exchange: exchange,
            // Values that were pushed here outlive a registration.
            namespace: self.setup?.namespace ?? InMemoryNamespace(),
            calls: AsyncCalls(engineID: id, limit: self.options.waitingLimit) { exchange.wantTurn($0) },
            access: ClusterAccess(connection: self.clientConnection, transport: self.transport, eventLoop: self.eventLoop) {
                try await self.tell(functions: $0)
            },
            // A new replay memory: a task that was dropped when the engine registered again may come again unchanged.
            tellsWaits: self.clientConnection != nil, kernel: self.kernel, replays: SharedReplayMemory(),
            noteProblem: { problem in self.eventLoop.execute { self.assumeIsolated { $0.note(problem) } } })
        self.setup = setup
        self.options.capture?.attach(EngineMessages(engineID: id, uuid: self.uuid, signer: self.signer), exchange)
        self.kernel?.connect(
            EngineMessages(engineID: id, uuid: self.uuid, signer: self.signer), exchange, self.options.capture)
        RequestWorker.start(setup) {
            self.eventLoop.execute {
                self.assumeIsolated { service in
                    service.fetch()
                    service.handle(.workEnded)
                }
            }
        }
        self.open(.control, .dealer, port: self.connection.control)
        self.open(.iopub, .publisher, port: self.connection.iopub)
        self.open(.mux, .dealer, port: self.connection.mux)
        self.open(.task, .dealer, port: self.connection.task)
        if !self.connection.broadcast.isEmpty {
            self.open(.broadcast, .dealer, port: self.connection.broadcast[id.number % self.connection.broadcast.count])
        }
    }

    private func open(_ channel: EngineChannel, _ role: SocketRole, port: Int) {
        let socket = self.makeSocket(role) { service, event in
            switch event {
            case .received(let messages): service.receive(messages, on: channel)
            case .tooLarge(let frames, let limit): service.refuse(frames, limit: limit, on: channel)
            case .peerConnected: service.noteConnection(of: channel)
            case .peerDisconnected:
                guard channel.takesTasks else { break }
                service.sentAnswers.connectionLost(at: MonotonicTime(nanoseconds: NIODeadline.now().uptimeNanoseconds))
            case .problem(let problem): service.logger.debug("\(channel) socket", metadata: ["problem": "\(problem)"])
            }
        }
        self.sockets[channel] = socket
        self.unconnected.insert(channel)
        socket.connect(to: self.endpoint(port))
    }

    private func noteConnection(of channel: EngineChannel) {
        guard self.unconnected.remove(channel) != nil, self.unconnected.isEmpty else { return }
        self.handle(.connected)
    }

    private func startHeart() {
        if let starting = self.messages?.status(.starting, parent: MessageParts.emptyObject) { self.send(starting) }
        let pong = self.makeSocket(.dealer) { _, _ in }
        let ping = self.makeSocket(.subscriber) { service, event in
            guard case .received(let messages) = event else { return }
            // Answered before anything else: the hub gives up an engine that does not answer.
            for frames in messages { pong.send(service.answer(ping: frames)) }
            pong.flush()
            service.handle(.pinged)
        }
        self.heart = (ping, pong)
        pong.connect(to: self.endpoint(self.connection.heartbeatPong))
        ping.connect(to: self.endpoint(self.connection.heartbeatPing))
        // The words of ipyparallel's engines, which people look for in logs.
        self.logger.info(
            "Completed registration with id \(self.core.engineID.map { $0.description } ?? "?")",
            metadata: ["uuid": "\(self.uuid)"])
    }

    /// Has the worker answer a request that is too large with an error; a message of another kind is dropped.
    private func refuse(_ frames: [ByteBuffer], limit: Int, on channel: EngineChannel) {
        let problem = MessageSize.refusal(limit: limit)
        guard channel != .control, channel != .iopub, (try? Message(frames: frames)) != nil else { return self.note(problem) }
        self.setup?.exchange.submit(CollectionOfOne(IncomingRequest(channel: channel, frames: frames, problem: problem)))
    }

    /// The answer to a ping: the ping itself and, if the controller wants it, the engine's signature of the ping.
    private func answer(ping frames: [ByteBuffer]) -> [ByteBuffer] {
        guard self.signsHeart, frames.count == 1 else { return frames }
        return [frames[0], self.signer.heartSignature(of: self.uuid.text, ping: frames[0])]
    }

    private func receive(_ messages: [[ByteBuffer]], on channel: EngineChannel) {
        if channel == .control {
            for frames in messages { self.receiveControl(frames) }
        } else if channel != .iopub {
            self.setup?.exchange.submit(messages.lazy.map { IncomingRequest(channel: channel, frames: $0) })
        }
    }

    /// Sends the messages that the worker and the output reader have handed over.
    private func fetch(all: Bool = false) {
        guard let setup else { return }
        let look = setup.exchange.fetch(into: &self.batch, all: all)
        var used: Set<EngineChannel> = []
        let now = MonotonicTime(nanoseconds: NIODeadline.now().uptimeNanoseconds)
        for outgoing in self.batch {
            self.sockets[outgoing.channel]?.send(outgoing.message.frames)
            used.insert(outgoing.channel)
            if outgoing.channel.takesTasks {
                let size = outgoing.message.byteCount
                let isLarge = size > SentAnswer.largest
                let sent = SentAnswer(parent: outgoing.message.parent, message: isLarge ? nil : outgoing)
                self.sentAnswers.keep(sent, byteCount: isLarge ? sent.parent.readableBytes : size, at: now)
            }
        }
        self.batch.removeAll(keepingCapacity: true)
        // Replies first: clients wait for them.
        for channel in used where channel != .iopub { self.sockets[channel]?.flush() }
        if used.contains(.iopub) { self.sockets[.iopub]?.flush() }
        switch look {
        case .whenWoken: break
        case .soon: self.fetch(in: .microseconds(200))
        case .eventually: self.fetch(in: .milliseconds(1))
        }
    }

    private func fetch(in time: TimeAmount) {
        guard !self.looksAgain else { return }
        self.looksAgain = true
        self.eventLoop.scheduleTask(in: time) {
            self.assumeIsolated { service in
                service.looksAgain = false
                service.fetch(all: true)
            }
        }
    }

    // MARK: Control

    private func receiveControl(_ frames: [ByteBuffer]) {
        do {
            let message = try self.verified(frames)
            let type = try MessageType(scanning: message.header)
            let content = try JSONValue(parsing: message.content)
            // The controller itself sends these; no client waits for their status.
            let isOurs = type == .recallRequest || type == .reportRequest || type == .registerAgainRequest
            let isQuiet = try RequestMetadata.ForEngine(scanning: message.metadata).isQuiet || isOurs
            self.controlRequest = message
            defer { self.controlRequest = nil }
            if !isQuiet { self.publish(.busy, for: message) }
            if let request = ControlRequest(type, content: content) {
                if case .registerAgain(let uuid) = request, uuid != self.uuid { throw WireError("it is for another engine") }
                self.handle(.requested(request))
            }
            if !isQuiet { self.publish(.idle, for: message) }
        } catch {
            self.note("\(error)")
        }
    }

    private func publish(_ state: EngineMessages.ExecutionState, for request: Message) {
        if let status = self.messages?.status(state, parent: request.header) { self.send(status) }
    }

    private func reply(_ reply: ControlReply) {
        switch reply {
        case .ok(let kind): self.reply(kind.type, ["status": "ok"])
        case .error(let kind, let error): self.reply(kind.type, error.json)
        case .shutdown(let restart): self.reply(.shutdownReply, ["status": "ok", "restart": .bool(restart)])
        case .kernelInfo:
            let type = MessageType.kernelInfoRequest
            guard let content = self.messages?.content(forKernelRequest: type, MessageParts.emptyObject) else { return }
            self.reply(type.reply, packed: content)
        }
    }

    private func reply(_ type: MessageType, _ content: JSONObject) { self.reply(type, packed: JSONValue.object(content).packed) }

    private func reply(_ type: MessageType, packed content: ByteBuffer) {
        guard let request = self.controlRequest,
            let reply = self.messages?.reply(type, to: request, on: .control, content: content)
        else { return }
        self.send(reply)
    }

    private func send(_ outgoing: OutgoingMessage) {
        self.sockets[outgoing.channel]?.send(outgoing.message.frames)
        self.sockets[outgoing.channel]?.flush()
    }

    private func abort(_ abortion: Abortion) {
        guard let setup else { return }
        let taken: [IncomingRequest]
        switch abortion {
        case .requests(let ids):
            let meant = Set(ids)
            taken = setup.exchange.takeOut { request in request.messageID.map { meant.contains($0) } ?? false }
            setup.exchange.abortEarly(meant.subtracting(taken.compactMap { $0.messageID }))
        case .queuedExecutes: taken = setup.exchange.takeOut { $0.type == .executeRequest }
        case .everythingQueued: taken = setup.exchange.takeOut { _ in true }
        }
        for request in taken { self.answerAborted(request, setup) }
    }

    private func answerAborted(_ request: IncomingRequest, _ setup: WorkSetup) {
        do {
            let message = try Message(frames: request.frames)
            guard self.signer.accepts(message.signature, for: message.parts), setup.replays.remember(message.signature) else {
                throw WireError("an aborted request's signature is wrong")
            }
            let type = try MessageType(scanning: message.header)
            let metadata = try RequestMetadata.ForEngine(scanning: message.metadata)
            for outgoing in self.messages?.abortion(of: message, type: type, metadata, on: request.channel) ?? [] {
                self.send(outgoing)
            }
        } catch {
            self.note("\(error)")
        }
    }

    private func giveBack(_ ids: [MessageID]) {
        guard let setup else { return }
        let wanted = Set(ids)
        let taken = setup.exchange.takeOut { request in
            // A forged request must not make the scheduler believe that the true one has not started.
            request.messageID.map(wanted.contains) ?? false && self.isSigned(request)
        }
        let given = taken.compactMap { $0.messageID?.text }
        self.reply(.recallReply, ["status": "ok", "msg_ids": JSONValue(given)])
    }

    /// Tells a controller that took the place of another which requests are held here and which of them wait for other tasks, and
    /// repeats answers that the one before may have taken with it.
    private func report(_ ids: [MessageID]) {
        guard let setup else { return }
        let asked = Set(ids)
        // What has been answered and not sent is sent, and so among the answers that are kept.
        self.fetch(all: true)
        // A request that moves on between two looks is found by one of them.
        var held = setup.exchange.held(where: self.isSigned)
        held.formUnion(setup.calls.requests)
        held.formUnion(setup.exchange.held(where: self.isSigned))
        let kept = self.sentAnswers.all.compactMap { answer in
            MessageHeader.messageID(scanning: answer.parent).map { (id: $0, message: answer.message) }
        }
        for (id, message) in kept where asked.contains(id) { if let message { self.send(message) } }
        // Only the controller before this one was told, and tasks of tasks may find no room where those that wait for them count.
        if self.clientConnection != nil {
            for id in setup.calls.waitingRequests {
                if let notice = self.messages?.waitNotice(of: id, waits: true) { self.send(notice) }
            }
        }
        // An answer that cannot be sent again is named as held until the controller asks for it.
        let has = held.union(kept.filter { $0.message != nil || !asked.contains($0.id) }.map(\.id))
        let now = MonotonicTime(nanoseconds: NIODeadline.now().uptimeNanoseconds)
        // A request that is not here never came, or was answered so long ago that its answer is not kept.
        let missing = asked.subtracting(has)
        let lost = self.sentAnswers.isComplete(at: now) ? missing.intersection(kept.map(\.id)) : missing
        let report = EngineReport(asked: asked, has: has, lost: lost)
        self.reply(.reportReply, report.json)
        self.sentAnswers.reported(at: now)
    }

    /// Whether a request that waits is signed with the cluster's key: a forged one must not pass for the true one.
    private func isSigned(_ request: IncomingRequest) -> Bool {
        self.signer.accepts(frames: request.frames)
    }

    private func interrupt(answeringAs kind: ControlReply.Kind) {
        let isInterrupted = self.interruptWork()
        self.reply(kind.type, ["status": "ok", ApusMember.interrupted.description: .bool(isInterrupted)])
    }

    private func interruptWork() -> Bool {
        let isInterrupted = self.setup?.calls.interrupt() ?? false
        return self.kernel?.interrupt() ?? false || isInterrupted
    }

    private func raise(_ signal: Int32) {
        if let kernel {
            _ = kernel.signal(signal)
            return self.reply(.ok(.signal))
        }
        guard self.options.ownsProcess else {
            return self.reply(
                .error(.signal, ErrorContent(.engineError, "this engine is part of a program that signals are not for")))
        }
        self.reply(.ok(.signal))
        ProcessIdentity.raise(signal)
    }

    // MARK: Sockets

    private func makeSocket(
        _ role: SocketRole, identity: ByteBuffer? = nil,
        _ handler: @escaping @Sendable (isolated EngineService, SocketEvent) -> Void
    ) -> any TransportSocket {
        let signer = self.signer
        let largest = self.options.maximumMessageSize ?? MessageSize.standard
        // Only the signature is checked here; a replayed message is refused when it is read.
        let limits = MessageLimits(known: largest, strangers: MessageSize.strangers) { signer.accepts(frames: $0) }
        let options = SocketOptions(identity: identity ?? ByteBuffer(string: self.uuid.text), limits: limits)
        return self.transport.makeSocket(role, options: options, on: self.eventLoop) { event in
            self.assumeIsolated { handler($0, event) }
        }
    }

    private func endpoint(_ port: Int) -> Endpoint { Endpoint(host: self.host, port: port) }
}

extension IncomingRequest {
    /// The request's id, read from the frames at each call: few waiting requests are ever asked for it.
    var messageID: MessageID? {
        (try? Message(frames: self.frames)).flatMap { MessageHeader.messageID(scanning: $0.header) }
    }

    var type: MessageType? {
        (try? Message(frames: self.frames)).flatMap { try? MessageType(scanning: $0.header) }
    }
}
