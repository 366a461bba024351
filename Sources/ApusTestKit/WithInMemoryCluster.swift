public import Apus
internal import Logging

/// Runs the body with a cluster inside this process, which the body may disturb.
///
/// - Parameter resources: What each engine owns, in order; those beyond the list own nothing.
///
/// Users' tests have `withCluster(.inMemory)`; this gives the cluster as well, to kill engines and connect more clients.
public func withInMemoryCluster<Result: Sendable>(
    engines count: Int = 2, resources: [[String: Double]] = [], _ body: (Client, InMemoryCluster) async throws -> Result
) async throws -> Result {
    var options = Cluster.Options()
    options.logger.logLevel = .error
    let cluster = try await InMemoryCluster(engines: count, resources: resources, options: options)
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
