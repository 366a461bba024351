import ApusTransport
import NIOCore
import NIOPosix
import Locks
import Testing

/// A socket of the network in memory, and the events that came to it, which a test can await.
private final class Probe: Sendable {
    let socket: any TransportSocket
    private let events: AsyncStream<SocketEvent>
    private let pending = Mutex<[[ByteBuffer]]>([])
    private let eventLoop: any EventLoop

    init(_ role: SocketRole, identity: String = "", on network: InMemoryNetwork) {
        let (events, continuation) = AsyncStream.makeStream(of: SocketEvent.self)
        self.events = events
        self.eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        self.socket = network.makeSocket(role, options: SocketOptions(identity: ByteBuffer(string: identity)), on: self.eventLoop)
        {
            continuation.yield($0)
        }
    }

    func send(_ frames: String...) async throws {
        let frames = frames.map { ByteBuffer(string: $0) }
        try await self.eventLoop.submit { self.socket.send(frames) }.get()
    }

    func disconnect(_ identity: String) async throws {
        try await self.eventLoop.submit { self.socket.disconnect(ByteBuffer(string: identity)) }.get()
    }

    /// The next message, as texts.
    func receive() async -> [String] {
        while true {
            if let message = self.pending.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) {
                return message.map { String(buffer: $0) }
            }
            for await event in self.events {
                if case .received(let messages) = event {
                    self.pending.withLock { $0 += messages }
                    break
                }
            }
        }
    }

    /// The identity that the next peer to come, or to go, has here.
    func peer(leaving: Bool = false) async -> String {
        for await event in self.events {
            switch event {
            case .peerConnected(let identity) where !leaving: return String(buffer: identity)
            case .peerDisconnected(let identity) where leaving: return String(buffer: identity)
            default: continue
            }
        }
        return ""
    }
}

@Suite("The network in memory", .timeLimit(.minutes(1)))
struct InMemoryNetworkTests {
    private let network = InMemoryNetwork()

    @Test("A router answers the peer that asked, by its identity")
    func routes() async throws {
        let router = Probe(.router, on: self.network)
        let endpoint = try await router.socket.bind(to: Endpoint(host: "", port: 0))
        let (left, right) = (
            Probe(.dealer, identity: "left", on: self.network), Probe(.dealer, identity: "right", on: self.network)
        )
        left.socket.connect(to: endpoint)
        right.socket.connect(to: endpoint)
        try await left.send("question", "1")
        #expect(await router.receive() == ["left", "question", "1"])
        try await right.send("question", "2")
        #expect(await router.receive() == ["right", "question", "2"])
        try await router.send("right", "answer")
        #expect(await right.receive() == ["answer"])
        try await router.send("nobody", "lost")
        try await router.send("left", "answer")
        #expect(await left.receive() == ["answer"])
    }

    @Test("A dealer that connects before anyone listens keeps what it sends")
    func connectsFirst() async throws {
        let dealer = Probe(.dealer, on: self.network)
        dealer.socket.connect(to: Endpoint(host: "", port: 7))
        try await dealer.send("early")
        let router = Probe(.router, on: self.network)
        _ = try await router.socket.bind(to: Endpoint(host: "", port: 7))
        #expect(await router.receive().last == "early")
    }

    @Test("Every subscriber gets what is published, and a closed peer is told of")
    func publishes() async throws {
        let publisher = Probe(.publisher, on: self.network)
        let endpoint = try await publisher.socket.bind(to: Endpoint(host: "", port: 0))
        let (one, two) = (Probe(.subscriber, identity: "one", on: self.network), Probe(.subscriber, on: self.network))
        one.socket.connect(to: endpoint)
        two.socket.connect(to: endpoint)
        try await publisher.send("topic", "news")
        #expect(await one.receive() == ["topic", "news"])
        #expect(await two.receive() == ["topic", "news"])
        await one.socket.close(linger: .zero)
        #expect(await publisher.peer(leaving: true) == "one")
    }

    @Test("A socket connects again when a listener comes back to its port")
    func reconnects() async throws {
        let router = Probe(.router, on: self.network)
        let endpoint = try await router.socket.bind(to: Endpoint(host: "", port: 0))
        let dealer = Probe(.dealer, identity: "dealer", on: self.network)
        dealer.socket.connect(to: endpoint)
        #expect(await router.peer() == "dealer")
        await router.socket.close(linger: .zero)
        let second = Probe(.router, on: self.network)
        _ = try await second.socket.bind(to: endpoint)
        #expect(await second.peer() == "dealer")
        try await dealer.send("again")
        #expect(await second.receive() == ["dealer", "again"])
    }

    @Test("A router closes the connection of one peer, which connects again")
    func disconnects() async throws {
        let router = Probe(.router, on: self.network)
        let endpoint = try await router.socket.bind(to: Endpoint(host: "", port: 0))
        let dealer = Probe(.dealer, identity: "dealer", on: self.network)
        dealer.socket.connect(to: endpoint)
        #expect(await router.peer() == "dealer")
        try await router.disconnect("nobody")
        try await router.disconnect("dealer")
        #expect(await router.peer(leaving: true) == "dealer")
        #expect(await router.peer() == "dealer")
        try await router.send("dealer", "hello")
        #expect(await dealer.receive() == ["hello"])
    }

    @Test("A port in use is refused")
    func inUse() async throws {
        let first = Probe(.router, on: self.network)
        let endpoint = try await first.socket.bind(to: Endpoint(host: "", port: 0))
        let second = Probe(.router, on: self.network)
        await #expect(throws: TransportError.self) { try await second.socket.bind(to: endpoint) }
    }
}
