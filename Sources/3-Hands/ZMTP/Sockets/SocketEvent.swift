package import NIOCore

/// The frames of a message, first to last.
package typealias Message = [ByteBuffer]

/// A connected peer, named by a number that its socket never uses again.
package struct PeerID: Hashable, Sendable, CustomStringConvertible {
    package let number: UInt64

    package var description: String { "peer \(self.number)" }
}

/// An event at a socket other than a message.
package enum SocketEvent: Sendable {
    /// The handshake with a peer is over. A ROUTER routes by the identity; for other sockets it is the one that the peer
    /// announced, perhaps empty.
    case peerConnected(PeerID, identity: ByteBuffer)
    /// A peer of a PUB or XPUB has made its first subscription: from now on messages can reach it.
    case peerSubscribed(PeerID)
    /// A peer is gone; messages queued for it are lost.
    case peerDisconnected(PeerID, identity: ByteBuffer, DisconnectReason)
    /// A connection ended before its handshake did; there was no earlier event about it.
    case handshakeFailed(address: String, DisconnectReason)
    /// An attempt to connect failed; the next follows after the wait.
    case connectFailed(host: String, port: Int, attempt: Int, reason: String, retryIn: TimeAmount)
    /// A known peer sent a message larger than the limit. The frames are its first ones, in the form of a received message; the
    /// rest of the message is passed over.
    case messageTooLarge(PeerID, Message, limit: Int)
    /// A peer, for which a message had been dropped at the high-water mark, has taken everything queued for it.
    case peerDrained(PeerID)
}

/// Why a connection ended.
package enum DisconnectReason: Sendable, Equatable, CustomStringConvertible {
    case closedByPeer
    case closedHere
    /// The operating system gave up the connection.
    case failed(String)
    case violation(ProtocolViolation)
    /// Nothing came from the peer for longer than the heartbeat allows.
    case silent
    /// The queue for the peer reached its high-water mark.
    case tooSlow
    case handshakeTimedOut
    /// Another connected peer bears the identity that this one claims.
    case identityInUse

    package var description: String {
        switch self {
        case .closedByPeer: "the peer closed the connection"
        case .closedHere: "the connection was closed on this side"
        case .failed(let reason): "the connection failed: \(reason)"
        case .violation(let violation): violation.description
        case .silent: "nothing was heard from the peer for too long"
        case .tooSlow: "the peer did not read what waits for it"
        case .handshakeTimedOut: "the peer took too long for its handshake"
        case .identityInUse: "another peer bears the same identity"
        }
    }
}

/// The outcome of sending a message.
package enum SendOutcome: Sendable, Hashable {
    /// The message waits for at least one peer, or was sent.
    case queued
    case dropped(DropReason)

    package enum DropReason: Sendable, Hashable {
        /// A ROUTER knows no connected peer of this identity.
        case noSuchPeer
        /// The queue is at its high-water mark.
        case highWaterMark
        /// No peer is connected, or none subscribed to the message.
        case noPeers
        /// The message has no frame, or none after the identity.
        case empty
        /// The socket is closed.
        case closed
    }
}

/// Receives a socket's messages and events. Always called on the socket's event loop, and never from inside one of the
/// socket's own methods.
package protocol SocketDelegate: AnyObject, Sendable {
    /// Called once for each piece that was read from one peer's connection, with the messages complete by then.
    ///
    /// On a ROUTER the first frame is the peer's identity. Frames are slices of the buffer that was read: a message kept for
    /// long keeps up to 256 KB in memory, so copy frames that are to be stored.
    func socket(_ socket: Socket, received messages: [Message], from peer: PeerID)

    /// Called after the messages that came before the event, and before those that came after it.
    func socket(_ socket: Socket, event: SocketEvent)
}

/// Why a socket could not listen on a port or an address.
package struct BindError: Error, Sendable, CustomStringConvertible {
    package enum Reason: Sendable, Hashable {
        case addressInUse
        case other(String)
    }
    package let host: String
    package let port: Int
    package let reason: Reason

    package var description: String {
        switch self.reason {
        case .addressInUse: "port \(self.port) on \(self.host) is in use"
        case .other(let text): "cannot listen on \(self.host):\(self.port): \(text)"
        }
    }
}
