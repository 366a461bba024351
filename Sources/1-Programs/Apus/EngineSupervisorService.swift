internal import ApusClient
internal import ApusController
internal import ApusCore
internal import ApusLaunchers
internal import ApusWire
internal import Logging
internal import NIOCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Supervises the engines that a cluster has launched: restarts engines as its core decides, logs their ends, and tells the
/// controller when no engine is left and none is coming.
actor EngineSupervisorService {
    private var core: EngineSupervisor
    private let logger: Logger
    private let controller: ControllerHost
    /// Called with every set's id and record when processes were started or have ended, to write the cluster file.
    private let save: @Sendable ([String: ClusterFile.EngineSet]) async throws -> Void
    /// A signal each time another process has become the controller.
    private let restarts: AsyncStream<Void>

    /// What has happened to engines, in the order in which it was reported.
    private let events: AsyncStream<EngineSupervisor.Event>
    private let tell: AsyncStream<EngineSupervisor.Event>.Continuation

    /// The sets that were launched, in order.
    private var sets: [any EngineSet] = []
    /// Where each engine's process is.
    private var places: [EngineUUID: (set: any EngineSet, number: Int)] = [:]
    /// Where the outcome of each engine goes that a caller waits for: nil when the engine is registered, else why it will not be.
    private var arrivals: [EngineUUID: AsyncStream<(EngineUUID, ApusError?)>.Continuation] = [:]
    private var timer: Task<Void, Never>?
    /// The last writing of the cluster file; each begins when the one before it has ended.
    private var saving: Task<Void, Never>?
    /// Whether no engine is started any more, because the cluster stops or its controller has ended.
    private var isStopped = false

    init(
        _ policy: EngineSupervisor.Policy, controller: ControllerHost,
        events: (stream: AsyncStream<EngineSupervisor.Event>, continuation: AsyncStream<EngineSupervisor.Event>.Continuation),
        restarts: AsyncStream<Void>, logger: Logger,
        save: @escaping @Sendable ([String: ClusterFile.EngineSet]) async throws -> Void
    ) {
        self.core = EngineSupervisor(policy)
        self.controller = controller
        (self.events, self.tell) = events
        self.restarts = restarts
        self.logger = logger
        self.save = save
    }

    // MARK: Life

    /// Serves until ``stop()``.
    func run() async {
        await withTaskGroup { group in
            group.addTask {
                let hasDied = await self.controller.waitForEnd()
                await self.startNoMore()
                // Nobody else tells the engines, which would look for a controller until their hearts are silent for too long.
                if hasDied { await self.endEngines() }
            }
            group.addTask { for await _ in self.restarts { await self.saveRecords() } }
            for await event in self.events { self.handle(event) }
            // The group still waits for the controller's end; the cluster stops the controller after this service.
            group.cancelAll()
        }
    }

    /// Ends every engine; none is started again.
    func stop() async {
        self.startNoMore()
        let sets = self.sets
        self.sets = []
        for set in sets { await set.stop() }
        self.tell.finish()
        await self.saving?.value
    }

    private func endEngines() async { for set in self.sets { await set.stop() } }

    private func startNoMore() {
        self.isStopped = true
        self.timer?.cancel()
        for waiting in self.arrivals.values { waiting.finish() }
        self.arrivals = [:]
    }

    // MARK: Launching

    /// Starts engines. The launch fails when one of them ends before it is registered, and before ``settle(_:)`` is called.
    ///
    /// - Returns: The outcome of each engine: nil when it is registered, else why it will not be. Ends when the cluster is
    ///   stopped.
    func launch(_ order: EngineOrder, by launcher: some EngineLauncher) async throws -> AsyncStream<(EngineUUID, ApusError?)> {
        let (arrivals, continuation) = AsyncStream.makeStream(of: (EngineUUID, ApusError?).self)
        for uuid in order.uuids {
            self.arrivals[uuid] = continuation
            self.handle(.launched(uuid))
        }
        do {
            let set = try await launcher.launch(order)
            for (number, uuid) in order.uuids.enumerated() { self.places[uuid] = (set, number) }
            self.sets.append(set)
            guard !self.isStopped else { throw ApusError(.launchFailed, "the cluster was stopped") }
            let tell = self.tell
            // The task ends with the set.
            Task { for await exit in set.exits { tell.yield(.ended(exit.uuid, EngineSupervisor.End(exit))) } }
        } catch {
            await self.drop(order)
            throw error
        }
        await self.saveRecords()
        return arrivals
    }

    /// Ends the launch of an order: from now on its engines are restarted when they die.
    func settle(_ order: EngineOrder) {
        for uuid in order.uuids {
            self.arrivals.removeValue(forKey: uuid)?.finish()
            self.handle(.settled(uuid))
        }
    }

    /// Stops the engines of an order and forgets them.
    func drop(_ order: EngineOrder) async {
        for uuid in order.uuids {
            self.arrivals.removeValue(forKey: uuid)?.finish()
            self.places[uuid] = nil
            self.handle(.dropped(uuid))
        }
        for set in self.sets where set.id == order.setID { await set.stop() }
        self.sets.removeAll { $0.id == order.setID }
        await self.saveRecords()
    }

    /// The ids of all sets.
    var setIDs: [String] { self.sets.map { $0.id } }

    /// Stops engines and starts them again in their places.
    ///
    /// - Parameter ids: Which engines, by the hub's ids; nil: all, also those that have ended.
    /// - Returns: The engines whose uuids the hub has known, and the outcome of each: nil when it is registered, else why it will
    ///   not be.
    func restart(_ ids: [EngineID]?) throws -> (engines: [EngineUUID], arrivals: AsyncStream<(EngineUUID, ApusError?)>) {
        let uuids: [EngineUUID]
        if let ids {
            uuids = try ids.map { id in
                guard let uuid = self.core.uuid(of: id) else {
                    throw ApusError(.noSuchEngine, "engine \(id) was not launched by this cluster")
                }
                return uuid
            }
        } else {
            uuids = self.core.uuids
        }
        let (arrivals, continuation) = AsyncStream.makeStream(of: (EngineUUID, ApusError?).self)
        let known = uuids.filter(self.core.isKnownToHub)
        for uuid in known { self.arrivals[uuid] = continuation }
        for uuid in uuids { self.handle(.restartWanted(uuid)) }
        return (known, arrivals)
    }

    // MARK: Events

    private func handle(_ event: EngineSupervisor.Event) {
        for effect in self.core.handle(event, at: Self.now) { self.perform(effect) }
        if case .joined(let uuid, _) = event { self.arrivals[uuid]?.yield((uuid, nil)) }
    }

    private func perform(_ effect: EngineSupervisor.Effect) {
        switch effect {
        case .start(let uuid): self.start(uuid)
        case .stop(let uuid):
            guard let place = self.places[uuid] else { return }
            Task { await place.set.stop(place.number) }
        case .tellHub(let uuid, let end):
            // Without the engine's own log entries: the hub wants the lines that the engine's functions wrote.
            let lines = end.lastLines.filter { !$0.contains(" apus.engine: ") }
            self.controller.engineProcessEnded(uuid, EngineEnd(end.cause, lastLines: lines))
        case .failLaunch(let uuid, let end):
            self.arrivals[uuid]?.yield((uuid, ApusError(.launchFailed, "an engine \(end.text)" + Self.quote(end.lastLines))))
        case .report(let uuid, let id, let end, let outcome): self.report(uuid, id, end, outcome)
        case .noEngineIsComing(let reason): self.controller.expectNoEngine(reason)
        case .engineIsComing: self.controller.expectNoEngine(nil)
        case .setTimer(let time):
            self.timer?.cancel()
            let tell = self.tell
            self.timer = Task {
                do { try await Task.sleep(for: max(.zero, time - Self.now)) } catch { return }
                tell.yield(.timerFired)
            }
        }
    }

    private func start(_ uuid: EngineUUID) {
        guard !self.isStopped, let place = self.places[uuid] else { return }
        let tell = self.tell
        Task {
            do { try await place.set.restart(place.number) } catch {
                tell.yield(.notStarted(uuid, "could not be started again: \(error)"))
            }
            await self.saveRecords()
        }
    }

    private func report(_ uuid: EngineUUID, _ id: EngineID?, _ end: EngineSupervisor.End, _ outcome: EngineSupervisor.Outcome) {
        let name = id.map { "engine \($0)" } ?? "an engine"
        let text = "\(name) \(end.text); \(outcome)" + Self.quote(end.lastLines)
        if case .restarts = outcome {} else { self.arrivals[uuid]?.yield((uuid, ApusError(.launchFailed, text))) }
        guard !self.isStopped else { return }
        self.logger.log(level: outcome == .staysAway ? .debug : .warning, "\(text)")
    }

    private static func quote(_ lines: [String]) -> String {
        lines.isEmpty ? "" : "; last lines:" + lines.map { "\n    " + $0 }.joined()
    }

    private static var now: MonotonicTime { MonotonicTime(nanoseconds: NIODeadline.now().uptimeNanoseconds) }

    // MARK: The cluster file

    private func saveRecords() async {
        let before = self.saving
        let next = Task {
            await before?.value
            await self.writeRecords()
        }
        self.saving = next
        await next.value
    }

    private func writeRecords() async {
        var records: [String: ClusterFile.EngineSet] = [:]
        for set in self.sets { records[set.id] = await set.record }
        guard !self.isStopped else { return }
        do { try await self.save(records) } catch { self.logger.error("\(error)") }
    }
}

extension EngineSupervisor.End {
    init(_ exit: EngineExit) {
        let kind: Kind =
            switch exit.exit.cause {
            case _ where exit.wasStopped: .stopped
            case .code(0): .clean
            // A shell exits with this code when SIGTERM has ended its program.
            case .signal(SIGTERM), .code(128 + SIGTERM): .terminated
            case .code, .signal, .unknown: .died
            }
        let cause: EngineEnd.Cause =
            switch exit.exit.cause {
            case .code(let code): .code(code)
            case .signal(let number): .signal(number)
            case .unknown: .unknown
            }
        // Log entries of the levels info and debug do not explain why an engine ended.
        let lines = exit.exit.lastLines.filter { !$0.contains(" info apus.engine: ") && !$0.contains(" debug apus.engine: ") }
        self.init(kind, "\(exit.exit.cause)", lastLines: lines, cause: cause)
    }
}

extension EngineSupervisor.Event {
    init(_ presence: EnginePresence) {
        switch presence {
        case .joined(let uuid, let id): self = .joined(uuid, id)
        case .left(let uuid, let cause, let hadWork):
            self = .left(uuid, EngineSupervisor.Departure(cause, hadWork: hadWork))
        }
    }
}
