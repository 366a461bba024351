package import NIOCore
internal import DequeModule

/// Finds the connections of clients that an earlier controller served, for the answers that it owed them.
///
/// A value, generic over what an answer is; it belongs to one socket. A client's session is known from its requests. Its connection is new
/// and, at ipyparallel's clients, has no name: whose it is shows only when the client sends something by it. Until then an answer goes to
/// every connection that has shown no session, for clients pass over answers to requests that are not theirs.
package struct ReturningClients<Answer> {
    /// Whose each connection is; nil while it has shown no session.
    private var connections: [ByteBuffer: String?] = [:]
    private var bySession: [String: ByteBuffer] = [:]
    /// Answers to sessions whose connections are not known, oldest first, for connections to come.
    private var held: Deque<(session: String, answer: Answer, byteCount: Int)> = []
    private var heldByteCount = 0
    private let byteLimit: Int

    /// - Parameter byteLimit: Bytes of answers that are held; beyond them the oldest are dropped. Their records stay.
    package init(byteLimit: Int = 64 << 20) { self.byteLimit = byteLimit }

    /// A client has connected.
    ///
    /// - Returns: The answers that may be the client's, oldest first.
    package mutating func connected(_ identity: ByteBuffer) -> [Answer] {
        self.connections[identity] = .some(nil)
        return self.held.map(\.answer)
    }

    package mutating func disconnected(_ identity: ByteBuffer) {
        guard let session = self.connections.removeValue(forKey: identity) else { return }
        if let session, self.bySession[session] == identity { self.bySession[session] = nil }
    }

    /// A request of this session came by the connection, which has been sent every answer that is held.
    package mutating func spoke(_ identity: ByteBuffer, as session: String) {
        guard self.bySession[session] != identity else { return }
        self.connections[identity] = session
        self.bySession[session] = identity
        self.held.removeAll { $0.session == session }
        self.heldByteCount = self.held.reduce(0) { $0 + $1.byteCount }
    }

    /// An answer to a request of an earlier controller's is there.
    ///
    /// - Returns: The connections to send it by now.
    package mutating func take(_ answer: Answer, byteCount: Int, for session: String) -> [ByteBuffer] {
        if let identity = self.bySession[session] { return [identity] }
        self.held.append((session, answer, byteCount))
        self.heldByteCount += byteCount
        while self.heldByteCount > self.byteLimit, let oldest = self.held.popFirst() { self.heldByteCount -= oldest.byteCount }
        let unknown = self.connections.filter { $0.value == nil }.keys
        return unknown.sorted { $0.readableBytesView.lexicographicallyPrecedes($1.readableBytesView) }
    }

    /// Drops what is held: the clients have had long enough to connect again.
    package mutating func giveUp() {
        self.held = []
        self.heldByteCount = 0
    }
}
