import ApusCore
import ApusController
import ApusStore
import ApusTransport
import ApusWire
import Logging
import NIOCore
import NIOPosix
import Locks

/// A controller, by default on a network in memory, and peers that speak the protocol by hand.
final class World: Sendable {
    let network: any Transport
    let eventLoop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    let service: ControllerService
    let client: ClientConnectionInfo
    let engine: EngineConnectionInfo
    private let running: Task<Void, any Error>
    private let session: Mutex<Session>

    init(
        _ options: ControllerOptions = ControllerOptions(), store: any TaskStore = MemoryTaskStore(),
        restoring engines: [String: String]? = nil, describedAs words: [String: JSONValue] = [:],
        onStateChange: (@Sendable (EngineRegistry.State) -> Void)? = nil,
        daskLauncher: (any DaskLauncher)? = nil, transport: any Transport = InMemoryNetwork()
    ) async throws {
        self.network = transport
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let service = try ControllerService(
            options: options, transport: self.network, store: store, eventLoop: self.eventLoop, daskLauncher: daskLauncher,
            onStateChange: onStateChange, logger: logger)
        self.service = service
        if let engines {
            try await service.restore(.init(engines: engines, nextID: engines.count, announcements: words))
        }
        (self.client, self.engine) = try await service.start()
        self.running = Task { try await service.run() }
        self.session = Mutex(Session(signer: try Signer(key: self.client.common.key)))
    }

    func stop() async {
        self.service.stop()
        _ = await self.running.result
    }

    func socket(_ role: SocketRole, _ port: Int, identity: String = "") -> Peer {
        Peer(self, role, port: port, identity: identity)
    }

    /// - Parameter session: The sender's session; nil: a client's.
    func message(
        _ type: MessageType, session: String? = nil, content: JSONObject = [:], metadata: JSONObject = [:],
        parent: ByteBuffer = MessageParts.emptyObject,
        identities: [ByteBuffer] = [], buffers: [ByteBuffer] = []
    ) -> Message {
        self.session.withLock { own in
            func make(_ sender: inout Session) -> Message {
                sender.message(
                    type, identities: identities, parent: parent, metadata: metadata, content: content, buffers: buffers)
            }
            guard let session else { return make(&own) }
            var other = Session(id: session, signer: own.signer)
            return make(&other)
        }
    }

    /// Any parts, signed with the cluster's key.
    func signed(_ parts: MessageParts) -> Message {
        self.session.withLock { $0.signed(parts, identities: [], buffers: []) }
    }

    /// An engine that has registered and is known to the client's side.
    ///
    /// - Parameter apus: What it says of itself beyond ipyparallel's.
    func startEngine(_ uuid: String, restored: Bool = false, apus: JSONObject? = nil) async throws -> FakeEngine {
        let notices = self.socket(.subscriber, self.client.notification)
        let registrar = self.socket(.dealer, self.engine.common.registration, identity: uuid)
        if !restored {
            var content: JSONObject = ["uuid": .string(uuid)]
            content["apus"] = apus.map { .object($0) }
            registrar.send(self.message(.registrationRequest, content: content))
            guard try await registrar.next().json["status"] == "ok" else { throw WireError("the engine was refused") }
        }
        let engine = FakeEngine(self, uuid, registrar)
        while true {
            let notice = try await notices.next()
            if notice.json["uuid"]?.string == uuid { break }
        }
        notices.close()
        return engine
    }
}

/// One socket and what has come to it.
final class Peer: Sendable {
    private let eventLoop: any EventLoop
    private let socket: any TransportSocket
    private let inbox: AsyncStream<[ByteBuffer]>
    private let count: Counter
    /// Each time that the connection was lost.
    let losses: AsyncStream<Void>

    init(_ world: World, _ role: SocketRole, port: Int, identity: String) {
        let (stream, continuation) = AsyncStream.makeStream(of: [ByteBuffer].self)
        let count = Counter()
        let losses: AsyncStream<Void>.Continuation
        (self.losses, losses) = AsyncStream.makeStream(of: Void.self)
        self.eventLoop = world.eventLoop
        self.inbox = stream
        self.count = count
        self.socket = world.network.makeSocket(
            role, options: SocketOptions(identity: ByteBuffer(string: identity)), on: world.eventLoop
        ) { event in
            switch event {
            case .received(let messages):
                for frames in messages {
                    count.add()
                    continuation.yield(frames)
                }
            case .peerDisconnected: losses.yield()
            case .peerConnected, .problem, .tooLarge: break
            }
        }
        self.socket.connect(to: Endpoint(host: "127.0.0.1", port: port))
    }

    /// How many messages have come.
    var received: Int { self.count.value }

    func send(_ frames: [ByteBuffer]) { self.eventLoop.execute { self.socket.send(frames) } }
    func send(_ message: Message) { self.send(message.frames) }

    /// The next message, as it came.
    func next() async throws -> Message { try Message(frames: await self.nextFrames()) }

    /// The frames of the next message, which may have no header.
    func nextFrames() async throws -> [ByteBuffer] {
        for await frames in self.inbox { return frames }
        throw CancellationError()
    }

    /// Sends a request and gives the next message.
    func ask(_ message: Message) async throws -> Message {
        self.send(message)
        return try await self.next()
    }

    func setReading(_ isReading: Bool) { self.eventLoop.execute { self.socket.setReading(isReading) } }

    /// Waits until the connection has been lost.
    func nextLoss() async { for await _ in self.losses { return } }

    func close() { Task { await self.socket.close(linger: .zero) } }
    func closeNow() async { await self.socket.close(linger: .zero) }
}

final class Counter: Sendable {
    private let count = Atomic(0)
    var value: Int { self.count.load(ordering: .relaxed) }
    func add() { self.count.add(1, ordering: .relaxed) }
}

/// An engine whose answers the test writes.
final class FakeEngine: Sendable {
    let world: World
    let uuid: String
    let registrar: Peer
    let mux: Peer
    let task: Peer
    let control: Peer
    let broadcast: Peer
    let iopub: Peer
    let pong: Peer

    init(_ world: World, _ uuid: String, _ registrar: Peer) {
        self.world = world
        self.uuid = uuid
        self.registrar = registrar
        self.mux = world.socket(.dealer, world.engine.mux, identity: uuid)
        self.task = world.socket(.dealer, world.engine.task, identity: uuid)
        self.control = world.socket(.dealer, world.engine.control, identity: uuid)
        self.broadcast = world.socket(.dealer, world.engine.broadcast[0], identity: uuid)
        self.iopub = world.socket(.publisher, world.engine.iopub, identity: uuid)
        self.pong = world.socket(.dealer, world.engine.heartbeatPong, identity: uuid)
    }

    /// A reply to a request, as an engine makes it.
    ///
    /// - Parameter size: How many bytes the result has besides its text.
    func reply(to request: Message, status: String = "ok", more: JSONObject = [:], size: Int = 0) -> Message {
        var metadata: JSONObject = ["status": .string(status), "engine": .string(self.uuid), "dependencies_met": true]
        metadata.merge(more) { $1 }
        return self.world.message(
            .applyReply, content: ["status": .string(status)], metadata: metadata, parent: request.header,
            identities: Array(request.identities),
            buffers: [ByteBuffer(string: "result of \(self.uuid)" + String(repeating: ".", count: size))])
    }

    /// Answers pings until the task is cancelled, with the engine's signature as ours do.
    func beat() throws -> Task<Void, any Error> {
        let pings = self.world.socket(.subscriber, self.world.engine.heartbeatPing, identity: "")
        let signer = try Signer(key: self.world.engine.common.key)
        return Task {
            while true {
                let ping = try await pings.nextFrames()
                self.pong.send(ping + [signer.heartSignature(of: self.uuid, ping: ping[0])])
            }
        }
    }

    /// Ends as a process that is killed: every connection at once.
    func die() { for peer in self.peers { peer.close() } }

    /// The same; returns when the connections have dropped.
    func dieNow() async { for peer in self.peers { await peer.closeNow() } }

    private var peers: [Peer] { [self.registrar, self.mux, self.task, self.control, self.broadcast, self.iopub, self.pong] }
}

extension Message {
    var json: JSONValue { (try? JSONValue(parsing: self.content)) ?? .null }
    var type: String { self.header.textMember("msg_type") ?? "" }
    var id: String { self.header.textMember("msg_id") ?? "" }
    var texts: [String] { self.buffers.map { String(buffer: $0) } }
}
