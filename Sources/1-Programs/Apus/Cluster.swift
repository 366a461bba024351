public import ApusClient
public import ApusController
internal import ApusCore
internal import ApusEngine
package import ApusLaunchers
public import ApusWire
internal import Foundation
public import Logging

/// A controller and engines on this machine, started and stopped together.
///
/// Most programs use the scope ``withCluster(_:engines:options:_:)``; the object is for a cluster that outlives a function.
/// Engines are processes of this same program in engine mode, so they have all its `@Remote` functions; with ``Options/python``
/// each has a Python interpreter as well.
///
/// The controller runs in this process unless ``Options/controllerPlace`` says otherwise; in a process of its own it is started again
/// when it dies.
///
/// An engine whose process dies is started again in its place, with its id and an empty namespace: at once, and after growing
/// pauses when the engine dies again. An engine that was told to end (``Client/shutdown(_:restart:hub:)``, SIGTERM) stays away
/// until ``restartEngines(_:)``. When no engine is left and none is being started, load-balanced tasks end with code
/// ``ApusError/Code/noEnginesRegistered`` and the reason.
public final class Cluster: Sendable {
    /// The settings of a cluster. The defaults suit a program that has the machine to itself.
    public struct Options: Sendable {
        /// The settings of the controller.
        public var controller = ControllerOptions()
        /// The profile whose folder gets the connection files, so that other programs can connect; nil: a temporary folder, which
        /// is removed when the cluster stops.
        public var profile: ProfileDirectory?
        /// The id that tells this cluster from others of the same profile; nil: a new id. A cluster whose id is empty is the one
        /// that ``Client/connect(profile:profileDirectory:clusterID:timeout:patience:maximumMessageSize:eventLoopGroup:logger:)``
        /// finds without an id.
        public var clusterID: String?
        /// Whether the controller runs in this process or in one of its own.
        public var controllerPlace = ControllerPlace.thisProcess
        /// Whether a controller in a process of its own is started again when it dies: at once, and after growing pauses when it
        /// dies again within a minute, ``restartLimit`` times in a row at most.
        public var restartsController = true
        /// Whether the controller takes up the tasks that an earlier cluster of this profile, id and database has left without an
        /// outcome, under the addresses that the earlier one had. The connection files stay when the cluster stops.
        public var restores = false
        /// How long engines may take to register.
        public var startTimeout: Duration = .seconds(60)
        /// The program that the engines run, and its arguments; nil: this program. A program that imports Apus is started in
        /// engine mode.
        public var engineCommand: [String]?
        /// The engines' program for callers that need more than a command, such as `apus start`; overrides `engineCommand`.
        package var engineProgram: LocalLauncher.Engine?
        /// Whether an engine whose process dies is started again in its place.
        public var restartsEngines = true
        /// How often in a row an engine that had no work may die and be started again; after one death more the engine stays
        /// away. The count starts anew when the engine has run for a minute, or dies while it has work, which then is the work's
        /// fault. The limit holds for the controller, too (``restartsController``).
        public var restartLimit = 5
        /// Whether this process is nothing but the launcher of the cluster, so that whoever stops the cluster ends this process, too.
        package var isLauncher = false
        /// The Python interpreter that engines run as well; nil: Swift functions only. Where IPython is installed, its shell runs
        /// cells.
        public var python: PythonChoice?
        /// Where the cluster logs; by default warnings and errors only.
        public var logger: Logger = {
            var logger = Logger(label: "apus.cluster")
            logger.logLevel = .warning
            return logger
        }()

        /// Creates the default options.
        public init() {}
    }

    /// Where a cluster's controller runs.
    public enum ControllerPlace: Sendable, Hashable {
        /// In this process. A controller that crashes takes this process with it, and the engines end.
        case thisProcess
        /// In a process of its own, which is this program again, started in controller mode before its `main` would run. When that process
        /// dies, the next one is started in its place: engines and clients find it at the old addresses. With a database of kind
        /// `sqlite`, tasks that have no outcome are taken up again; otherwise they are lost. A controller that is given up ends the
        /// engines. When this process dies, the controller and the engines end.
        case ownProcess
    }

    /// Which Python interpreter engines run.
    public enum PythonChoice: Sendable, Hashable {
        /// The interpreter of the active environment (`VIRTUAL_ENV`, `CONDA_PREFIX`), else `python3` on the path.
        case active
        /// An interpreter's path, or a name to be found on the path.
        case named(String)

        /// The interpreter of the given path or name; for nil the active environment's.
        public static func interpreter(_ name: String?) -> PythonChoice { name.map { .named($0) } ?? .active }

        fileprivate var text: String {
            switch self {
            case .active: ""
            case .named(let name): name
            }
        }
    }

    /// The id that tells this cluster from others of the same profile; it is part of the files' names.
    public let clusterID: String
    /// The profile whose folder has the connection files.
    public let profile: ProfileDirectory
    /// The controller.
    public let controller: ControllerHost
    private let options: Options
    private let ownsProfile: Bool
    private let supervisor: EngineSupervisorService
    private let supervising: Task<Void, Never>

    /// Starts a controller; engines are started by ``startEngines(_:resources:)``.
    public init(options: Options = Options()) async throws {
        var options = options
        if options.controller.python == nil, case .named(let python) = options.python { options.controller.python = python }
        self.options = options
        self.clusterID = options.clusterID ?? ClusterFile.newClusterID()
        self.ownsProfile = options.profile == nil
        self.profile =
            options.profile ?? ProfileDirectory(path: NSTemporaryDirectory() + "apus-" + self.clusterID)
        do { try self.profile.create() } catch {
            throw ApusError(.launchFailed, "the folder \(self.profile.path) cannot be made", cause: error)
        }
        let events = AsyncStream.makeStream(of: EngineSupervisor.Event.self)
        var files = ControllerHost.Files(profile: self.profile, clusterID: self.clusterID, reuse: options.restores)
        files.restore = options.restores
        let restarts = AsyncStream.makeStream(of: Void.self)
        let onPresence: @Sendable (EnginePresence) -> Void = { events.continuation.yield(EngineSupervisor.Event($0)) }
        let controller =
            switch options.controllerPlace {
            case .thisProcess:
                try await ControllerHost(
                    options: options.controller, files: files, mark: nil, logger: options.logger, onPresence: onPresence)
            case .ownProcess:
                try await ControllerHost(
                    options.controllerPolicy, options: options.controller, files: files, logger: options.logger,
                    onPresence: onPresence, onRestart: { restarts.continuation.yield() })
            }
        self.controller = controller
        // A cluster in a temporary folder has no cluster file: other programs are not to list or stop it.
        var file = ClusterFile(clusterID: self.clusterID, profile: self.profile)
        if options.isLauncher { file.launcher = ProcessInfo.processInfo.processIdentifier }
        let listing = self.ownsProfile ? nil : file
        let supervisor = EngineSupervisorService(
            options.restartPolicy, controller: controller, events: events, restarts: restarts.stream, logger: options.logger,
            save: { try await listing?.save(with: $0, controller) })
        self.supervisor = supervisor
        self.supervising = Task { await supervisor.run() }
        do { try await listing?.save(with: [:], controller) } catch {
            await self.stop()
            throw error
        }
    }

    /// Connects a new client to this cluster; the caller closes the client.
    public func connect() async throws -> Client { try await Client.connect(to: self.controller.clientInfo) }

    /// Starts engines and waits until they have registered.
    ///
    /// - Parameters:
    ///   - count: How many engines to add.
    ///   - resources: What each new engine owns that tasks may ask for (``LoadBalancedView/resources``): `["gpu": 1]`.
    /// - Throws: ``ApusError`` with code `launchFailed` when an engine cannot be started or ends before it has registered (the
    ///   message has its last lines of output), `timeout` when registering takes longer than ``Options/startTimeout``. No new
    ///   engine is left then.
    public func startEngines(_ count: Int, resources: [String: Double] = [:]) async throws {
        let engine =
            self.options.engineProgram ?? self.options.engineCommand.flatMap { LocalLauncher.Engine(command: $0) }
            ?? .thisProgram()
        let launcher = LocalLauncher(engine, output: .logFiles, logger: self.options.logger)
        var environment: [String: String] = [:]
        if !resources.isEmpty {
            environment[EnvironmentVariable.engineResources] = resources.sorted { $0.key < $1.key }
                .map { "\($0.key)=\($0.value)" }.joined(separator: ",")
        }
        if let python = self.options.python { environment[EnvironmentVariable.enginePython] = python.text }
        let order = EngineOrder(
            count: count, setID: ClusterFile.newSetID(besides: await self.supervisor.setIDs), clusterID: self.clusterID,
            profile: self.profile, connection: self.controller.engineInfo, environment: environment)
        let client = try await self.connect()
        do {
            let before = client.ids.count
            let arrivals = try await self.supervisor.launch(order, by: launcher)
            try await Self.race {
                try await client.waitForEngines(before + count, timeout: self.options.startTimeout)
            } against: {
                for await case (_, let failure?) in arrivals { throw failure }
                throw ApusError(.launchFailed, "the cluster was stopped while its engines started")
            }
            await self.supervisor.settle(order)
            await client.close()
        } catch {
            await self.supervisor.drop(order)
            await client.close()
            let failure = error as? ApusError ?? ApusError(.launchFailed, "the engines could not be started: \(error)")
            throw self.options.engineCommand.map { Self.explain(failure, $0) } ?? failure
        }
    }

    /// Restarts engines, which then have the same ids and empty namespaces; engines that have ended are started again.
    ///
    /// Tasks that the engines were running end as when an engine dies. Engines of ipyparallel get new ids and are not waited for.
    ///
    /// - Parameter ids: Which of the engines that this cluster started; nil: all.
    /// - Throws: ``ApusError`` with code `noSuchEngine` for an engine that this cluster did not start, `launchFailed` when an
    ///   engine does not come back, `timeout` when coming back takes longer than ``Options/startTimeout``.
    public func restartEngines(_ ids: [EngineID]? = nil) async throws {
        let (engines, arrivals) = try await self.supervisor.restart(ids)
        try await Self.race {
            var awaited = Set(engines)
            var iterator = arrivals.makeAsyncIterator()
            while !awaited.isEmpty {
                guard let (uuid, failure) = await iterator.next() else {
                    throw ApusError(.launchFailed, "the cluster was stopped while its engines started")
                }
                if let failure { throw failure }
                awaited.remove(uuid)
            }
        } against: {
            try await Task.sleep(for: self.options.startTimeout)
            throw ApusError(.timeout, "the engines have not registered again within \(self.options.startTimeout)")
        }
    }

    /// Runs two functions side by side until one of them returns or throws, cancels the other, and returns or throws likewise.
    private static func race(
        _ first: @escaping @Sendable () async throws -> Void, against second: @escaping @Sendable () async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await first() }
            group.addTask { try await second() }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Adds to the failure of a user's own engine command what an engine's command must be.
    private static func explain(_ failure: ApusError, _ command: [String]) -> ApusError {
        let program = command.first ?? ""
        return ApusError(
            failure.code,
            """
            \(failure)
            '\(command.joined(separator: " "))' must be an engine, which registers with the controller. A program that imports Apus is one in \
            engine mode: 'env APUS_ENGINE_MODE=1 \(program)'. Others are 'apus engine' and 'python3 -m ipyparallel.engine'
            """)
    }

    /// Stops the engines and the controller, and removes their files. May be called again.
    public func stop() async {
        await self.controller.prepareToStop()
        await self.supervisor.stop()
        await self.controller.stop()
        await self.supervising.value
        try? FileManager.default.removeItem(atPath: self.profile.clusterFile(clusterID: self.clusterID))
        if self.ownsProfile { try? FileManager.default.removeItem(atPath: self.profile.path) }
    }
}

extension Cluster.Options {
    fileprivate var restartPolicy: EngineSupervisor.Policy {
        var policy = EngineSupervisor.Policy()
        policy.restarts = self.restartsEngines
        policy.limit = max(0, self.restartLimit)
        policy.registrationTimeout = self.startTimeout
        return policy
    }

    fileprivate var controllerPolicy: ControllerSupervisor.Policy {
        var policy = ControllerSupervisor.Policy()
        policy.restarts = self.restartsController
        policy.limit = max(0, self.restartLimit)
        return policy
    }
}

extension ClusterFile {
    /// Writes the cluster file, by which `apus list` and Python's tools find this cluster.
    fileprivate func save(with sets: [String: EngineSet], _ controller: ControllerHost) async throws {
        var file = self
        file.controller = await controller.process(in: file).map { Controller(process: $0) }
        file.engineSets = sets
        file.engineCount = sets.values.reduce(0) { $0 + $1.count }
        do { try file.save() } catch {
            throw ApusError(.launchFailed, "the cluster file \(file.path) cannot be written", cause: error)
        }
    }
}
