import ApusCore
import Locks

extension ClientConnection {
    /// Looks for contradictions in what the session keeps; slow, for tests.
    func checkInvariants() throws {
        try self.state.withLock { state in
            try state.core.checkInvariants()
            if !state.effects.isEmpty { throw BrokenInvariant(description: "an event of the client was not brought to its end") }
        }
    }
}

extension Client {
    /// Looks for contradictions in what the client's session keeps; slow, for tests.
    package func checkInvariants() throws { try self.connection.checkInvariants() }
}
