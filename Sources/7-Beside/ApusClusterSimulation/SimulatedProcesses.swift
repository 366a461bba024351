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

/// The parts of a simulated world that all its processes share.
struct Surroundings: Sendable {
    let time: VirtualTime
    let network: SimulatedNetwork
    let chronicle: Chronicle
    let functions: SimulatedFunctions
    let overheard = Overheard()
    private let processes = Counter()

    /// The last requests that engines were sent, which lying engines may answer.
    final class Overheard: Sendable {
        private let state = Mutex(State())

        private struct State {
            var last: [Message] = []
            /// The headers of all requests that each engine was ever sent.
            var own: [String: Set<ByteBuffer>] = [:]
        }

        func add(_ message: Message, by engine: String) {
            self.state.withLock { state in
                state.last = state.last.suffix(9) + [message]
                state.own[engine, default: []].insert(message.header)
            }
        }

        /// The last requests that the engine was not sent itself. A lying engine answers only these, because the controller must
        /// accept an engine's first answer to a request that the engine was sent.
        func last(notBy engine: String) -> [Message] {
            self.state.withLock { state in state.last.filter { state.own[engine]?.contains($0.header) != true } }
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

    /// The state that outlives a controller: its disk and its list of engines.
    final class Remains: Sendable {
        let disk: SimulatedDisk
        let engines = Mutex<EngineRegistry.State?>(nil)
        /// Whether a controller has had the disk. It may have been killed before it had saved its list of engines.
        let isUsed = Flag()

        init(_ disk: SimulatedDisk) { self.disk = disk }
    }

    /// Starts a controller with the disk and the engines of an earlier controller, if there was one.
    init(_ surroundings: Surroundings, _ options: ControllerOptions, _ remains: Remains) async throws {
        self.surroundings = surroundings
        self.process = surroundings.nextProcess()
        let store = SimulatedStore(remains.disk)
        self.store = store
        let loop = VirtualLoop(surroundings.time)
        self.service = try ControllerService(
            options: options, transport: surroundings.network.transport(of: self.process, isController: true), store: store,
            eventLoop: loop,
            onStateChange: { state in if store.isOpen { remains.engines.withLock { $0 = state } } },
            onPresence: { [chronicle = surroundings.chronicle, process] presence in
                // A dead controller still turns its loop, where it loses its engines.
                guard store.isOpen else { return }
                switch presence {
                case .joined(let uuid, _): chronicle.note(uuid.text, isRegistered: true, by: process)
                case .left(let uuid, let departure, _):
                    if !departure.mayStillAnswer { chronicle.note(uuid.text, isRegistered: false, by: process) }
                }
            },
            logger: StoryLogHandler.logger("controller \(self.process)", surroundings.chronicle))
        loop.check { [weak service, process] in
            guard let service else { return }
            surroundings.chronicle.demand("controller \(process)") {
                try service.assumeIsolated { try $0.checkInvariants() }
            }
        }
        if remains.isUsed.isSet { try await self.service.restore(remains.engines.withLock { $0 }) }
        remains.isUsed.set()
        (self.clientInfo, self.engineInfo) = try await self.service.start()
        self.running.withLock { $0 = Task { [service] in try await service.run() } }
    }

    /// The options of a controller that takes over from this one at the same ports.
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

    /// The number of unfinished task records.
    var unfinished: Int { get async throws { try await self.store.counts().unfinished } }

    /// Kills the process, which sends no last message.
    func kill() {
        self.surroundings.chronicle.controllerDied(self.process)
        let lost = self.store.kill()
        if lost > 0 { self.surroundings.chronicle.note("\(lost) changes of its records are lost") }
        self.surroundings.network.end(self.process)
        self.service.stop()
    }

    func stop() async {
        self.service.stop()
        _ = await self.running.withLock { $0 }?.result
    }
}

/// An engine's process: the real engine service, whose work takes simulated time.
final class SimulatedEngine: Sendable {
    let name: String
    /// Whether the engine owns the scarce resource.
    let isOwner: Bool
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

    /// - Parameters:
    ///   - lies: The percentage of answers that the engine follows with a lie.
    ///   - isOwner: Whether the engine owns the scarce resource.
    ///   - mayBeSlow: Whether the engine may take seconds for a task.
    init(_ surroundings: Surroundings, _ connection: EngineConnectionInfo, lies: Int, isOwner: Bool, mayBeSlow: Bool) throws {
        let process = surroundings.nextProcess()
        let transport = LyingTransport(
            surroundings.network.transport(of: process, isEngine: true), surroundings, of: "\(Self.prefix)\(process)", lies: lies,
            signer: try Signer(key: connection.common.key, scheme: connection.common.signatureScheme),
            taskPort: connection.task)
        let (name, loop) = ("\(Self.prefix)\(process)", VirtualLoop(surroundings.time))
        self.surroundings = surroundings
        self.process = process
        self.name = name
        self.isOwner = isOwner
        self.loop = loop
        let time = surroundings.time
        // Some engines are a hundred times slower than others.
        let slowness = mayBeSlow && time.chance(30) ? 300 : 1 + time.below(100)
        var options = EngineOptions()
        options.uuid = EngineUUID(name)
        options.lookUp = { [functions = surroundings.functions] name throws(FunctionCallError) in try functions.lookUp(name) }
        options.functionNames = surroundings.functions.names
        if isOwner {
            options.resources = [SimulatedFunctions.resource: 1]
            surroundings.chronicle.noteOwner(name)
        }
        options.pace = { [isDead] turn in
            time.plan(in: time.below(slowness * 2_000_000), on: loop) { if !isDead.isSet { turn() } }
        }
        self.service = try EngineService(
            connection: connection, host: "simulated", transport: transport, eventLoop: loop, options: options,
            logger: StoryLogHandler.logger(name, surroundings.chronicle))
        loop.check { [weak service] in
            guard let service else { return }
            surroundings.chronicle.demand(name) { try service.assumeIsolated { try $0.checkInvariants() } }
        }
        surroundings.chronicle.note("\(name) starts")
        let running = Task { [self] in
            let ending = await self.service.run()
            self.state.withLock { $0.isAlive = false }
            surroundings.chronicle.note("\(name) has ended: \(ending)")
        }
        self.state.withLock { $0.running = running }
    }

    private static let prefix = "engine-"

    /// The process of an engine by its name.
    static func process(of name: String) -> Int? { Int(name.dropFirst(Self.prefix.count)) }

    var isAlive: Bool { self.state.withLock { $0.isAlive } }

    /// Kills the process, which sends no last message.
    func kill() {
        self.surroundings.chronicle.note(.engine, "\(self.name) is killed")
        self.state.withLock { $0.isAlive = false }
        self.isDead.set()
        self.surroundings.network.end(self.process)
        // Without sockets and work the service can only end.
        self.loop.pauseEnd = 0
        self.service.stop()
    }

    /// Ends the engine as SIGTERM does.
    func terminate() {
        self.surroundings.chronicle.note(.engine, "\(self.name) is told to end")
        self.service.stop()
    }

    /// Pauses the process for a while, as if the system had swapped it out.
    func hang(for time: Int64) {
        self.surroundings.chronicle.note(.engine, "\(self.name) stands still for \(time / 1_000_000) ms")
        self.loop.pauseEnd = self.surroundings.time.nanoseconds + time
    }

    /// Cuts one of the engine's connections.
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

    /// - Parameter stutters: The percentage of requests that the client sends twice.
    init(_ surroundings: Surroundings, _ connection: ClientConnectionInfo, stutters: Int) async throws {
        self.surroundings = surroundings
        self.process = surroundings.nextProcess()
        self.name = "client \(self.process)"
        let transport = StutteringTransport(
            surroundings.network.transport(of: self.process), surroundings, stutters: stutters,
            signer: try Signer(key: connection.common.key, scheme: connection.common.signatureScheme))
        let loop = VirtualLoop(surroundings.time)
        self.client = try await Client(
            connection, transport: transport, eventLoop: loop,
            logger: StoryLogHandler.logger(self.name, surroundings.chronicle))
        loop.check { [weak client, name] in
            guard let client else { return }
            surroundings.chronicle.demand(name) { try client.checkInvariants() }
        }
    }

    /// Cuts one of the client's connections, or all of them.
    func cut(all: Bool) {
        self.surroundings.chronicle.note(.clientConnection, "\(all ? "all connections" : "a connection") of \(self.name) cut")
        if all { self.surroundings.network.cutAll(self.process) } else { _ = self.surroundings.network.cut(self.process) }
    }
}
