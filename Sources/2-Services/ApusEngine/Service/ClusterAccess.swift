package import ApusTransport
package import ApusWire
package import NIOCore
import Locks

/// What a function needs to be a client of its engine's cluster, and the one client that all functions of the engine share.
///
/// Clients stand on this floor and not below it, so whoever knows both makes the client; here it is kept, and closed with the engine.
package final class ClusterAccess: Sendable {
    /// Where a client connects to; nil where the controller does not say.
    package let connection: ClientConnectionInfo?
    package let transport: any Transport
    package let eventLoop: any EventLoop
    /// Tells the hub of functions that the engine has besides those it said at its registration.
    let tellFunctions: @Sendable ([String]) async throws -> Void
    private let state = Mutex<Shared?>(nil)

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

    /// The one thing of its kind, made by the first who asks; all who ask meanwhile wait for it. Where making it failed, the next who
    /// asks tries again.
    ///
    /// - Parameter close: Called with it when the engine ends.
    package func shared<Value: Sendable>(
        _ make: @escaping @Sendable () async throws -> Value, close: @escaping @Sendable (Value) async -> Void
    ) async throws -> Value {
        let shared = self.state.withLock { state in
            if let shared = state { return shared }
            // Detached from the function that happens to be first: what cancels it must not cancel the others'.
            let shared = Shared(
                making: Task.detached { try await make() }, close: { if let value = $0 as? Value { await close(value) } })
            state = shared
            return shared
        }
        do {
            guard let value = try await shared.making.value as? Value else {
                preconditionFailure("an engine's things are of two kinds")
            }
            return value
        } catch {
            self.state.withLock { if $0?.making == shared.making { $0 = nil } }
            throw error
        }
    }

    func close() async {
        let shared = self.state.withLock { state in
            defer { state = nil }
            return state
        }
        guard let shared, let value = try? await shared.making.value else { return }
        await shared.close(value)
    }
}

extension ClientConnectionInfo {
    /// What the controller's answer to a registration says of clients, with the key that engines and clients share.
    init?(registrationReply content: JSONValue, of engine: EngineConnectionInfo) {
        guard var members = content["apus"]?["client"]?.object else { return nil }
        members["key"] = .string(engine.common.key)
        members["signature_scheme"] = .string(engine.common.signatureScheme)
        // The engine may have been told better where the controller is.
        members["location"] = .string(engine.common.location)
        guard let info = try? ClientConnectionInfo(.object(members)) else { return nil }
        self = info
    }
}
