import NIOCore
import NIOPosix
import Synchronization
import ZMTP

/// A queue whose reader waits for what is to come.
final class Mailbox<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element] = []
        var waiter: CheckedContinuation<Element, Never>?
    }
    private let state = Mutex(State())

    func put(_ element: Element) {
        let waiter = self.state.withLock { state in
            if state.waiter == nil { state.elements.append(element) }
            return state.waiter.take()
        }
        waiter?.resume(returning: element)
    }

    /// The oldest element not yet taken. One reader at a time.
    func next() async -> Element {
        await withCheckedContinuation { continuation in
            let element: Element? = self.state.withLock { state in
                if !state.elements.isEmpty { return state.elements.removeFirst() }
                precondition(state.waiter == nil, "two readers at one mailbox")
                state.waiter = continuation
                return nil
            }
            if let element { continuation.resume(returning: element) }
        }
    }

    var isEmpty: Bool { self.state.withLock { $0.elements.isEmpty } }
}

/// A socket with mailboxes for what it receives, and methods that may be called from tests.
final class TestSocket: SocketDelegate {
    let socket: Socket
    let messages = Mailbox<Message>()
    let events = Mailbox<SocketEvent>()

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

    func socket(_ socket: Socket, event: SocketEvent) { self.events.put(event) }

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

    /// The next message, as texts.
    func nextMessage() async -> [String] { await self.messages.next().map { String(buffer: $0) } }

    /// The next connected peer; other events before it are skipped.
    @discardableResult
    func nextPeer() async -> (peer: PeerID, identity: ByteBuffer) {
        while true {
            if case .peerConnected(let peer, let identity) = await self.events.next() { return (peer, identity) }
        }
    }

    /// Why the next peer went; other events before it are skipped.
    @discardableResult
    func nextDeparture() async -> DisconnectReason {
        while true {
            switch await self.events.next() {
            case .peerDisconnected(_, _, let reason), .handshakeFailed(_, let reason): return reason
            default: continue
            }
        }
    }
}
