internal import ApusClient
internal import ApusController
internal import ApusCore
internal import ApusEngine
internal import ApusFunctions
internal import ApusStore
internal import ApusTransport
internal import ApusWire
internal import Locks
internal import Logging
internal import NIOCore

/// What all processes of a simulated world share.
struct Surroundings: Sendable {
    let time: VirtualTime
    let network: SimulatedNetwork
    let chronicle: Chronicle
    let functions: SimulatedFunctions
    let overheard = Overheard()
    private let processes = Counter()

    /// The last requests that engines were sent.
    final class Overheard: Sendable {
        private let list = Mutex<[(message: Message, engine: String)]>([])
        func add(_ message: Message, by engine: String) { self.list.withLock { $0 = $0.suffix(9) + [(message, engine)] } }

        /// Those that the engine was not sent itself: what it says of its own is its own.
        func last(notBy engine: String) -> [Message] {
            self.list.withLock { list in
                let own = Set(list.filter { $0.engine == engine }.map { $0.message.header })
                return list.map { $0.message }.filter { !own.contains($0.header) }
            }
        }
    }

    init(_ time: VirtualTime, _ network: SimulatedNetwork, _ chronicle: Chronicle) {
        self.time = time
        self.network = network
        self.chronicle = chronicle
        self.functions = SimulatedFunctions(chronicle)
    }

    func nextProcess() -> Int { self.processes.next() }
}

/// Counts up from one.
final class Counter: Sendable {
    private let value = Atomic(0)
    func next() -> Int { self.value.wrappingAdd(1, ordering: .relaxed).newValue }
}

/// A controller's process.
final class SimulatedController: Sendable {
    private let surroundings: Surroundings
    private let process: Int
    private let service: ControllerService
    private let store: SimulatedStore
    private let running = Mutex<Task<Void, any Error>?>(nil)
    let clientInfo: ClientConnectionInfo
    let engineInfo: EngineConnectionInfo

    /// What of a controller outlives it.
    final class Remains: Sendable {
        let tasks = MemoryTaskStore()
        let engines = Mutex<EngineRegistry.State?>(nil)
    }

    /// Starts a controller where an earlier one ended, if there was one.
    init(_ surroundings: Surroundings, _ options: ControllerOptions, _ remains: Remains) async throws {
        self.surroundings = surroundings
        self.process = surroundings.nextProcess()
        let store = SimulatedStore(remains.tasks)
        self.store = store
        self.service = try ControllerService(
            options: options, transport: surroundings.network.transport(of: self.process), store: store,
            eventLoop: VirtualLoop(surroundings.time),
            onStateChange: { state in if store.isOpen { remains.engines.withLock { $0 = state } } },
            logger: StoryLogHandler.logger("controller \(self.process)", surroundings.chronicle))
        if let saved = remains.engines.withLock({ $0 }) { try await self.service.restore(saved) }
        (self.clientInfo, self.engineInfo) = try await self.service.start()
        self.running.withLock { $0 = Task { [service] in try await service.run() } }
    }

    /// The options of a controller that takes over from this one.
    func successor(of options: ControllerOptions) -> ControllerOptions {
        var options = options
        let (client, engine) = (self.clientInfo, self.engineInfo)
        options.enginePorts =
            [
                engine.common.registration, engine.control, engine.mux, engine.task, engine.iopub, engine.heartbeatPing,
                engine.heartbeatPong,
            ] + engine.broadcast
        options.clientPorts = [
            client.control, client.mux, client.task, client.iopub, client.notification, client.broadcast ?? 0,
        ]
        return options
    }

    /// Ends the process without a word to anyone.
    func kill() {
        self.store.isOpen = false
        self.surroundings.network.end(self.process)
        self.service.stop()
    }

    func stop() async {
        self.service.stop()
        _ = await self.running.withLock { $0 }?.result
    }
}

/// A store as a process has it: what it does after its end does not happen.
private final class SimulatedStore: TaskStore {
    private let tasks: MemoryTaskStore
    private let open = Atomic(true)

    init(_ tasks: MemoryTaskStore) { self.tasks = tasks }

    var isOpen: Bool {
        get { self.open.load(ordering: .relaxed) }
        set { self.open.store(newValue, ordering: .relaxed) }
    }

    func apply(_ changes: [TaskChange]) { if self.isOpen { self.tasks.apply(changes) } }

    nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> [TaskState] {
        try await self.tasks.states(of: ids)
    }

    nonisolated(nonsending) func records(of ids: [TaskID], fields: Set<TaskField>) async throws(TaskStoreError) -> [TaskRecord] {
        try await self.tasks.records(of: ids, fields: fields)
    }

    nonisolated(nonsending) func records(
        matching query: TaskQuery, fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] {
        try await self.tasks.records(matching: query, fields: fields)
    }

    nonisolated(nonsending) func unfinished() async throws(TaskStoreError) -> [TaskRecord] { try await self.tasks.unfinished() }
    nonisolated(nonsending) func history() async throws(TaskStoreError) -> [TaskID] { try await self.tasks.history() }
    nonisolated(nonsending) func counts() async throws(TaskStoreError) -> TaskCounts { try await self.tasks.counts() }
    var backlogByteCount: Int { 0 }
    var isDurable: Bool { false }
    nonisolated(nonsending) func flush() async throws(TaskStoreError) {}
    nonisolated(nonsending) func close() async throws(TaskStoreError) {}
}

/// An engine's process: the real service, whose functions take simulated time.
final class SimulatedEngine: Sendable {
    let name: String
    private let surroundings: Surroundings
    private let process: Int
    private let loop: VirtualLoop
    private let service: EngineService
    private let isDead = Flag()
    private let state = Mutex(State())

    private struct State {
        var isAlive = true
        var running: Task<Void, Never>?
    }

    /// - Parameter lies: Of a hundred of its answers, how many it follows by a lie.
    init(_ surroundings: Surroundings, _ connection: EngineConnectionInfo, lies: Int) throws {
        let process = surroundings.nextProcess()
        let transport = LyingTransport(
            surroundings.network.transport(of: process, isEngine: true), surroundings, of: "engine-\(process)", lies: lies,
            signer: try Signer(key: connection.common.key, scheme: connection.common.signatureScheme),
            taskPort: connection.task)
        let (name, loop) = ("engine-\(process)", VirtualLoop(surroundings.time))
        self.surroundings = surroundings
        self.process = process
        self.name = name
        self.loop = loop
        let time = surroundings.time
        // Some engines are a hundred times slower than others.
        let slowness = 1 + time.below(100)
        var options = EngineOptions()
        options.uuid = EngineUUID(name)
        options.lookUp = { [functions = surroundings.functions] name throws(FunctionCallError) in try functions.lookUp(name) }
        options.functionNames = surroundings.functions.names
        options.pace = { [isDead] turn in
            time.plan(in: time.below(slowness * 2_000_000), on: loop) { if !isDead.isSet { turn() } }
        }
        self.service = try EngineService(
            connection: connection, host: "simulated", transport: transport, eventLoop: loop, options: options,
            logger: StoryLogHandler.logger(name, surroundings.chronicle))
        surroundings.chronicle.note("\(name) starts")
        let running = Task { [self] in
            let ending = await self.service.run()
            self.state.withLock { $0.isAlive = false }
            surroundings.chronicle.note("\(name) has ended: \(ending)")
        }
        self.state.withLock { $0.running = running }
    }

    var isAlive: Bool { self.state.withLock { $0.isAlive } }

    /// Ends the process without a word to anyone.
    func kill() {
        self.surroundings.chronicle.note(.engine, "\(self.name) is killed")
        self.state.withLock { $0.isAlive = false }
        self.isDead.set()
        self.surroundings.network.end(self.process)
        // Without sockets and work the service can do nothing but end.
        self.loop.pauseEnd = 0
        self.service.stop()
    }

    /// Ends the engine as SIGTERM does.
    func terminate() {
        self.surroundings.chronicle.note(.engine, "\(self.name) is told to end")
        self.service.stop()
    }

    /// The process stands still for a while, as one that swaps does.
    func hang(for time: Int64) {
        self.surroundings.chronicle.note(.engine, "\(self.name) stands still for \(time / 1_000_000) ms")
        self.loop.pauseEnd = self.surroundings.time.nanoseconds + time
    }

    /// Cuts one of its connections.
    func cut() {
        self.surroundings.chronicle.note(.engineConnection, "a connection of \(self.name) is cut")
        _ = self.surroundings.network.cut(self.process)
    }

    func stop() async {
        self.service.stop()
        await self.state.withLock { $0.running }?.value
    }
}

/// A client's process.
final class SimulatedClient: Sendable {
    let name: String
    let client: Client
    private let surroundings: Surroundings
    private let process: Int

    /// - Parameters:
    ///   - stutters: Of a hundred of its requests, how many it sends twice.
    ///   - isHarsh: Whether broadcasts are among those.
    init(_ surroundings: Surroundings, _ connection: ClientConnectionInfo, stutters: Int, isHarsh: Bool) async throws {
        self.surroundings = surroundings
        self.process = surroundings.nextProcess()
        self.name = "client \(self.process)"
        let transport = StutteringTransport(
            surroundings.network.transport(of: self.process), surroundings, stutters: stutters,
            signer: try Signer(key: connection.common.key, scheme: connection.common.signatureScheme),
            exceptAt: isHarsh ? nil : connection.broadcast)
        self.client = try await Client(
            connection, transport: transport, eventLoop: VirtualLoop(surroundings.time),
            logger: StoryLogHandler.logger(self.name, surroundings.chronicle))
    }

    /// Cuts one of its connections, or all.
    func cut(all: Bool) {
        self.surroundings.chronicle.note(.clientConnection, "\(all ? "all connections" : "a connection") of \(self.name) cut")
        if all { self.surroundings.network.cutAll(self.process) } else { _ = self.surroundings.network.cut(self.process) }
    }
}
