package import NIOCore

/// The frames of a message, first to last.
package typealias Message = [ByteBuffer]

/// A connected peer, named by a number that its socket never uses again.
package struct PeerID: Hashable, Sendable, CustomStringConvertible {
    package let number: UInt64

    package var description: String { "peer \(self.number)" }
}

/// What happened to a socket, beside messages.
package enum SocketEvent: Sendable {
    /// The handshake with a peer is over. The identity is what a ROUTER routes by; for other sockets what the peer
    /// announced, perhaps nothing.
    case peerConnected(PeerID, identity: ByteBuffer)
    /// A peer of a PUB or XPUB has made its first subscription: from now on something can reach it.
    case peerSubscribed(PeerID)
    /// A peer is gone, with whatever was queued for it.
    case peerDisconnected(PeerID, identity: ByteBuffer, DisconnectReason)
    /// A connection ended before its handshake did; nothing was ever said of it.
    case handshakeFailed(address: String, DisconnectReason)
    /// An attempt to connect failed; the next follows after the wait.
    case connectFailed(host: String, port: Int, attempt: Int, reason: String, retryIn: TimeAmount)
    /// A peer that is no stranger sent a message larger than is accepted: the limit, and its frames so far, as messages have them. The
    /// rest of it is passed over.
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
    /// More waited for the peer than it may let wait.
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

/// What became of a message that was to be sent.
package enum SendOutcome: Sendable, Hashable {
    /// It waits for, or is with, at least one peer.
    case queued
    case dropped(DropReason)

    package enum DropReason: Sendable, Hashable {
        /// A ROUTER knows no connected peer of this identity.
        case noSuchPeer
        /// Too much waits already.
        case highWaterMark
        /// Nobody is connected, or nobody subscribed to it.
        case noPeers
        /// The message has no frame, or none after the identity.
        case empty
        /// The socket is closed.
        case closed
    }
}

/// What takes a socket's messages and events. Always called on the socket's event loop, and never from inside one of the
/// socket's own methods.
package protocol SocketDelegate: AnyObject, Sendable {
    /// Called once for each piece that was read from one peer's connection, with the messages complete by then.
    ///
    /// On a ROUTER the first frame is the peer's identity. Frames are slices of what was read: a message kept for
    /// long keeps up to 256 KB alive, so copy what is to be stored.
    func socket(_ socket: Socket, received messages: [Message], from peer: PeerID)

    /// Called after the messages that came before the event, and before those that came after it.
    func socket(_ socket: Socket, event: SocketEvent)
}

/// A port or an address could not be listened on.
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
