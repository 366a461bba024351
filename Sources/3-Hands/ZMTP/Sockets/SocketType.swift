/// The kinds of socket this module offers, by their name on the wire (ZMTP 3.1, section 6).
package enum SocketType: String, Sendable, CaseIterable {
    /// Knows each peer by an identity: the first frame of a message names the peer that it goes to or came from.
    case router = "ROUTER"
    /// Sends to its peers in turn and reads from all of them.
    case dealer = "DEALER"
    /// Sends each message to the peers that subscribed to a prefix of its first frame.
    case pub = "PUB"
    /// Receives the messages whose first frame begins with a prefix it subscribed to.
    case sub = "SUB"
    /// A PUB that receives subscriptions as messages.
    case xpub = "XPUB"

    /// Whether a peer that announces this socket type may talk to this socket.
    func accepts(peerType: String) -> Bool {
        switch self {
        case .router: ["DEALER", "ROUTER", "REQ"].contains(peerType)
        case .dealer: ["ROUTER", "DEALER", "REP"].contains(peerType)
        case .pub, .xpub: ["SUB", "XSUB"].contains(peerType)
        case .sub: ["PUB", "XPUB"].contains(peerType)
        }
    }

    /// Whether peers send this socket their subscriptions.
    var takesSubscriptions: Bool { self == .pub || self == .xpub }
}
