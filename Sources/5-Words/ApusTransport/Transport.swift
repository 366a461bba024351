package import NIOCore

/// Makes the sockets through which the parts of a cluster talk.
///
/// Two kinds exist: ZMTP over TCP, which Python's peers speak, and memory, for tests and for clusters inside one process. A
/// service behaves the same with either.
package protocol Transport: Sendable {
    /// A socket that lives on the event loop; its handler is called there.
    func makeSocket(
        _ role: SocketRole, options: SocketOptions, on eventLoop: any EventLoop,
        handler: @escaping @Sendable (SocketEvent) -> Void
    ) -> any TransportSocket
}

/// How a socket distributes messages (the ZeroMQ socket types that the protocol uses).
package enum SocketRole: Sendable, Hashable {
    /// Talks to many peers, each by its identity: the first frame of a message is the identity of its sender or receiver.
    case router
    /// Talks to the peers it is connected to, in turn when there are several; frames are all payload.
    case dealer
    /// Gives every message to every subscriber. A slow one loses messages.
    case publisher
    /// Takes every message that its publishers send.
    case subscriber
}

package struct SocketOptions: Sendable {
    /// The identity by which peers know this socket; empty: each peer makes up a name for the socket.
    package var identity: ByteBuffer
    /// Limits on the size of messages from peers; nil: no limit. The transport in memory checks no sizes, because a message is in
    /// memory before it is sent.
    package var limits: MessageLimits?
    /// Bytes that may wait for a peer that does not read; beyond them a router closes the peer's connection. Nil: no limit.
    package var unreadByteLimit: Int?

    package init(identity: ByteBuffer = ByteBuffer(), limits: MessageLimits? = nil, unreadByteLimit: Int? = nil) {
        self.identity = identity
        self.limits = limits
        self.unreadByteLimit = unreadByteLimit
    }
}

/// How large a message may be, in bytes of all its frames.
package struct MessageLimits: Sendable {
    /// For a peer that has shown that it has the cluster's key.
    package var known: Int
    /// For any other peer; the connection of one that sends more is closed.
    package var strangers: Int
    /// Whether the frames of a message, as many as have arrived, show that their sender has the key. Called on the event loop.
    package var areKnown: @Sendable (_ frames: [ByteBuffer]) -> Bool

    package init(known: Int, strangers: Int, areKnown: @escaping @Sendable (_ frames: [ByteBuffer]) -> Bool) {
        self.known = known
        self.strangers = min(strangers, known)
        self.areKnown = areKnown
    }
}

/// Where a socket listens. In memory the host does not matter and the port is a number in the network's own table.
package struct Endpoint: Sendable, Hashable, CustomStringConvertible {
    package var host: String
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    package var description: String { "\(self.host):\(self.port)" }
}

/// An event at a socket, delivered on its event loop and in order for each peer.
package enum SocketEvent: Sendable {
    /// Messages as frames, all that one read brought. A router's messages start with the peer's identity.
    case received([[ByteBuffer]])
    /// A peer that has the key sent a message larger than the limit. The frames are those received before the limit, perhaps too
    /// few for a message. The connection stays open.
    case tooLarge([ByteBuffer], limit: Int)
    /// A peer can be reached now: at a router, by this identity; at a publisher, because the peer has subscribed.
    case peerConnected(identity: ByteBuffer)
    /// A peer is gone. All of its messages were reported before.
    case peerDisconnected(identity: ByteBuffer)
    /// A fault that ends no more than one connection, or one attempt to connect; the text is for the log.
    case problem(String)
}

/// One socket of a transport. Every implementation keeps these rules:
///
/// - `send` never blocks and never fails: a message that cannot be delivered (no such peer, a peer too slow) is dropped by the
///   rule of the role, and a dealer without a peer keeps messages until one comes.
/// - Messages between two sockets stay in order.
/// - After `close` returns, the handler is not called again.
package protocol TransportSocket: Sendable {
    /// Listens at the endpoint and gives it back, with the chosen port in place of port 0.
    func bind(to endpoint: Endpoint) async throws -> Endpoint
    /// Connects, and connects again whenever the connection is lost, until closed.
    func connect(to endpoint: Endpoint)
    /// Sends one message; on the event loop only. Messages leave together at the next ``flush()`` or at the end of the loop's turn.
    func send(_ frames: [ByteBuffer])
    /// Sends all messages that have not left yet. On the event loop only.
    func flush()
    /// Closes a router's connection to the peer of this identity, if there is one. Messages not sent yet are lost, and no more
    /// come from the peer. A peer that had connected to this socket may connect again. On the event loop only.
    func disconnect(_ identity: ByteBuffer)
    /// Stops or resumes taking messages, for a receiver that is behind: its peers then wait, or drop by their own rules. A
    /// message that has been read already still comes. On the event loop only.
    func setReading(_ isReading: Bool)
    /// Closes the socket when the messages sent so far have left, or after the lingering time.
    func close(linger: TimeAmount) async
}

extension TimeAmount {
    /// The span as event loops count it: not negative, and a century at most, so that no sum of it and the time overflows.
    package init(clamping span: Duration) {
        let century: Int64 = 100 * 365 * 86_400
        let (seconds, attoseconds) = span.components
        guard seconds >= 0, attoseconds >= 0 else {
            self = .zero
            return
        }
        self = seconds >= century ? .seconds(century) : .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}

/// Why a socket could not listen.
package struct TransportError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
