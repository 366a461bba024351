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
    /// The client is connected at the first call and shared by all functions of the engine, which closes the client when it ends.
    ///
    /// **Waiting.** While a function waits for results, its engine runs other tasks, so a recursion ends with any number of
    /// engines. An engine runs one function at a time: once the results are there, the function goes on as soon as no other
    /// function runs. `async let` and task groups may wait for many results at once. The engine notices a wait in the function's
    /// own Swift task and its child tasks, not in a detached task. Tasks that functions submit run before other tasks of the same
    /// priority. The time that a function waits counts towards its run limit, and an interrupt ends the wait. At most 10,000
    /// unfinished functions of one engine may have a client; for the next one this call throws. When the engine dies, the tasks
    /// that its functions submitted run on, and their results are in the hub's records.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` where no engine runs the function, or where the engine's controller is
    ///   ipyparallel's, which counts waiting tasks as running, so that in the end every engine would wait; an error that clients
    ///   see as an `EngineError` where too many functions of the engine wait, as in an endless recursion.
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
