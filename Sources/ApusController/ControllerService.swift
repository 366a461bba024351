package import ApusCore
package import ApusStore
package import ApusTransport
package import ApusWire
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
    /// Accepted engines that are not yet known to be reachable.
    var expectedHearts: Set<EngineUUID> = []
    /// Registered engines whose processes have ended, as their launcher says.
    var endedProcesses: Set<EngineUUID> = []
    /// Where the answer to a registration goes, while it is being decided.
    var registrations: [EngineUUID: [ByteBuffer]] = [:]
    var registryTimer: Scheduled<Void>?
    /// The function that was called last, as it is sent, and what it needs; nil if that is up to its arguments.
    var lastCall: (function: ByteBuffer, need: TaskNeed?)?
    /// Engines announced of late, oldest first, and when.
    var announcements: [(engine: EngineRegistry.Engine, time: NIODeadline)] = []
    /// Told who is registered whenever that changes, for the engines file.
    let onStateChange: (@Sendable (EngineRegistry.State) -> Void)?
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

    /// What each role has seen, so that a message played again changes nothing.
    var hubReplay = ReplayMemory()
    var taskReplay = ReplayMemory()
    var muxReplay = ReplayMemory()
    var muxReplyReplay = ReplayMemory()
    var broadcastReplay = ReplayMemory()
    /// Messages that were malformed or not signed with our key.
    package private(set) var badMessages = 0

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
        self.registry = EngineRegistry(
            heartbeatPeriod: .milliseconds(options.heartbeatPeriod),
            registrationTimeout: options.registrationTimeout.map { .seconds($0) })
        self.heart = HeartMonitor(period: .milliseconds(options.heartbeatPeriod), allowedMisses: options.maximumMisses)
        self.scheme = TaskScheme(options.scheme)
        self.scheduler = TaskScheduler(self.scheme.configuration(highWaterMark: options.highWaterMark))
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
        for leaf in 0..<(1 << self.options.broadcastDepth) { leafPorts.append(try await self.bindLeaf(leaf, &pools)) }
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
        let socket = self.transport.makeSocket(
            name.role, options: SocketOptions(identity: ByteBuffer(string: name.identity)), on: self.eventLoop
        ) { [weak self] event in
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

    private func bindLeaf(_ leaf: Int, _ pools: inout PortPools) async throws -> Int {
        let identity = ByteBuffer(string: "sub_scheduler_\(leaf)")
        let socket = self.transport.makeSocket(.router, options: SocketOptions(identity: identity), on: self.eventLoop) {
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
            switch socket {
            case .registration: for frames in messages { self.takeHubRequest(frames) }
            case .heartbeatPong: for frames in messages { self.takePong(frames) }
            case .muxClient: for frames in messages { self.relayRequest(frames, to: .muxEngine) }
            case .muxEngine: for frames in messages { self.relayReply(frames, to: .muxClient) }
            case .controlClient: for frames in messages { self.relayRequest(frames, to: .controlEngine) }
            case .controlEngine: for frames in messages { self.relayReply(frames, to: .controlClient) }
            case .taskClient: for frames in messages { self.takeTask(frames) }
            case .taskEngine: for frames in messages { self.takeTaskReply(frames) }
            case .iopubEngine: for frames in messages { self.relayOutput(frames) }
            case .broadcastClient: for frames in messages { self.takeBroadcast(frames) }
            case .notification, .heartbeatPing, .iopubClient: break
            }
            self.flushSockets()
            self.scheduleFlush()
        case .peerConnected where socket == .notification: self.announceAgain()
        case .peerConnected(let identity): self.noteConnection(identity, at: socket)
        case .peerDisconnected(let identity): self.noteDisconnection(identity, at: socket)
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "\(socket)"])
        }
    }

    /// Lets what was sent leave now, not at the end of the loop's turn.
    func flushSockets() {
        for socket in self.sockets.values { socket.flush() }
        for socket in self.broadcastLeaves { socket.flush() }
    }

    func send(_ frames: [ByteBuffer], on socket: ControllerSocket) { self.sockets[socket]?.send(frames) }

    /// The message, or nil when it is malformed, unsigned or played again: it is then counted, logged and dropped, never answered.
    func accept(_ frames: [ByteBuffer], at socket: ControllerSocket) -> Message? {
        do {
            let message = try Message(frames: frames)
            guard self.session.signer.accepts(message.signature, for: message.parts) else {
                throw WireError("its signature is wrong")
            }
            return message
        } catch {
            self.dropped("\(error)", at: socket)
            return nil
        }
    }

    func dropped(_ reason: String, at socket: ControllerSocket) {
        self.badMessages += 1
        // Whoever can reach the port can send rubbish; the log must not be theirs to fill.
        if self.badMessages.nonzeroBitCount == 1 {
            self.logger.warning(
                "dropped a message: \(reason)", metadata: ["socket": "\(socket)", "dropped": "\(self.badMessages)"])
        }
    }

    var now: MonotonicTime { MonotonicTime(nanoseconds: self.eventLoop.now.uptimeNanoseconds) }
}
