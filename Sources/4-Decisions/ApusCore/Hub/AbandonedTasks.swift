package import ApusWire

/// Tasks that are to be aborted once their client has been gone for as long as it said when it submitted them.
///
/// A client is there while any of its connections is. Its session names it, so that a client which connects again is the same one.
/// Generic over what names a connection.
package struct AbandonedTasks<Connection: Hashable & Sendable>: Sendable {
    package enum Event: Sendable {
        /// A client has submitted a task that is to outlive it for so long at most, or an earlier controller's client had (no
        /// connection).
        case submitted(TaskID, session: String, grace: Duration, by: Connection?)
        case ended(TaskID)
        /// A request of this session came by the connection.
        case heard(String, by: Connection)
        case disconnected(Connection)
        /// The time of a `wait` is over.
        case graceOver(session: String, absence: Int, grace: Duration)
    }

    package enum Effect: Sendable, Equatable {
        /// Send `graceOver` with these values after that time.
        case wait(session: String, absence: Int, grace: Duration)
        /// Abort these tasks, in order of their ids, where they still wait.
        case abort([TaskID])
    }

    private struct Client {
        var connections: Set<Connection> = []
        var tasks: [TaskID: Duration] = [:]
        /// Counts up with each absence, so that the end of a time that began in an earlier one is told from that of this one.
        var absence = 0
        /// The times that are running in this absence.
        var waits: Set<Duration> = []

        /// The times that have to begin, where the client is gone.
        mutating func due() -> [Duration] {
            guard self.connections.isEmpty else { return [] }
            let due = Set(self.tasks.values).subtracting(self.waits)
            self.waits.formUnion(due)
            return due.sorted()
        }

        mutating func isBack(by connection: Connection) {
            if self.connections.isEmpty {
                self.waits = []
                self.absence += 1
            }
            self.connections.insert(connection)
        }
    }

    private var clients: [String: Client] = [:]
    private var sessions: [TaskID: String] = [:]

    package init() {}

    /// Whether there is no such task, so that nobody needs to say who was heard.
    package var isEmpty: Bool { self.clients.isEmpty }

    package mutating func handle(_ event: Event) -> [Effect] {
        switch event {
        case .submitted(let task, let session, let grace, let connection):
            self.sessions[task] = session
            self.clients[session, default: Client()].tasks[task] = grace
            if let connection { self.clients[session]?.isBack(by: connection) }
            return self.waits(session)
        case .ended(let task):
            guard let session = self.sessions.removeValue(forKey: task) else { return [] }
            self.clients[session]?.tasks[task] = nil
            if self.clients[session]?.tasks.isEmpty == true { self.clients[session] = nil }
            return []
        case .heard(let session, let connection):
            if self.clients[session]?.connections.contains(connection) == false { self.clients[session]?.isBack(by: connection) }
            return []
        case .disconnected(let connection):
            return self.clients.keys.sorted().flatMap { session in
                self.clients[session]?.connections.remove(connection) == nil ? [] : self.waits(session)
            }
        case .graceOver(let session, let absence, let grace):
            guard let client = self.clients[session], client.connections.isEmpty, client.absence == absence else { return [] }
            let tasks = client.tasks.filter { $0.value == grace }.keys.sorted()
            return tasks.isEmpty ? [] : [.abort(tasks)]
        }
    }

    private mutating func waits(_ session: String) -> [Effect] {
        let due = self.clients[session]?.due() ?? []
        let absence = self.clients[session]?.absence ?? 0
        return due.map { .wait(session: session, absence: absence, grace: $0) }
    }
}
