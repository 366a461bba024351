package import ApusCore
package import ApusStore
package import ApusTransport
package import ApusWire
import DequeModule
package import Logging
package import NIOCore

/// The controller: hub and schedulers of one cluster, on one event loop.
///
/// Decisions are made by the cores that it holds; it owns the sockets, gives the cores what comes in and does what they say,
/// without suspending between an event and its last effect.
package actor ControllerService {
    /// The loop that our sockets live on; being isolated to this actor means being on it.
    nonisolated let eventLoop: any EventLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor { self.eventLoop.executor.asUnownedSerialExecutor() }

    nonisolated let options: ControllerOptions
    nonisolated let logger: Logger
    private let transport: any Transport
    let store: any TaskStore

    // MARK: Identity

    let key: String
    var session: Session
    private(set) var clientInfo: ClientConnectionInfo?
    private(set) var engineInfo: EngineConnectionInfo?

    // MARK: Sockets

    var sockets: [ControllerSocket: any TransportSocket] = [:]
    var broadcastLeaves: [any TransportSocket] = []

    // MARK: Hub

    var registry: EngineRegistry
    var heart: HeartMonitor
    var direct = DirectQueues()
    /// Large buffers that engines map, until they have answered.
    var lent: [TaskID: SharedBuffers] = [:]
    /// The identity frame of each registered engine, and what it can do.
    var engines: [EngineUUID: KnownEngine] = [:]
    /// Which sockets each identity is connected to now: an engine whose last connection has gone is dead.
    var connections: [EngineUUID: Set<ControllerSocket>] = [:]
    /// Looks whether an engine is gone that has just lost the connections of its shell, and may be back in a moment.
    var partings: [EngineUUID: [Scheduled<Void>]] = [:]
    /// How often a heart that belongs to no engine has beaten since it connected.
    var strangers: [EngineUUID: Int] = [:]
    /// Accepted engines that are not yet known to be reachable.
    var expectedHearts: Set<EngineUUID> = []
    /// Where the answer to a registration goes, while it is being decided.
    var registrations: [EngineUUID: [ByteBuffer]] = [:]
    var registryTimer: Scheduled<Void>?
    /// The function that was called last, as it is sent, and what it needs; nil if that is up to its arguments.
    var lastCall: (function: ByteBuffer, need: TaskNeed?)?
    /// Engines announced of late, oldest first, and when. Some may be gone again.
    var announcements: Deque<(engine: EngineRegistry.Engine, time: NIODeadline)> = []
    /// Notifications that wait for answers to be there before them, oldest first; soon published.
    var laterNotices: [Message] = []
    /// Called with the registered engines soon after one came or went, for the engines file; once for many that come together.
    let onStateChange: (@Sendable (EngineRegistry.State) -> Void)?
    var stateIsUnsaved = false
    /// Called when an engine comes or goes, for those who launched it.
    let onPresence: (@Sendable (EnginePresence) -> Void)?
    /// Changes to the records since they were last handed to the store.
    var changes: [TaskChange] = []
    var flushIsScheduled = false
    /// Answers that a store which lasts has yet to keep what they say.
    var heldAnswers: [(frames: [ByteBuffer], socket: ControllerSocket)] = []
    /// Waits for the store with the answers that were held when it began; nil while none are.
    var storing: Task<Void, Never>?
    /// Whether clients are not read from because the store is behind.
    var clientsArePaused = false
    /// Requests that are being resubmitted: their replies go to nobody.
    var resubmitted: Set<TaskID> = []

    // MARK: Tasks

    nonisolated let scheme: TaskScheme
    var scheduler: TaskScheduler
    var effects: [TaskScheduler.Effect] = []
    var live: [TaskID: LiveTask] = [:]
    /// Results that live tasks take for arguments, by the task that gives them.
    var wanted: [TaskID: WantedResult] = [:]
    /// What the scheduler is to be told when it has been heard out: an effect is no place for an event.
    var followUps: [TaskScheduler.Event] = []
    /// The reply that the scheduler is being told of, which it may want relayed.
    var currentReply: (message: Message, engine: ByteBuffer)?
    /// Why tasks failed, for those that depend on them.
    var failures = RecentFailures()
    var schedulerTimer: Scheduled<Void>?
    /// Numbers for clients, by their identity at the task socket.
    var clientNumbers: [ByteBuffer: Int] = [:]
    /// Counts up, so that no number is ever given to two clients.
    var lastClientNumber = 0

    // MARK: Broadcast

    var broadcast = BroadcastScheduler()
    /// At which of the engine-side ports an engine is connected.
    var leaves: [EngineUUID: Int] = [:]
    var openBroadcasts: [MessageID: OpenBroadcast] = [:]

    /// Checks all that comes in.
    var gate: Gate
    /// Messages that were malformed, not signed with our key, at the wrong port, or played again.
    package var badMessages: Int { self.gate.dropped }

    private let ended: AsyncStream<Void>
    private let endContinuation: AsyncStream<Void>.Continuation

    struct KnownEngine {
        let identity: ByteBuffer
        let id: EngineID
        var understandsRecall: Bool
    }

    /// A task between its request and its end.
    struct LiveTask {
        /// The request as it came, behind its client's identity.
        let message: Message
        /// Those of its arguments that are other tasks' results; nil for none.
        let inputs: TaskInputs?
    }

    package init(
        options: ControllerOptions, transport: any Transport, store: any TaskStore, eventLoop: any EventLoop,
        onStateChange: (@Sendable (EngineRegistry.State) -> Void)? = nil,
        onPresence: (@Sendable (EnginePresence) -> Void)? = nil, logger: Logger = Logger(label: "apus.controller")
    ) throws {
        self.options = options
        self.transport = transport
        self.store = store
        self.eventLoop = eventLoop
        self.logger = logger
        self.key = options.key ?? Session.newID()
        self.session = Session(
            id: options.sessionID ?? Session.newID(), username: options.username ?? Session.currentUser,
            signer: try Signer(key: self.key, scheme: options.signatureScheme))
        self.gate = Gate(session: self.session, logger: logger)
        self.registry = EngineRegistry(
            heartbeatPeriod: .milliseconds(options.heartbeatPeriod),
            registrationTimeout: options.registrationTimeout.map { .seconds($0) })
        self.heart = HeartMonitor(period: .milliseconds(options.heartbeatPeriod), allowedMisses: options.maximumMisses)
        self.scheme = TaskScheme(options.scheme)
        self.scheduler = TaskScheduler(self.scheme.configuration(options))
        self.onStateChange = onStateChange
        self.onPresence = onPresence
        (self.ended, self.endContinuation) = AsyncStream.makeStream(of: Void.self)
    }

    // MARK: Life

    /// Binds every socket and gives what the connection files must say.
    ///
    /// - Throws: ``TransportError`` naming the port that cannot be had.
    package func start() async throws -> (client: ClientConnectionInfo, engine: EngineConnectionInfo) {
        var pools = PortPools(self.options)
        var ports: [ControllerSocket: Int] = [:]
        for name in ControllerSocket.bindingOrder { ports[name] = try await self.bind(name, &pools) }
        var leafPorts: [Int] = []
        for leaf in 0..<(1 << min(max(self.options.broadcastDepth, 0), 8)) {
            leafPorts.append(try await self.bindLeaf(leaf, &pools))
        }
        for name in ControllerSocket.clientBindingOrder { ports[name] = try await self.bind(name, &pools) }

        func common(_ address: String, ssh: String) -> ConnectionCommon {
            ConnectionCommon(
                interface: HostAddress.interface(address), registration: ports[.registration] ?? 0, key: self.key,
                signatureScheme: self.options.signatureScheme, location: self.options.location, ssh: ssh)
        }
        let client = ClientConnectionInfo(
            common: common(self.options.clientAddress, ssh: self.options.clientSSH), control: ports[.controlClient] ?? 0,
            mux: ports[.muxClient] ?? 0, task: ports[.taskClient] ?? 0, iopub: ports[.iopubClient] ?? 0,
            notification: ports[.notification] ?? 0, broadcast: ports[.broadcastClient], taskScheme: self.options.scheme)
        let engine = EngineConnectionInfo(
            common: common(self.options.engineAddress, ssh: self.options.engineSSH), control: ports[.controlEngine] ?? 0,
            mux: ports[.muxEngine] ?? 0, task: ports[.taskEngine] ?? 0, iopub: ports[.iopubEngine] ?? 0,
            heartbeatPing: ports[.heartbeatPing] ?? 0, heartbeatPong: ports[.heartbeatPong] ?? 0, broadcast: leafPorts)
        self.clientInfo = client
        self.engineInfo = engine
        self.beat()
        return (client, engine)
    }

    private func bind(_ name: ControllerSocket, _ pools: inout PortPools) async throws -> Int {
        let socket = self.transport.makeSocket(name.role, options: self.socketOptions(name, name.identity), on: self.eventLoop) {
            [weak self] event in
            self?.assumeIsolated { $0.handle(event, at: name) }
        }
        self.sockets[name] = socket
        // Both sides register at one port, so a machine with an address for each is listened to on all.
        let (engines, clients) = (self.options.engineAddress, self.options.clientAddress)
        let sharesRegistration = name == .registration && clients != engines
        // Where either is an IPv6 address, all includes those.
        let all = (engines + clients).contains(":") ? "::" : "*"
        let address = sharesRegistration ? all : name.isForEngines ? engines : clients
        return try await socket.bind(to: Endpoint(host: address, port: pools.next(forEngines: name.isForEngines))).port
    }

    /// What a socket takes of its peers, and how long it bears with one that does not read.
    private func socketOptions(_ name: ControllerSocket, _ identity: String) -> SocketOptions {
        var options = SocketOptions(identity: ByteBuffer(string: identity))
        if name == .heartbeatPong {
            // A time in digits and a signature.
            options.limits = MessageLimits(known: Self.largestPong, strangers: Self.largestPong) { _ in false }
        } else {
            let largest = self.options.maximumMessageSize ?? MessageSize.standard
            options.limits = MessageLimits(known: largest, strangers: MessageSize.strangers) { [weak self] frames in
                self?.assumeIsolated { $0.gate.areKnown(frames) } ?? false
            }
        }
        if !name.isForEngines || name == .registration {
            options.unreadByteLimit = self.options.maximumUnread ?? MessageSize.unread
        }
        return options
    }

    private static let largestPong = 1024

    private func bindLeaf(_ leaf: Int, _ pools: inout PortPools) async throws -> Int {
        let options = self.socketOptions(.broadcastEngine, "sub_scheduler_\(leaf)")
        let socket = self.transport.makeSocket(.router, options: options, on: self.eventLoop) {
            [weak self] event in
            self?.assumeIsolated { $0.handleBroadcast(event, leaf: leaf) }
        }
        self.broadcastLeaves.append(socket)
        return try await socket.bind(to: Endpoint(host: self.options.engineAddress, port: pools.next(forEngines: true))).port
    }

    /// Serves until shut down or cancelled; the sockets are closed when it returns.
    package func run() async throws {
        await withTaskCancellationHandler {
            for await _ in self.ended {}
        } onCancel: {
            self.endContinuation.finish()
        }
        await self.close()
    }

    /// Makes ``run()`` return.
    package nonisolated func stop() { self.endContinuation.finish() }

    private func close() async {
        self.saveState()
        self.flushChanges()
        await self.storing?.value
        await self.releaseEveryAnswer()
        for socket in Array(self.sockets.values) + self.broadcastLeaves { await socket.close(linger: .milliseconds(300)) }
        self.sockets = [:]
        self.broadcastLeaves = []
        do { try await self.store.close() } catch { self.logger.error("the task database did not close: \(error)") }
    }

    // MARK: Events

    private func handle(_ event: SocketEvent, at socket: ControllerSocket) {
        switch event {
        case .received(let messages):
            for frames in messages { self.take(frames, at: socket) }
            self.flushSockets()
            self.scheduleFlush()
        case .tooLarge(let frames, let limit): self.refuseTooLarge(frames, limit: limit, at: socket)
        case .peerConnected where socket == .notification: self.announceAgain()
        case .peerConnected(let identity): self.noteConnection(identity, at: socket)
        case .peerDisconnected(let identity): self.noteDisconnection(identity, at: socket)
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "\(socket)"])
        }
    }

    /// Passes what the gate lets in to whom it concerns.
    func take(_ frames: [ByteBuffer], at socket: ControllerSocket) {
        switch socket {
        case .heartbeatPong: self.takePong(frames)
        case .registration, .muxClient, .controlClient, .taskClient, .broadcastClient:
            guard let request = self.gate.request(frames, at: socket) else { return }
            switch socket {
            case .registration: self.takeHubRequest(request)
            case .muxClient: self.relayRequest(request, to: .muxEngine)
            case .controlClient: self.relayRequest(request, to: .controlEngine)
            case .taskClient: self.takeTask(request)
            default: self.takeBroadcast(request)
            }
        case .muxEngine, .controlEngine, .taskEngine, .iopubEngine, .broadcastEngine:
            guard let message = self.gate.message(frames, at: socket) else { return }
            self.take(message, at: socket)
        case .notification, .heartbeatPing, .iopubClient: break
        }
    }

    /// Takes what an engine has sent.
    func take(_ message: VerifiedMessage, at socket: ControllerSocket) {
        switch socket {
        case .muxEngine: self.relayReply(message, to: .muxClient)
        case .controlEngine: self.relayReply(message, to: .controlClient)
        case .taskEngine: self.takeTaskReply(message)
        case .iopubEngine: self.relayOutput(message)
        default: self.takeBroadcastReply(message)
        }
    }

    /// Lets what was sent leave now, not at the end of the loop's turn.
    func flushSockets() {
        for socket in self.sockets.values { socket.flush() }
        for socket in self.broadcastLeaves { socket.flush() }
    }

    func send(_ frames: [ByteBuffer], on socket: ControllerSocket) { self.sockets[socket]?.send(frames) }

    /// Signs a client's request anew for an engine.
    func signedAgain(_ parts: MessageParts, identities: [ByteBuffer], buffers: [ByteBuffer]) -> Message {
        let message = self.session.signed(parts, identities: identities, buffers: buffers)
        self.gate.remember(own: message)
        return message
    }

    func dropped(_ reason: String, at socket: ControllerSocket) { self.gate.drop(reason, at: socket) }

    var now: MonotonicTime { MonotonicTime(nanoseconds: self.eventLoop.now.uptimeNanoseconds) }
}
