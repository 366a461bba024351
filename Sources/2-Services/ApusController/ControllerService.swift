package import ApusCore
package import ApusStore
package import ApusTransport
package import ApusWire
package import Logging
package import NIOCore

/// The controller: hub and schedulers of one cluster, on one event loop.
///
/// The work is done at desks, each with state of its own, around cores that decide. The service binds the sockets, has the gate
/// check each message that comes in and passes it to its desk; nothing suspends between an event and its last effect.
package actor ControllerService {
    /// The loop that the sockets live on; being isolated to this actor means being on it.
    nonisolated let eventLoop: any EventLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor { self.eventLoop.executor.asUnownedSerialExecutor() }

    nonisolated let options: ControllerOptions
    nonisolated let logger: Logger
    nonisolated let transport: any Transport
    nonisolated let key: String
    private let store: any TaskStore

    let outlets: Outlets
    /// Checks every message that comes in.
    let gate: Gate
    let session: ControllerSession
    let recorder: Recorder

    // The desks, each of which knows those before it.
    let direct: DirectDesk
    let tasks: TaskDesk
    let broadcasts: BroadcastDesk
    let dask: DaskDesk
    let hub: HubDesk

    private let ended: AsyncStream<Void>
    private let endContinuation: AsyncStream<Void>.Continuation

    /// - Parameters:
    ///   - onStateChange: Called with the registered engines soon after one came or went; once for many that come together.
    ///   - onPresence: Called when an engine comes or goes, for the code that launched it.
    ///   - daskLauncher: Starts dask's scheduler when a client asks for it; nil: clients are told that none can be had.
    package init(
        options: ControllerOptions, transport: any Transport, store: any TaskStore, eventLoop: any EventLoop,
        daskLauncher: (any DaskLauncher)? = nil,
        onStateChange: (@Sendable (EngineRegistry.State) -> Void)? = nil,
        onPresence: (@Sendable (EnginePresence) -> Void)? = nil, logger: Logger = Logger(label: "apus.controller")
    ) throws {
        self.options = options
        self.transport = transport
        self.store = store
        self.eventLoop = eventLoop
        self.logger = logger
        self.key = options.key ?? Session.newID()
        (self.ended, self.endContinuation) = AsyncStream.makeStream(of: Void.self)
        let own = Session(
            id: options.sessionID ?? Session.newID(), username: options.username ?? Session.currentUser,
            signer: try Signer(key: self.key, scheme: options.signatureScheme))
        let outlets = Outlets(broadcastDepth: options.broadcastDepth)
        let gate = Gate(session: own, logger: logger)
        let session = ControllerSession(own, gate: gate)
        let work = LoopTasks(eventLoop)
        let recorder = Recorder(
            store, pausing: [outlets.taskClient, outlets.muxClient, outlets.broadcastClient], work: work, on: eventLoop,
            logger: logger)
        let engines = EngineRoster(options, logger: logger)
        let loans = BufferLoans(engines: engines, session: session)
        let direct = DirectDesk(
            engines: engines, session: session, loans: loans, recorder: recorder, store: store, outlets: outlets, work: work,
            on: eventLoop)
        let tasks = TaskDesk(
            options, engines: engines, direct: direct, session: session, gate: gate, loans: loans, recorder: recorder,
            store: store, outlets: outlets, work: work, on: eventLoop)
        let broadcasts = BroadcastDesk(
            engines: engines, direct: direct, tasks: tasks, session: session, gate: gate, loans: loans, recorder: recorder,
            outlets: outlets)
        let dask = DaskDesk(
            daskLauncher, session: session, registration: outlets.registration, work: work, logger: logger)
        self.dask = dask
        self.hub = HubDesk(
            options, engines: engines, tasks: tasks, direct: direct, broadcasts: broadcasts, dask: dask, session: session,
            gate: gate,
            recorder: recorder, store: store, outlets: outlets, work: work, on: eventLoop, logger: logger,
            onStateChange: onStateChange, onPresence: onPresence, stop: { [endContinuation] in endContinuation.finish() })
        (self.outlets, self.gate, self.session, self.recorder) = (outlets, gate, session, recorder)
        (self.direct, self.tasks, self.broadcasts) = (direct, tasks, broadcasts)
    }

    // MARK: Life

    /// Binds every socket, and gives the contents of the connection files.
    ///
    /// - Throws: ``TransportError`` that names the port that cannot be bound.
    package func start() async throws -> (client: ClientConnectionInfo, engine: EngineConnectionInfo) {
        let (client, engine) = try await self.bindSockets()
        self.hub.begin(client, engine)
        return (client, engine)
    }

    /// Serves until shut down or cancelled; the sockets are closed when it returns.
    package func run() async throws {
        await withTaskCancellationHandler {
            for await _ in self.ended {}
        } onCancel: {
            self.endContinuation.finish()
        }
        await self.close()
    }

    /// Makes ``run()`` return.
    package nonisolated func stop() { self.endContinuation.finish() }

    private func close() async {
        await self.dask.close()
        self.hub.close()
        await self.recorder.close()
        for outlet in self.outlets.all { await outlet.close() }
        do { try await self.store.close() } catch { self.logger.error("the task database did not close: \(error)") }
    }

    // MARK: News from outside

    /// Expects the engines of an earlier controller, which reconnect but do not register again. Each gets its id back once it can
    /// be reached; one that does not come is forgotten, as after any registration.
    ///
    /// With a store that lasts the tasks that have no outcome are taken up again: those that engines hold end there, the others are
    /// given out. Called before ``start()``.
    ///
    /// - Parameter mark: Tasks whose records are not younger than this one (``lastUnfinished()``) are left alone.
    /// - Returns: How many tasks were taken up.
    /// - Throws: ``TaskStoreError`` when the store cannot be read.
    @discardableResult
    package func restore(_ state: EngineRegistry.State?, after mark: Int64 = 0) async throws -> Int {
        if let state { self.hub.restore(state, withTasks: self.store.isDurable) }
        guard self.store.isDurable else { return 0 }
        let restorer = TaskRestorer(
            store: self.store, tasks: self.tasks, direct: self.direct, session: self.session, recorder: self.recorder,
            mark: mark)
        return try await restorer.restore()
    }

    /// The serial number of the last record without an outcome in a store that lasts; 0 where there is none.
    package func lastUnfinished() async throws -> Int64 {
        self.store.isDurable ? try await self.store.unfinished().last?.serial ?? 0 : 0
    }

    /// Takes a launcher's report of how an engine's process ended.
    package nonisolated func engineProcessEnded(_ uuid: EngineUUID, _ end: EngineEnd) {
        self.onLoop { $0.hub.engineProcessEnded(uuid, end) }
    }

    /// Makes tasks fail while no engine is registered, because none will come, and says why; with nil tasks wait again.
    package nonisolated func expectNoEngine(_ reason: String?) { self.onLoop { $0.tasks.expectNoEngine(reason) } }

    private nonisolated func onLoop(_ event: @escaping @Sendable (isolated ControllerService) -> Void) {
        self.eventLoop.execute {
            self.assumeIsolated { service in
                event(service)
                service.settle()
            }
        }
    }

    /// Throws if the stored values of the desks, their cores or the sockets contradict each other; slow, for tests between events.
    package func checkInvariants() throws {
        try self.tasks.checkInvariants()
        try self.direct.checkInvariants()
        try self.broadcasts.checkInvariants()
        try self.hub.checkInvariants()
        for outlet in self.outlets.all { try outlet.checkInvariants() }
    }

    /// How many messages were malformed, not signed with the cluster's key, at the wrong port, or replayed.
    package var badMessages: Int { self.gate.dropped }
}
