import NIOCore
import NIOPosix
import Synchronization
import ZMTP

/// A queue whose reader waits for what is to come.
final class Mailbox<Element: Sendable>: Sendable {
    private let continuation: AsyncStream<Element>.Continuation
    private let stream: AsyncStream<Element>

    init() {
        (self.stream, self.continuation) = AsyncStream.makeStream()
    }

    func put(_ element: Element) { self.continuation.yield(element) }

    /// The oldest element not yet taken. One reader at a time.
    ///
    /// - Throws: `CancellationError` when the test's time is up.
    func next() async throws -> Element {
        for await element in self.stream { return element }
        throw CancellationError()
    }
}

/// A socket with mailboxes for what it receives, and methods that may be called from tests.
final class TestSocket: SocketDelegate {
    let socket: Socket
    let messages = Mailbox<Message>()
    let events = Mailbox<SocketEvent>()

    /// How often the delegate has been told of an event.
    let calls = Atomic(0)

    /// The loop that all sockets of the tests share.
    static let eventLoop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()

    init(_ type: SocketType, identity: String = "", configure: (inout SocketOptions) -> Void = { _ in }) async throws {
        var options = SocketOptions()
        options.identity = Array(identity.utf8)
        options.reconnect = .init(minimum: .milliseconds(5), maximum: .milliseconds(50))
        configure(&options)
        self.socket = Socket(type, options: options, on: Self.eventLoop)
        try await self.onLoop { $0.setDelegate(self) }
    }

    /// Gives a new socket to the body and closes it afterwards.
    static func with<Result: Sendable>(
        _ type: SocketType, identity: String = "", configure: (inout SocketOptions) -> Void = { _ in },
        _ body: (TestSocket) async throws -> Result
    ) async throws -> Result {
        let socket = try await TestSocket(type, identity: identity, configure: configure)
        do {
            let result = try await body(socket)
            await socket.socket.close()
            return result
        } catch {
            await socket.socket.close(linger: .zero)
            throw error
        }
    }

    func socket(_ socket: Socket, received messages: [Message], from peer: PeerID) {
        for message in messages { self.messages.put(message) }
    }

    func socket(_ socket: Socket, event: SocketEvent) {
        self.calls.add(1, ordering: .relaxed)
        self.events.put(event)
    }

    func onLoop<Result: Sendable>(_ body: @escaping @Sendable (Socket) throws -> Result) async throws -> Result {
        try await self.socket.eventLoop.submit { try body(self.socket) }.get()
    }

    func bind() async throws -> Int { try await self.socket.bind(host: "127.0.0.1", port: 0) }

    func connect(_ port: Int) { self.socket.connect(host: "127.0.0.1", port: port) }

    @discardableResult
    func send(_ frames: String...) async throws -> SendOutcome {
        let message = frames.map { ByteBuffer(string: $0) }
        return try await self.send(message)
    }

    @discardableResult
    func send(_ message: Message) async throws -> SendOutcome {
        try await self.onLoop { $0.send(message) }
    }

    /// Sends until that is the outcome, which is the only sign that a PUB has got a subscription.
    func sendUntil(_ outcome: SendOutcome, _ frames: String...) async throws {
        let message = frames.map { ByteBuffer(string: $0) }
        while try await self.send(message) != outcome { try await Task.sleep(for: .milliseconds(2)) }
    }

    /// The next message, as texts.
    func nextMessage() async throws -> [String] { try await self.messages.next().map { String(buffer: $0) } }

    /// The next connected peer; other events before it are skipped.
    @discardableResult
    func nextPeer() async throws -> (peer: PeerID, identity: ByteBuffer) {
        while true {
            if case .peerConnected(let peer, let identity) = try await self.events.next() { return (peer, identity) }
        }
    }

    /// Why the next peer went; other events before it are skipped.
    @discardableResult
    func nextDeparture() async throws -> DisconnectReason {
        while true {
            switch try await self.events.next() {
            case .peerDisconnected(_, _, let reason), .handshakeFailed(_, let reason): return reason
            default: continue
            }
        }
    }
}
