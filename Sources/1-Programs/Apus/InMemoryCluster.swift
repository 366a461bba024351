public import ApusClient
internal import ApusController
internal import ApusEngine
internal import ApusStore
internal import ApusTransport
internal import ApusWire
public import Logging
internal import NIOPosix

/// A controller and engines in this process, joined by a network in memory; see ``ClusterPlace/inMemory``.
public final class InMemoryCluster: Sendable {
    private let network = InMemoryNetwork()
    private let controller: ControllerService
    private let info: ClientConnectionInfo
    private let serving: Task<Void, any Error>
    private let engines: [(service: EngineService, running: Task<Void, Never>)]

    /// - Parameter resources: What each engine owns, in order; engines beyond the list own nothing.
    /// - Parameter waitingLimit: How many functions may wait at an engine; nil: the default of ``EngineOptions``.
    package init(
        engines count: Int, resources: [[String: Double]] = [], waitingLimit: Int? = nil,
        options: Cluster.Options = Cluster.Options()
    ) async throws {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let logger = options.logger
        let controller = try ControllerService(
            options: options.controller, transport: self.network, store: MemoryTaskStore(), eventLoop: eventLoop, logger: logger)
        let (client, engine) = try await controller.start()
        self.controller = controller
        self.info = client
        self.serving = Task { try await controller.run() }
        var engines: [(service: EngineService, running: Task<Void, Never>)] = []
        for number in 0..<count {
            var engineOptions = EngineOptions()
            if number < resources.count { engineOptions.resources = resources[number] }
            if let waitingLimit { engineOptions.waitingLimit = waitingLimit }
            let service = try EngineService(
                connection: engine, host: "memory", transport: self.network,
                eventLoop: MultiThreadedEventLoopGroup.singleton.next(), options: engineOptions,
                logger: logger)
            engines.append((service: service, running: Task { _ = await service.run() }))
        }
        self.engines = engines
        // Engines in memory are never started again.
        if count > 0 {
            let running = engines.map { $0.running }
            Task {
                for engine in running { await engine.value }
                controller.expectNoEngine("every engine of this cluster in memory has ended")
            }
        }
    }

    /// Connects a further client.
    ///
    /// - Parameter logger: Where the client logs failures that no call throws.
    public func connect(logger: Logger = Logger(label: "apus.client")) async throws -> Client {
        try await Client(
            self.info, transport: self.network, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: logger)
    }

    /// Tells the controller that no further engine will come, and why.
    package func expectNoEngine(_ reason: String) { self.controller.expectNoEngine(reason) }

    /// Ends an engine without a message to the hub: only its closed connections show its end.
    ///
    /// - Parameter index: The engine's number in the order of their start, from 0.
    public func killEngine(_ index: Int) async {
        self.engines[index].service.stop()
        await self.engines[index].running.value
    }

    package func stop() async {
        for engine in self.engines { engine.service.stop() }
        for engine in self.engines { await engine.running.value }
        self.controller.stop()
        _ = await self.serving.result
    }
}
