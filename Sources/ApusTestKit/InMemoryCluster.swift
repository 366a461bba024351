public import ApusClient
internal import ApusController
internal import ApusEngine
internal import ApusStore
internal import ApusTransport
internal import ApusWire
internal import Logging
internal import NIOPosix

/// Runs the body with a cluster inside this process: the real controller, engines and client, joined by a network in memory.
///
/// Everything is encoded, signed, routed and recorded as between machines, without ports or processes; what functions print is not
/// captured, for it is this process that prints it. For tests of code that takes a ``Client``.
public func withInMemoryCluster<Result: Sendable>(
    engines count: Int = 2, _ body: (Client, InMemoryCluster) async throws -> Result
) async throws -> Result {
    let cluster = try await InMemoryCluster(engines: count)
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

/// A controller and engines in this process.
public final class InMemoryCluster: Sendable {
    private let network = InMemoryNetwork()
    private let controller: ControllerService
    private let info: ClientConnectionInfo
    private let serving: Task<Void, any Error>
    private let engines: [(service: EngineService, running: Task<Void, Never>)]

    init(engines count: Int) async throws {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        var quiet = Logger(label: "apus.test")
        quiet.logLevel = .error
        let logger = quiet
        let controller = try ControllerService(
            options: ControllerOptions(), transport: self.network, store: MemoryTaskStore(), eventLoop: eventLoop, logger: logger)
        let (client, engine) = try await controller.start()
        self.controller = controller
        self.info = client
        self.serving = Task { try await controller.run() }
        var engines: [(service: EngineService, running: Task<Void, Never>)] = []
        for _ in 0..<count {
            let service = try EngineService(
                connection: engine, host: "memory", transport: self.network,
                eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
                logger: logger)
            engines.append((service: service, running: Task { _ = await service.run() }))
        }
        self.engines = engines
    }

    /// A further client.
    public func connect() async throws -> Client {
        try await Client(self.info, transport: self.network, eventLoop: MultiThreadedEventLoopGroup.singleton.next())
    }

    /// Ends one engine without a word to anyone but its connections, in the order in which they were started.
    public func killEngine(_ index: Int) async {
        self.engines[index].service.stop()
        await self.engines[index].running.value
    }

    func stop() async {
        for engine in self.engines { engine.service.stop() }
        for engine in self.engines { await engine.running.value }
        self.controller.stop()
        _ = await self.serving.result
    }
}
