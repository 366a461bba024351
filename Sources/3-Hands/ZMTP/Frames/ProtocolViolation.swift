/// Why a peer's bytes were refused. The connection is closed; nothing else happens.
package enum ProtocolViolation: Error, Sendable, Equatable, CustomStringConvertible {
    /// The first bytes are not a ZMTP signature.
    case notZMTP
    /// A greeting of a version before 3.0.
    case unsupportedVersion(major: UInt8)
    /// A security mechanism other than NULL.
    case unsupportedMechanism(String)
    /// A command whose body does not follow its grammar.
    case malformedCommand(String)
    /// A frame other than READY or ERROR before the handshake was over.
    case handshakeExpected
    /// A peer's socket type that may not talk to this socket's.
    case incompatibleSocketType(String, with: SocketType)
    /// An identity that is too long or begins with a zero byte.
    case invalidIdentity
    /// A frame with reserved flag bits set, or a command with MORE.
    case invalidFlags(UInt8)
    /// A message, or one of its frames, is larger than allowed.
    case messageTooLarge(limit: Int)
    /// A message of more frames than allowed.
    case tooManyFrames(limit: Int)
    /// More subscriptions than one peer may hold.
    case tooManySubscriptions(limit: Int)
    /// The peer sent ERROR with this reason.
    case refusedByPeer(String)

    package var description: String {
        switch self {
        case .notZMTP: "the peer does not speak ZMTP"
        case .unsupportedVersion(let major): "the peer speaks ZMTP \(major).x; 3.0 or later is needed"
        case .unsupportedMechanism(let name): "the peer asks for the security mechanism \(name); only NULL is spoken here"
        case .malformedCommand(let name): "the peer sent a malformed \(name) command"
        case .handshakeExpected: "the peer sent traffic before its READY command"
        case .incompatibleSocketType(let peer, let own): "a \(peer) socket cannot talk to a \(own.rawValue) socket"
        case .invalidIdentity: "the peer's identity is longer than 255 bytes or begins with a zero byte"
        case .invalidFlags(let flags): "the peer sent a frame with invalid flags 0x\(String(flags, radix: 16))"
        case .messageTooLarge(let limit): "the peer sent a message larger than \(limit) bytes"
        case .tooManyFrames(let limit): "the peer sent a message of more than \(limit) frames"
        case .tooManySubscriptions(let limit): "the peer's subscriptions are larger than \(limit) bytes"
        case .refusedByPeer(let reason): "the peer refused the connection: \(reason)"
        }
    }
}
