public import ApusClient
internal import Foundation

/// Where the engines of a cluster are.
public enum ClusterPlace: Sendable, Hashable {
    /// Processes of this machine, each this very program started again in engine mode before its `main` would run, so that they
    /// have every `@Remote` function that it has. Should this process be killed, they end by themselves.
    case processes
    /// Inside this process: for tests of code that takes a ``Client``. The real controller, engines and client, joined by a network
    /// in memory; everything is encoded, signed, routed and recorded as between machines, without ports or processes. What
    /// functions print is not captured, for it is this process that prints it.
    case inMemory
}

/// Runs the body with a cluster of this machine's engines; everything is gone when it returns or throws.
///
/// ```swift
/// let squares = try await withCluster(engines: 4) { client in
///     try await client.loadBalancedView().map($square, 0..<1000)
/// }
/// ```
///
/// The body runs where it is called from: on the main actor, if that is where this is awaited. When the task that awaits this is
/// cancelled, what the body waits for ends with `CancellationError`, and work that has not started is aborted; a function that runs is
/// waited for, or ends with its engine.
///
/// - Parameters:
///   - place: Processes unless told; in a test, `.inMemory`.
///   - engines: How many; one per processor unless told.
///   - options: How the cluster is made; in memory, only what is said of the controller and the logger.
///   - body: What is done with the cluster, by way of a client of it, which is closed afterwards.
/// - Throws: ``ApusError`` with code `launchFailed` when the cluster cannot be started; else what the body throws.
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

/// Runs the body once the engines are there, and closes the client.
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

/// Aborts what has not started: what the body left to itself would begin while the engines are on their way out.
private func callOff(_ client: Client) async {
    // In a task of its own, for this one is cancelled; and not for long, for an engine may have stopped answering.
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
