package import ApusTransport
package import ApusWire
package import NIOCore
import Locks

/// Keeps what a client of the engine's cluster needs to connect, and the one client that all functions of the engine share.
///
/// An engine does not depend on the client's module, so the caller of ``shared(_:close:)`` makes the client. The client is closed
/// when the engine ends.
package final class ClusterAccess: Sendable {
    /// The controller's addresses for clients; nil where the controller does not tell them.
    package let connection: ClientConnectionInfo?
    package let transport: any Transport
    package let eventLoop: any EventLoop
    /// Tells the hub which functions the engine has besides those of its registration.
    let tellFunctions: @Sendable ([String]) async throws -> Void
    private let state = Mutex(State())

    private struct State {
        var shared: Shared?
        /// Whether nothing is made any more: nobody would close it.
        var isClosed = false
    }

    private struct Shared {
        let making: Task<any Sendable, any Error>
        let close: @Sendable (any Sendable) async -> Void
    }

    init(
        connection: ClientConnectionInfo?, transport: any Transport, eventLoop: any EventLoop,
        tellFunctions: @escaping @Sendable ([String]) async throws -> Void
    ) {
        self.tellFunctions = tellFunctions
        self.connection = connection
        self.transport = transport
        self.eventLoop = eventLoop
    }

    /// Gives the shared value, which the first call makes; calls that come meanwhile wait for it. After a failure the next call
    /// tries again.
    ///
    /// - Parameter close: Called with the value when the engine ends.
    /// - Throws: The error of `make`; an ``EngineTaskError`` when the engine has ended, or registers again.
    package func shared<Value: Sendable>(
        _ make: @escaping @Sendable () async throws -> Value, close: @escaping @Sendable (Value) async -> Void
    ) async throws -> Value {
        let shared = try self.state.withLock { state in
            if let shared = state.shared { return shared }
            guard !state.isClosed else {
                throw EngineTaskError(.engineError, "the engine ends, or registers again: its functions have no client any more")
            }
            // Detached, so that cancelling the function that asked first does not fail the others.
            let shared = Shared(
                making: Task.detached { try await make() }, close: { if let value = $0 as? Value { await close(value) } })
            state.shared = shared
            return shared
        }
        do {
            guard let value = try await shared.making.value as? Value else {
                preconditionFailure("an engine's things are of two kinds")
            }
            return value
        } catch {
            self.state.withLock { if $0.shared?.making == shared.making { $0.shared = nil } }
            throw error
        }
    }

    func close() async {
        let shared = self.state.withLock { state in
            defer { state = State(isClosed: true) }
            return state.shared
        }
        guard let shared, let value = try? await shared.making.value else { return }
        await shared.close(value)
    }
}

extension ClientConnectionInfo {
    /// Reads the addresses for clients from the controller's registration reply, and adds the key, which engines and clients
    /// share.
    init?(registrationReply content: JSONValue, of engine: EngineConnectionInfo) {
        guard var members = content["apus"]?["client"]?.object else { return nil }
        members["key"] = .string(engine.common.key)
        members["signature_scheme"] = .string(engine.common.signatureScheme)
        // The engine may have been started with another host for the controller than the reply has.
        members["location"] = .string(engine.common.location)
        guard let info = try? ClientConnectionInfo(.object(members)) else { return nil }
        self = info
    }
}
