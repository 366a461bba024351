public import ApusClient
internal import Foundation

/// Runs the body with a cluster of this machine's engines; everything is gone when it returns or throws.
///
/// The engines are this very program, started again in engine mode before its `main` would run, so they have every `@Remote`
/// function that it has. Should this process be killed, they end by themselves.
///
/// ```swift
/// let squares = try await withCluster(engines: 4) { client in
///     try await client.loadBalancedView().map($square, 0..<1000)
/// }
/// ```
///
/// - Parameters:
///   - engines: How many; one per processor unless told.
/// - Throws: ``ApusError`` with code `launchFailed` when the cluster cannot be started; else what the body throws.
public func withCluster<Result: Sendable>(
    engines: Int? = nil, options: Cluster.Options = Cluster.Options(), _ body: (Client) async throws -> Result
) async throws -> Result {
    let cluster = try await Cluster(options: options)
    let outcome: Swift.Result<Result, any Error>
    do {
        try await cluster.startEngines(engines ?? ProcessInfo.processInfo.activeProcessorCount)
        let client = try await cluster.connect()
        try await client.waitForEngines(engines ?? ProcessInfo.processInfo.activeProcessorCount)
        do { outcome = .success(try await body(client)) } catch { outcome = .failure(error) }
        await client.close()
    } catch {
        outcome = .failure(error)
    }
    await cluster.stop()
    return try outcome.get()
}
