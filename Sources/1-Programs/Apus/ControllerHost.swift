public import ApusController
internal import ApusCore
internal import ApusSQLite
internal import ApusStore
public import ApusWire
public import Logging
internal import NIOCore
internal import NIOPosix
internal import ZMTPTransport

/// A controller that runs in this process, with its connection files.
public final class ControllerHost: Sendable {
    /// Where the connection files are; nil when none are written.
    public struct Files: Sendable {
        /// The profile in whose folders they are.
        public var profile: ProfileDirectory
        /// Part of the files' names, where it is not empty.
        public var clusterID: String
        /// Whether the files stay when the controller stops, and their ports and key are used again.
        public var reuse: Bool
        /// Whether engines that were registered when a controller last ran here have their ids again as soon as they reconnect.
        public var restore = false
        /// The file that clients read. In the profile's security folder unless told, as ``engineFile`` is.
        public var clientFile: String
        /// The file that engines read; it is for its owner's eyes, for it has the key that signs messages.
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

        /// The files that a controller left here, when both are whole and agree.
        func existing() throws(WireError) -> (client: ClientConnectionInfo, engine: EngineConnectionInfo)? {
            guard PrivateFile.exists(self.clientFile) || PrivateFile.exists(self.engineFile) else { return nil }
            let client = try ClientConnectionInfo(PrivateFile.readJSON(self.clientFile))
            let engine = try EngineConnectionInfo(PrivateFile.readJSON(self.engineFile))
            guard client.common.registration == engine.common.registration, client.common.key == engine.common.key,
                client.common.signatureScheme == engine.common.signatureScheme
            else { throw WireError("\(self.clientFile) and \(self.engineFile) are of two controllers") }
            return (client, engine)
        }

        /// Who was registered when a controller last ran here; nil when nobody knows.
        func savedEngines() throws(WireError) -> EngineRegistry.State? {
            guard PrivateFile.exists(self.stateFile) else { return nil }
            guard let state = EngineRegistry.State(try PrivateFile.readJSON(self.stateFile)) else {
                throw WireError("\(self.stateFile) lists no engines")
            }
            return state
        }
    }

    /// What clients connect with: the text of the client connection file.
    public let clientInfo: ClientConnectionInfo
    /// What engines connect with: the text of the engine connection file.
    public let engineInfo: EngineConnectionInfo
    private let files: Files?
    private let service: ControllerService
    private let running: Task<Void, any Error>

    /// Binds the sockets, writes the files and serves from then on.
    ///
    /// - Throws: ``ApusError`` when a port is in use or a file cannot be written.
    public convenience init(
        options: ControllerOptions = ControllerOptions(), files: Files? = nil, logger: Logger = Logger(label: "apus.controller")
    ) async throws {
        try await self.init(options: options, files: files, logger: logger, onPresence: nil)
    }

    /// - Parameter onPresence: Called when an engine comes or goes.
    init(
        options: ControllerOptions, files: Files?, logger: Logger, onPresence: (@Sendable (EnginePresence) -> Void)?
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
                options: options, transport: ZMTPTransport(), store: try Self.store(options.database, files?.profile, logger),
                eventLoop: MultiThreadedEventLoopGroup.singleton.next(), onStateChange: { states.save($0) },
                onPresence: onPresence, logger: logger)
            if let files, files.restore {
                do { if let saved = try files.savedEngines() { await service.restore(saved) } } catch {
                    logger.error("the engines cannot be restored: \(error)")
                }
            }
            (self.clientInfo, self.engineInfo) = try await service.start()
        } catch {
            throw ApusError(.launchFailed, "the controller could not start: \(error)", cause: nil)
        }
        self.service = service
        self.files = files
        self.running = Task {
            try await service.run()
            await states.finish()
        }
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

    private static func store(_ database: ControllerOptions.Database, _ profile: ProfileDirectory?, _ logger: Logger) throws
        -> any TaskStore
    {
        switch database {
        case .memory(let records, let bytes):
            return MemoryTaskStore(limits: MemoryTasks.Limits(records: records, bytes: bytes))
        case .sqlite(let path):
            guard let path = path ?? profile.map({ $0.path + "/tasks.db" }) else {
                throw WireError("the SQLite task database needs a path where there is no profile")
            }
            return try SQLiteTaskStore(path: path) { logger.error("\($0)") }
        case .none: return NoTaskStore()
        }
    }

    /// Waits until the controller has been shut down, by a client or by ``stop()``; its files are gone then.
    ///
    /// Cancelling the wait stops the controller.
    public func wait() async throws {
        try await withTaskCancellationHandler {
            try await self.running.value
        } onCancel: {
            self.service.stop()
        }
        self.removeFiles()
    }

    /// Waits until the controller has ended, however it did; changes nothing.
    func waitForEnd() async { _ = await self.running.result }

    /// Has tasks fail where no engine is registered, for none is coming, and why; nil: has them wait again.
    func expectNoEngine(_ reason: String?) { self.service.expectNoEngine(reason) }

    /// Tells the controller that the process of an engine has ended, which its connections may not show.
    func engineProcessEnded(_ uuid: EngineUUID, _ end: EngineEnd) { self.service.engineProcessEnded(uuid, end) }

    /// Stops serving and removes the files.
    public func stop() async {
        self.service.stop()
        _ = await self.running.result
        self.removeFiles()
    }

    private func removeFiles() {
        guard let files, !files.reuse else { return }
        PrivateFile.remove(files.clientFile)
        PrivateFile.remove(files.engineFile)
    }
}

/// Keeps the list of registered engines in its file, written beside the controller's loop: a disk that is slow must not hold up
/// tasks. Of lists that come while one is being written the last is written next, and the last of all always.
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
    /// Takes over where an earlier controller listened and how it signed, so that its peers find this one.
    fileprivate mutating func reuse(_ client: ClientConnectionInfo, _ engine: EngineConnectionInfo) {
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
