public import ApusClient
public import ApusFunctions
internal import ApusEngine

extension EngineContext {
    /// A client of the cluster that the engine belongs to, for functions that submit tasks of their own.
    ///
    /// ```swift
    /// @Remote func fibonacci(_ n: Int) async throws -> Int {
    ///     if n < 2 { return n }
    ///     let view = try await EngineContext.client().loadBalancedView()
    ///     async let first = view.apply($fibonacci, n - 1)
    ///     async let second = view.apply($fibonacci, n - 2)
    ///     return try await first + second
    /// }
    /// ```
    ///
    /// It is connected at the first call and shared by all functions of the engine, which closes it at its own end.
    ///
    /// **Waiting.** While a function waits for results its engine runs other tasks, so that a recursion ends with any number of
    /// engines. When it has what it waited for it goes on as soon as no other function has its turn, for an engine runs one at a time;
    /// `async let` and task groups may wait for many at once. The engine knows the waiting of the function's own Swift task and its
    /// children, not that of a detached one. Tasks submitted here go before those of the same priority from outside. A run limit counts
    /// what the function waits, and an interrupt ends the wait. As many as 10,000 functions of one engine may have a client and not
    /// have ended; the next one gets none. Should the engine die, the tasks that its functions submitted run on, and their results are
    /// in the hub's records.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` where no engine runs the function, or where its controller is ipyparallel's,
    ///   which would count tasks that wait as running until every engine waits; an error that clients see as an `EngineError` where
    ///   too many of the engine's functions wait, as in a recursion that never ends.
    public static func client() async throws -> Client {
        guard let engine = EngineContext.current else {
            throw ApusError(.notSupported, "no engine runs this function, so there is no cluster that it belongs to")
        }
        guard let access = engine.engine as? ClusterAccess, let connection = access.connection else {
            throw ApusError(
                .notSupported,
                "engine \(engine.engineID) cannot be a client: its controller does not know of tasks that wait for others; Apus's own does ('apus controller')"
            )
        }
        try engine.turn?.expectWait()
        return try await access.shared {
            try await Client(connection, transport: access.transport, eventLoop: access.eventLoop)
        } close: {
            await $0.close(linger: .zero)
        }
    }
}
