import ApusTransport
import ApusWire
import NIOCore

/// Many clients and many light engines on one event loop, against a controller in another process.
///
/// The generator checks only as much as it needs to count correctly, so that the controller is measured and not the generator.
actor LoadGenerator {
    private nonisolated let eventLoop: any EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.eventLoop.executor.asUnownedSerialExecutor() }

    private let transport: any Transport
    private let client: ClientConnectionInfo
    private let engine: EngineConnectionInfo
    private let host: String
    private var session: Session

    private var engines: [LightEngine] = []
    /// The controller's ids of engines whose registration was announced, by uuid.
    private var registered: [String: Int] = [:]
    private var wantedEngines = 0
    private var notifications: (any TransportSocket)?
    private var query: (any TransportSocket)?

    private var taskSockets: [any TransportSocket] = []
    private var unsent = 0
    private var unanswered = 0
    private var broadcastSocket: (any TransportSocket)?
    private var unansweredBroadcast = 0
    /// The continuation of the wait under way.
    private var waiter: CheckedContinuation<Void, Never>?
    private(set) var errors = 0

    init(
        _ client: ClientConnectionInfo, _ engine: EngineConnectionInfo, host: String, transport: any Transport,
        eventLoop: any EventLoop
    ) throws {
        self.eventLoop = eventLoop
        self.transport = transport
        self.client = client
        self.engine = engine
        self.host = host
        self.session = Session(signer: try Signer(key: client.common.key, scheme: client.common.signatureScheme))
    }

    private func connect(
        _ role: SocketRole, _ port: Int, identity: String = "",
        _ received: (@Sendable (isolated LoadGenerator, [ByteBuffer]) -> Void)? = nil
    ) -> any TransportSocket {
        let socket = self.transport.makeSocket(
            role, options: SocketOptions(identity: ByteBuffer(string: identity)), on: self.eventLoop
        ) { [weak self] event in
            guard case .received(let messages) = event, let received else { return }
            self?.assumeIsolated { generator in for frames in messages { received(generator, frames) } }
        }
        socket.connect(to: Endpoint(host: self.host, port: port))
        return socket
    }

    private func wait(until isDone: () -> Bool) async {
        if isDone() { return }
        await withCheckedContinuation { self.waiter = $0 }
    }

    private func wake() {
        self.waiter?.resume()
        self.waiter = nil
    }

    // MARK: Engines

    /// Registers engines and returns when the controller has announced all.
    func register(_ count: Int) async {
        self.wantedEngines = count
        self.notifications = self.connect(.subscriber, self.client.notification) { $0.takeNotice($1) }
        // The subscription must have arrived before the first announcement. Nothing reports its arrival; an answered query is the
        // best sign that there is.
        let query = self.connect(.dealer, self.client.common.registration) { generator, _ in generator.wake() }
        self.query = query
        query.send(self.session.message(.connectionRequest, content: [:]).frames)
        query.flush()
        await withCheckedContinuation { self.waiter = $0 }
        for number in 0..<count { self.addEngine(number) }
        await self.wait { self.registered.count >= count }
    }

    private func addEngine(_ number: Int) {
        let uuid = EngineUUID(Session.newID())
        self.engines.append(LightEngine(uuid: uuid))
        let registrar = self.connect(.dealer, self.engine.common.registration, identity: uuid.text) {
            $0.connectEngine(number, $1)
        }
        registrar.send(self.session.message(.registrationRequest, content: LightEngine.registration(uuid)).frames)
        registrar.flush()
        self.engines[number].registrar = registrar
    }

    /// Connects an engine's other sockets, its heart last, when the controller has answered the registration.
    private func connectEngine(_ number: Int, _ frames: [ByteBuffer]) {
        guard let reply = try? Message(frames: frames), let id = (try? JSONValue(parsing: reply.content))?["id"]?.int else {
            self.errors += 1
            return
        }
        let uuid = self.engines[number].uuid.text
        let leaf = self.engine.broadcast.isEmpty ? nil : self.engine.broadcast[id % self.engine.broadcast.count]
        var channels: [(LightEngine.Channel, Int)] = [
            (.mux, self.engine.mux), (.task, self.engine.task), (.control, self.engine.control),
        ]
        if let leaf { channels.append((.broadcast, leaf)) }
        for (channel, port) in channels {
            self.engines[number].shell[channel] = self.connect(.dealer, port, identity: uuid) { $0.answer(number, channel, $1) }
        }
        self.engines[number].silent.append(self.connect(.publisher, self.engine.iopub, identity: uuid))
        self.engines[number].pong = self.connect(.dealer, self.engine.heartbeatPong, identity: uuid)
        self.engines[number].silent.append(
            self.connect(.subscriber, self.engine.heartbeatPing) { generator, ping in
                generator.engines[number].pong?.send(ping)
            })
    }

    private func answer(_ number: Int, _ channel: LightEngine.Channel, _ frames: [ByteBuffer]) {
        guard let request = try? Message(frames: frames),
            let reply = self.engines[number].reply(to: request, from: &self.session, on: channel)
        else {
            self.errors += 1
            return
        }
        self.engines[number].shell[channel]?.send(reply.frames)
    }

    private func takeNotice(_ frames: [ByteBuffer]) {
        guard let notice = try? Message(frames: frames), let content = try? JSONValue(parsing: notice.content),
            let uuid = content["uuid"]?.string, let id = content["id"]?.int
        else { return }
        if notice.header.textMember("msg_type") == MessageType.registrationNotification.rawValue {
            self.registered[uuid] = id
        } else {
            self.errors += 1
        }
        if self.registered.count == self.wantedEngines { self.wake() }
    }

    // MARK: Tasks

    private static let taskMetadata = {
        var metadata = ByteBuffer()
        RequestMetadata.ForScheduler().begin(&metadata)
        RequestMetadata.ForEngine().write(label: nil, into: &metadata)
        metadata.writeStaticString("}")
        return metadata
    }()
    private static let taskBuffers = [ByteBuffer(string: "noop"), ByteBuffer(string: "()")]

    /// Runs tasks and returns when all have been answered; each client keeps `window` tasks under way.
    func run(tasks: Int, clients: Int, window: Int) async {
        if self.taskSockets.count < clients {
            for number in self.taskSockets.count..<clients {
                self.taskSockets.append(self.connect(.dealer, self.client.task) { $0.takeReply($1, client: number) })
            }
        }
        self.unsent = tasks
        self.unanswered = tasks
        for number in 0..<clients {
            for _ in 0..<window { self.submit(number) }
            self.taskSockets[number].flush()
        }
        await self.wait { self.unanswered == 0 }
    }

    private func submit(_ client: Int) {
        guard self.unsent > 0 else { return }
        self.unsent -= 1
        let request = self.session.message(
            .applyRequest, id: self.session.nextMessageID(), metadata: Self.taskMetadata, buffers: Self.taskBuffers)
        self.taskSockets[client].send(request.frames)
    }

    private func takeReply(_ frames: [ByteBuffer], client: Int) {
        // The engine's content is the last frame but one.
        if frames.count < 7 || frames[frames.count - 2] != LightEngine.content { self.errors += 1 }
        self.unanswered -= 1
        self.submit(client)
        if self.unanswered == 0 { self.wake() }
    }

    // MARK: Broadcasts

    /// Sends one message for all engines and returns when all answers, or the coalesced one, have come.
    func broadcast(coalescing: Bool) async {
        if self.broadcastSocket == nil, let port = self.client.broadcast {
            self.broadcastSocket = self.connect(.dealer, port) { generator, _ in
                generator.unansweredBroadcast -= 1
                if generator.unansweredBroadcast == 0 { generator.wake() }
            }
        }
        self.unansweredBroadcast = coalescing ? 1 : self.registered.count
        var asked = RequestMetadata.ForBroadcast(
            to: self.registered.sorted { $0.value < $1.value }.map { (EngineUUID($0.key), EngineID($0.value)) },
            isCoalescing: coalescing)
        asked.countsOnCopies = false
        var metadata = ByteBuffer()
        asked.begin(&metadata)
        metadata.writeStaticString("}")
        let request = self.session.message(
            .applyRequest, id: self.session.nextMessageID(), metadata: metadata, buffers: Self.taskBuffers)
        self.broadcastSocket?.send(request.frames)
        self.broadcastSocket?.flush()
        await self.wait { self.unansweredBroadcast == 0 }
    }
}
