internal import ApusClient
public import ApusController
internal import ApusCore
internal import ApusLaunchers
internal import ApusSQLite
internal import ApusStore
public import ApusWire
internal import Foundation
public import Logging
internal import NIOCore
internal import NIOPosix
internal import ZMTPTransport

/// A controller with its connection files: in this process or, for a cluster that wants it so, in a process of its own
/// (``Cluster/ControllerPlace``).
public final class ControllerHost: Sendable {
    /// Where a controller's connection files are.
    public struct Files: Sendable {
        /// The profile whose folders have the files.
        public var profile: ProfileDirectory
        /// The cluster's id; it is part of the files' names unless it is empty.
        public var clusterID: String
        /// Whether the controller uses the ports and key of files that are there, and leaves the files when it stops.
        public var reuse: Bool
        /// Whether engines that were registered when a controller last ran here get their ids back when they reconnect.
        public var restore = false
        /// The path of the file that clients read; by default in the profile's security folder.
        public var clientFile: String
        /// The path of the file that engines read; by default in the profile's security folder.
        ///
        /// Both files have the key that signs messages, so only their owner may read them.
        public var engineFile: String

        /// The files of a cluster in its profile's folders.
        public init(profile: ProfileDirectory, clusterID: String, reuse: Bool = false) {
            self.profile = profile
            self.clusterID = clusterID
            self.reuse = reuse
            self.clientFile = profile.clientFile(clusterID: clusterID)
            self.engineFile = profile.engineFile(clusterID: clusterID)
        }

        var stateFile: String { self.profile.engineStateFile(clusterID: self.clusterID) }

        /// Reads the files that an earlier controller left; nil when there are none. Throws unless both can be read and agree.
        func existing() throws(WireError) -> (client: ClientConnectionInfo, engine: EngineConnectionInfo)? {
            guard PrivateFile.exists(self.clientFile) || PrivateFile.exists(self.engineFile) else { return nil }
            let client = try ClientConnectionInfo(PrivateFile.readJSON(self.clientFile))
            let engine = try EngineConnectionInfo(PrivateFile.readJSON(self.engineFile))
            guard client.common.registration == engine.common.registration, client.common.key == engine.common.key,
                client.common.signatureScheme == engine.common.signatureScheme
            else { throw WireError("\(self.clientFile) and \(self.engineFile) are of two controllers") }
            return (client, engine)
        }

        /// Reads which engines were registered when a controller last ran here; nil when there is no such list.
        func savedEngines() throws(WireError) -> EngineRegistry.State? {
            guard PrivateFile.exists(self.stateFile) else { return nil }
            guard let state = EngineRegistry.State(try PrivateFile.readJSON(self.stateFile)) else {
                throw WireError("\(self.stateFile) lists no engines")
            }
            return state
        }
    }

    /// The contents of the client connection file, with which clients connect.
    public let clientInfo: ClientConnectionInfo
    /// The contents of the engine connection file, with which engines connect.
    public let engineInfo: EngineConnectionInfo
    private let files: Files?
    private let place: Place
    /// How many tasks of an earlier controller this one took up at its start.
    let takenTasks: Int
    /// Records up to this serial number are those of an earlier cluster, whose tasks are left alone.
    let mark: Int64

    private enum Place {
        case here(ControllerService, running: Task<Void, any Error>)
        case elsewhere(ControllerSupervisorService)
    }

    /// Binds the sockets, writes the files and serves from then on.
    ///
    /// - Throws: ``ApusError`` when a port is in use or a file cannot be written.
    public convenience init(
        options: ControllerOptions = ControllerOptions(), files: Files? = nil, logger: Logger = Logger(label: "apus.controller")
    ) async throws {
        try await self.init(options: options, files: files, mark: nil, logger: logger, onPresence: nil)
    }

    /// Starts a controller in a process of its own, which is started again when it dies.
    ///
    /// - Parameters:
    ///   - onPresence: Called when an engine comes or goes.
    ///   - onRestart: Called when another process has become the controller.
    init(
        _ policy: ControllerSupervisor.Policy, options: ControllerOptions, files: Files, logger: Logger,
        onPresence: @escaping @Sendable (EnginePresence) -> Void, onRestart: @escaping @Sendable () -> Void
    ) async throws {
        let service = ControllerSupervisorService(
            policy, options: options, files: files, logger: logger, onPresence: onPresence, onRestart: onRestart)
        let addresses = try await service.start()
        (self.clientInfo, self.engineInfo) = (addresses.client, addresses.engine)
        self.files = files
        self.place = .elsewhere(service)
        (self.takenTasks, self.mark) = (0, 0)
    }

    /// - Parameters:
    ///   - mark: Tasks of records up to this one are not restored. Where nothing is restored, any number has ``mark`` found; nil does
    ///     not.
    ///   - onPresence: Called when an engine comes or goes.
    init(
        options: ControllerOptions, files: Files?, mark: Int64?, logger: Logger,
        onPresence: (@Sendable (EnginePresence) -> Void)?
    )
        async throws
    {
        var options = options
        var keepsFiles = false
        let states = EngineStateWriter(path: files?.stateFile, logger: logger)
        let service: ControllerService
        do {
            try files?.profile.create()
            if let files, files.reuse {
                do {
                    if let existing = try files.existing() {
                        options.reuse(existing.client, existing.engine)
                        keepsFiles = true
                        logger.info("ports and key are those of \(files.clientFile)")
                    }
                } catch {
                    logger.error("the connection files cannot be used again, and are written anew: \(error)")
                }
            }
            service = try ControllerService(
                options: options, transport: ZMTPTransport(), store: try Self.store(options.database, files, logger),
                eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
                daskLauncher: LocalDaskLauncher(
                    python: options.python, log: files.map { "\($0.profile.log)/dask-scheduler-\($0.clusterID).log" }),
                onStateChange: { states.save($0) },
                onPresence: onPresence, logger: logger)
            if let files, files.restore {
                var saved: EngineRegistry.State?
                do { saved = try files.savedEngines() } catch { logger.error("the engines cannot be restored: \(error)") }
                self.mark = mark ?? 0
                self.takenTasks = try await service.restore(saved, after: self.mark)
                if self.takenTasks > 0 { logger.info("\(self.takenTasks) unfinished tasks are taken up again") }
            } else {
                self.mark = mark == nil ? 0 : try await service.lastUnfinished()
                self.takenTasks = 0
            }
            (self.clientInfo, self.engineInfo) = try await service.start()
        } catch {
            throw ApusError(.launchFailed, "the controller could not start: \(error)", cause: nil)
        }
        self.files = files
        self.place = .here(
            service,
            running: Task {
                try await service.run()
                await states.finish()
            })
        do {
            if let files, !keepsFiles {
                try PrivateFile.write(self.engineInfo.json.indentedText + "\n", to: files.engineFile)
                try PrivateFile.write(self.clientInfo.json.indentedText + "\n", to: files.clientFile)
            }
        } catch {
            await self.stop()
            throw ApusError(.launchFailed, "the connection files could not be written: \(error)", cause: nil)
        }
    }

    private static func store(_ database: ControllerOptions.Database, _ files: Files?, _ logger: Logger) throws -> any TaskStore {
        switch database {
        case .memory(let records, let bytes):
            return MemoryTaskStore(limits: MemoryTasks.Limits(records: records, bytes: bytes))
        case .sqlite(let path, let waitsForDisk, let records, let bytes):
            guard let path = path ?? files.map({ $0.profile.path + "/" + ProfileDirectory.taskFileName(clusterID: $0.clusterID) })
            else {
                throw WireError("the SQLite task database needs a path where there is no profile")
            }
            let limits = SQLiteTaskStore.Limits(records: records, bytes: bytes)
            return try SQLiteTaskStore(path: path, limits: limits, waitsForDisk: waitsForDisk) { logger.error("\($0)") }
        case .none: return NoTaskStore()
        }
    }

    /// Waits until the controller has been shut down, by a client or by ``stop()``, and removes its files.
    ///
    /// Cancelling the wait stops the controller.
    ///
    /// - Throws: ``ApusError`` with code `controllerGone` when a controller in a process of its own has died and is not started again.
    public func wait() async throws {
        switch self.place {
        case .here(let service, let running):
            try await withTaskCancellationHandler {
                try await running.value
            } onCancel: {
                service.stop()
            }
            self.removeFiles()
        case .elsewhere(let service):
            let ending = await withTaskCancellationHandler {
                await service.waitForEnd()
            } onCancel: {
                Task { await service.stop() }
            }
            self.removeFiles()
            if let error = ending.error { throw error }
        }
    }

    /// Waits until the controller has ended, for whatever reason. Cancelling the wait does not stop the controller.
    ///
    /// - Returns: Whether the controller has died and is not started again.
    @discardableResult
    func waitForEnd() async -> Bool {
        switch self.place {
        case .here(_, let running):
            _ = await running.result
            return false
        case .elsewhere(let service): return await service.waitForEnd().error != nil
        }
    }

    /// The process that is the controller, for the cluster file.
    func process(in cluster: ClusterFile) async -> ClusterFile.Process? {
        switch self.place {
        case .here:
            ClusterFile.Process(
                processID: ProcessInfo.processInfo.processIdentifier, outputFile: "", clusterID: cluster.clusterID,
                profile: cluster.profile)
        case .elsewhere(let service): await service.record
        }
    }

    /// Tells the controller that no further engine will come, and why, so that tasks fail while no engine is registered; with nil
    /// tasks wait for an engine again.
    func expectNoEngine(_ reason: String?) {
        switch self.place {
        case .here(let service, _): service.expectNoEngine(reason)
        case .elsewhere(let service): service.expectNoEngine(reason)
        }
    }

    /// Tells the controller that the process of an engine has ended, because the engine's connections may not show that.
    func engineProcessEnded(_ uuid: EngineUUID, _ end: EngineEnd) {
        switch self.place {
        case .here(let service, _): service.engineProcessEnded(uuid, end)
        case .elsewhere(let service): service.engineProcessEnded(uuid, end)
        }
    }

    /// From now on a controller that dies is not started again, because its cluster is about to stop.
    func prepareToStop() async { if case .elsewhere(let service) = self.place { await service.prepareToStop() } }

    /// Stops serving and removes the files.
    public func stop() async {
        await self.stopServing()
        self.removeFiles()
    }

    /// Stops serving and leaves the files, by which a later controller can be found at the same addresses.
    func stopServing() async {
        switch self.place {
        case .here(let service, let running):
            service.stop()
            _ = await running.result
        case .elsewhere(let service): await service.stop()
        }
    }

    private func removeFiles() {
        guard let files, !files.reuse else { return }
        PrivateFile.remove(files.clientFile)
        PrivateFile.remove(files.engineFile)
    }
}

/// Writes the list of registered engines to its file, off the controller's event loop, so that a slow disk does not delay tasks.
///
/// While a list is being written, only the newest of the lists that come is kept. The last list of all is always written.
private final class EngineStateWriter: Sendable {
    private let states: AsyncStream<EngineRegistry.State>.Continuation
    private let writing: Task<Void, Never>

    init(path: String?, logger: Logger) {
        let (stream, states) = AsyncStream.makeStream(of: EngineRegistry.State.self, bufferingPolicy: .bufferingNewest(1))
        self.states = states
        self.writing = Task {
            for await state in stream {
                guard let path else { continue }
                do { try PrivateFile.write(state.json.indentedText + "\n", to: path) } catch {
                    logger.error("the list of engines was not saved: \(error)")
                }
            }
        }
    }

    func save(_ state: EngineRegistry.State) { self.states.yield(state) }

    func finish() async {
        self.states.finish()
        await self.writing.value
    }
}

extension ControllerOptions {
    /// Takes over an earlier controller's addresses, ports and key, so that its clients and engines can reconnect.
    mutating func reuse(_ client: ClientConnectionInfo, _ engine: EngineConnectionInfo) {
        self.key = engine.common.key
        self.signatureScheme = engine.common.signatureScheme
        self.location = engine.common.location
        self.engineAddress = HostAddress.host(ofInterface: engine.common.interface)
        self.clientAddress = HostAddress.host(ofInterface: client.common.interface)
        if self.engineSSH.isEmpty { self.engineSSH = engine.common.ssh }
        if self.clientSSH.isEmpty { self.clientSSH = client.common.ssh }
        self.scheme = client.taskScheme
        self.broadcastDepth = engine.broadcast.count > 1 ? engine.broadcast.count.trailingZeroBitCount : 0
        // The order in which the sockets are bound.
        self.enginePorts =
            [
                engine.common.registration, engine.control, engine.mux, engine.task, engine.iopub, engine.heartbeatPing,
                engine.heartbeatPong,
            ] + engine.broadcast
        self.clientPorts = [
            client.control, client.mux, client.task, client.iopub, client.notification, client.broadcast ?? 0,
        ]
    }
}
