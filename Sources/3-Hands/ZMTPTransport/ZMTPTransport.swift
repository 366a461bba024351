package import ApusTransport
package import NIOCore
internal import ZMTP

/// Sockets that speak ZMTP over TCP, as Python's peers do.
package struct ZMTPTransport: Transport {
    package init() {}

    private static let largestSubscription = 64 * 1024

    package func makeSocket(
        _ role: SocketRole, options: ApusTransport.SocketOptions, on eventLoop: any EventLoop,
        handler: @escaping @Sendable (ApusTransport.SocketEvent) -> Void
    ) -> any TransportSocket {
        var settings = ZMTP.SocketOptions()
        settings.identity = Array(options.identity.readableBytesView)
        let type: SocketType
        switch role {
        // Routers and dealers must not lose messages: they queue any number for a slow peer, as Python's do (high-water mark 0).
        // A router may limit the bytes for a peer that does not read; beyond the limit it closes the peer's connection.
        case .router:
            type = .router
            settings.sendHighWaterMark = .init(bytes: options.unreadByteLimit)
            settings.closesAtHighWaterMark = options.unreadByteLimit != nil
        case .dealer:
            type = .dealer
            settings.sendHighWaterMark = .unlimited
        // A subscriber that does not read loses messages; other subscribers do not.
        case .publisher:
            type = .pub
            settings.sendHighWaterMark = .init(bytes: 256 << 20)
        case .subscriber: type = .sub
        }
        if let limits = options.limits {
            settings.maximumMessageSize = limits.known
            settings.strangers = .init(maximumMessageSize: limits.strangers, areKnown: limits.areKnown)
        }
        // A publisher receives subscriptions only.
        if role == .publisher { settings.maximumMessageSize = Self.largestSubscription }
        return ZMTPTransportSocket(Socket(type, options: settings, on: eventLoop, delegate: Delegate(handler)), role)
    }
}

/// Turns a socket's calls into events.
private final class Delegate: SocketDelegate {
    private let handler: @Sendable (ApusTransport.SocketEvent) -> Void

    init(_ handler: @escaping @Sendable (ApusTransport.SocketEvent) -> Void) { self.handler = handler }

    func socket(_ socket: Socket, received messages: [Message], from peer: PeerID) { self.handler(.received(messages)) }

    func socket(_ socket: Socket, event: ZMTP.SocketEvent) {
        switch event {
        // A publisher's messages reach a peer only after it has subscribed.
        case .peerConnected where socket.type == .pub: break
        case .peerConnected(_, let identity): self.handler(.peerConnected(identity: identity))
        case .peerSubscribed: self.handler(.peerConnected(identity: ByteBuffer()))
        case .peerDisconnected(_, let identity, let reason):
            switch reason {
            case .violation, .tooSlow: self.handler(.problem("a peer was cut off: \(reason)"))
            default: break
            }
            self.handler(.peerDisconnected(identity: identity))
        case .handshakeFailed(let address, let reason): self.handler(.problem("no handshake with \(address): \(reason)"))
        case .connectFailed(let host, let port, let attempt, let reason, _):
            self.handler(.problem("cannot connect to \(host):\(port) (attempt \(attempt)): \(reason)"))
        case .messageTooLarge(_, let frames, let limit): self.handler(.tooLarge(frames, limit: limit))
        case .peerDrained: break
        }
    }
}

private struct ZMTPTransportSocket: TransportSocket {
    private let socket: Socket

    init(_ socket: Socket, _ role: SocketRole) {
        self.socket = socket
        if role == .subscriber { socket.eventLoop.execute { socket.subscribe() } }
    }

    func bind(to endpoint: Endpoint) async throws -> Endpoint {
        do {
            return Endpoint(host: endpoint.host, port: try await self.socket.bind(host: endpoint.host, port: endpoint.port))
        } catch {
            let isInUse = (error as? BindError)?.reason == .addressInUse
            let owner = isInUse ? PortOwner.description(ofPort: endpoint.port).map { ", by \($0)" } : nil
            throw TransportError("\(error)\(owner ?? "")")
        }
    }

    func connect(to endpoint: Endpoint) { self.socket.connect(host: endpoint.host, port: endpoint.port) }
    func send(_ frames: [ByteBuffer]) { self.socket.send(frames) }
    func flush() { self.socket.flush() }
    func setReading(_ isReading: Bool) { self.socket.setReading(isReading) }
    func disconnect(_ identity: ByteBuffer) {
        if let peer = self.socket.peer(withIdentity: identity) { self.socket.disconnect(peer) }
    }
    func close(linger: TimeAmount) async { await self.socket.close(linger: linger) }
}
