package import NIOCore
internal import DequeModule

/// Finds the connections of clients that an earlier controller served, for the answers that are owed to them.
///
/// A value for one socket, generic over the type of answers. A client's session is known from its requests. The client's
/// connection is new and, with ipyparallel's clients, has no name, so its session is known only once the client sends a request
/// by it. Until then an answer goes to every connection that has shown no session, for clients pass over answers to requests that
/// are not theirs.
package struct ReturningClients<Answer> {
    /// The sessions that have sent requests by each connection; empty while none has.
    private var connections: [ByteBuffer: Set<String>] = [:]
    /// The connection by which each session has last sent a request.
    private var bySession: [String: ByteBuffer] = [:]
    /// Answers to sessions without a known connection, oldest first, for connections that are made later.
    private var held: Deque<(session: String, answer: Answer, byteCount: Int)> = []
    private var heldByteCount = 0
    /// Whether the time is over in which answers are held.
    private var isOver = false
    private let byteLimit: Int

    /// - Parameter byteLimit: The most bytes of answers that are held; beyond the limit the oldest are dropped. Their records
    ///   stay.
    package init(byteLimit: Int = 64 << 20) { self.byteLimit = byteLimit }

    /// Adds a connection, whose session is not known yet.
    ///
    /// - Returns: All answers that are held, oldest first, to be sent by the connection.
    package mutating func connected(_ identity: ByteBuffer) -> [Answer] {
        self.connections[identity] = []
        return self.held.map(\.answer)
    }

    package mutating func disconnected(_ identity: ByteBuffer) {
        for session in self.connections.removeValue(forKey: identity) ?? [] where self.bySession[session] == identity {
            self.bySession[session] = nil
        }
    }

    /// Notes that a request of this session came by the connection.
    ///
    /// Answers that are held for the session are dropped, for the connection has been sent all of them.
    package mutating func spoke(_ identity: ByteBuffer, as session: String) {
        guard self.connections[identity, default: []].insert(session).inserted else { return }
        self.bySession[session] = identity
        self.held.removeAll { $0.session == session }
        self.heldByteCount = self.held.reduce(0) { $0 + $1.byteCount }
    }

    /// Takes an answer to a request of an earlier controller, and holds it if the session's connection is not known.
    ///
    /// - Returns: The connections to send the answer by now.
    package mutating func take(_ answer: Answer, byteCount: Int, for session: String) -> [ByteBuffer] {
        if let identity = self.bySession[session] { return [identity] }
        if !self.isOver {
            self.held.append((session, answer, byteCount))
            self.heldByteCount += byteCount
            while self.heldByteCount > self.byteLimit, let oldest = self.held.popFirst() {
                self.heldByteCount -= oldest.byteCount
            }
        }
        let unknown = self.connections.filter { $0.value.isEmpty }.keys
        return unknown.sorted { $0.readableBytesView.lexicographicallyPrecedes($1.readableBytesView) }
    }

    /// Drops the answers that are held, because the time for clients to connect again is over.
    package mutating func giveUp() {
        self.isOver = true
        self.held = []
        self.heldByteCount = 0
    }
}
