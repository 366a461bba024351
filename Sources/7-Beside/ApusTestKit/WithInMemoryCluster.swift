public import Apus
internal import Logging

/// Runs the body with a cluster inside this process, which the body may disturb.
///
/// - Parameters:
///   - resources: The resources of each engine, in order; engines beyond the list own nothing.
///   - waitingLimit: How many functions may wait at an engine for tasks of their own; nil: the default.
///
/// Users' tests have `withCluster(.inMemory)`; this function gives the cluster as well, to kill engines and connect more clients.
public func withInMemoryCluster<Result: Sendable>(
    engines count: Int = 2, resources: [[String: Double]] = [], waitingLimit: Int? = nil,
    _ body: (Client, InMemoryCluster) async throws -> Result
) async throws -> Result {
    var options = Cluster.Options()
    options.logger.logLevel = .error
    let cluster = try await InMemoryCluster(
        engines: count, resources: resources, waitingLimit: waitingLimit, options: options)
    let outcome: Swift.Result<Result, any Error>
    do {
        let client = try await cluster.connect()
        try await client.waitForEngines(count)
        do { outcome = .success(try await body(client, cluster)) } catch { outcome = .failure(error) }
        await client.close()
    } catch {
        outcome = .failure(error)
    }
    await cluster.stop()
    return try outcome.get()
}
