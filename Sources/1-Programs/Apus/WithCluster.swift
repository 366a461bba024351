public import ApusClient
internal import Foundation

/// Where the engines of a cluster are.
public enum ClusterPlace: Sendable, Hashable {
    /// Processes of this machine. Each is this same program, started in engine mode before its `main` would run, so the engines
    /// have all its `@Remote` functions. When this process is killed, the engines end by themselves.
    case processes
    /// Inside this process, for tests of code that takes a ``Client``. The controller, engines and client are the real ones,
    /// joined by a network in memory: everything is encoded, signed, routed and recorded as between machines, without ports or
    /// processes. Output of functions is not captured, because this process prints it.
    case inMemory
}

/// Starts a cluster on this machine, runs the body with a client of the cluster, and stops the cluster when the body ends.
///
/// ```swift
/// let squares = try await withCluster(engines: 4) { client in
///     try await client.loadBalancedView().map($square, 0..<1000)
/// }
/// ```
///
/// The body runs on the caller's actor: on the main actor, if the caller runs there. When the calling task is cancelled, waits in
/// the body end with `CancellationError`, and work that has not started is aborted; a function that runs is waited for, or ends
/// with its engine.
///
/// - Parameters:
///   - place: Where the engines are; in a test, `.inMemory`.
///   - engines: How many engines; nil: one per processor.
///   - options: The settings of the cluster; in memory, only those of the controller and the logger count.
///   - body: Uses the cluster through a client, which is closed afterwards.
/// - Throws: ``ApusError`` with code `launchFailed` when the cluster cannot be started, `timeout` when its engines do not
///   register in time; else what the body throws.
public nonisolated(nonsending) func withCluster<Result: Sendable>(
    _ place: ClusterPlace = .processes, engines: Int? = nil, options: Cluster.Options = Cluster.Options(),
    _ body: nonisolated(nonsending) (Client) async throws -> Result
) async throws -> Result {
    let count = engines ?? ProcessInfo.processInfo.activeProcessorCount
    switch place {
    case .processes:
        let cluster = try await Cluster(options: options)
        let outcome = await resultOf {
            try await cluster.startEngines(count)
            return try await use(try await cluster.connect(), engines: count, body)
        }
        await cluster.stop()
        return try outcome.get()
    case .inMemory:
        let cluster: InMemoryCluster
        do { cluster = try await InMemoryCluster(engines: count, options: options) } catch {
            throw ApusError(.launchFailed, "the cluster in memory could not start", cause: error)
        }
        let outcome = await resultOf { try await use(try await cluster.connect(), engines: count, body) }
        await cluster.stop()
        return try outcome.get()
    }
}

/// Runs the body once the engines have registered, and closes the client.
private nonisolated(nonsending) func use<Result: Sendable>(
    _ client: Client, engines: Int, _ body: nonisolated(nonsending) (Client) async throws -> Result
) async throws -> Result {
    let outcome = await resultOf {
        try await client.waitForEngines(engines)
        return try await body(client)
    }
    if Task.isCancelled { await callOff(client) }
    await client.close()
    return try outcome.get()
}

/// Aborts work that has not started, so that none starts while the engines are being stopped.
private func callOff(_ client: Client) async {
    // In a new task, because this one is cancelled, and for at most a second, because an engine may have stopped answering.
    await Task {
        try? await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await client.abort() }
            group.addTask { try await Task.sleep(for: .seconds(1)) }
            defer { group.cancelAll() }
            try await group.next()
        }
    }.value
}

private nonisolated(nonsending) func resultOf<Value>(_ body: nonisolated(nonsending) () async throws -> Value) async -> Result<
    Value, any Error
> {
    do { return .success(try await body()) } catch { return .failure(error) }
}
