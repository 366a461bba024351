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
/// Most programs want the scope, ``withCluster(_:engines:options:_:)``. The object is for those whose cluster outlives a function.
/// Engines are this very program, started again in engine mode, so they have every `@Remote` function that it has; with
/// ``Options/python`` each has a Python interpreter besides.
///
/// An engine whose process dies is started again in its place, with its id and an empty namespace: at once, and after growing pauses when
/// it dies again. One that was told to end (``Client/shutdown(_:restart:hub:)``, SIGTERM) stays away until ``restartEngines(_:)``. Where no
/// engine is left and none is coming, load-balanced tasks end with code ``ApusError/Code/noEnginesRegistered`` and the reason.
public final class Cluster: Sendable {
    /// What a cluster is made of, and how. The defaults suit a program that uses a machine for itself.
    public struct Options: Sendable {
        /// How the controller runs.
        public var controller = ControllerOptions()
        /// The profile whose folder gets the connection files, so that others can join; nil: a folder of its own that is removed
        /// at the end.
        public var profile: ProfileDirectory?
        /// What tells this cluster from others of the same profile; empty for the profile's nameless one, which
        /// ``Client/connect(profile:profileDirectory:clusterID:timeout:patience:maximumMessageSize:eventLoopGroup:logger:)`` finds unless told; nil: a new one.
        public var clusterID: String?
        /// How long engines may take to register.
        public var startTimeout: Duration = .seconds(60)
        /// The program that the engines run, and its arguments; nil: this one. A program that imports Apus is started in engine mode.
        public var engineCommand: [String]?
        /// How a program of ours starts its engines, where that is more than a command.
        package var engineProgram: LocalLauncher.Engine?
        /// Whether an engine whose process dies is started again in its place.
        public var restartsEngines = true
        /// How often in a row an engine may die without having had work, and be started again; then it is given up. A death while it
        /// runs something is not counted, for that is the work's fault, nor are those before it has run for a minute. 0: not once.
        public var restartLimit = 5
        /// Has the engines run Python as well; nil: Swift functions only. Where IPython is installed, its shell runs the cells.
        public var python: PythonChoice?
        /// Silent below warnings unless told: engines that come and go are no news to who started them.
        public var logger: Logger = {
            var logger = Logger(label: "apus.cluster")
            logger.logLevel = .warning
            return logger
        }()

        /// Options of which none is set.
        public init() {}
    }

    /// Which Python engines run.
    public enum PythonChoice: Sendable, Hashable {
        /// The one of the active environment (`VIRTUAL_ENV`, `CONDA_PREFIX`), else `python3` on the path.
        case active
        /// An interpreter's path, or a name to be found on the path.
        case named(String)

        /// The interpreter of that path or name if there is one, else the active environment's.
        public static func interpreter(_ name: String?) -> PythonChoice { name.map { .named($0) } ?? .active }

        fileprivate var text: String {
            switch self {
            case .active: ""
            case .named(let name): name
            }
        }
    }

    /// What tells this cluster from others of the same profile, and is part of its files' names.
    public let clusterID: String
    /// The profile whose folder has the connection files.
    public let profile: ProfileDirectory
    /// The controller, which runs in this process.
    public let controller: ControllerHost
    private let options: Options
    private let ownsProfile: Bool
    private let supervisor: EngineSupervisorService
    private let supervising: Task<Void, Never>

    /// Starts a controller; engines are started by ``startEngines(_:resources:)``.
    public init(options: Options = Options()) async throws {
        self.options = options
        self.clusterID = options.clusterID ?? ClusterFile.newClusterID()
        self.ownsProfile = options.profile == nil
        self.profile =
            options.profile ?? ProfileDirectory(path: NSTemporaryDirectory() + "apus-" + self.clusterID)
        do { try self.profile.create() } catch {
            throw ApusError(.launchFailed, "the folder \(self.profile.path) cannot be made", cause: error)
        }
        let events = AsyncStream.makeStream(of: EngineSupervisor.Event.self)
        let controller = try await ControllerHost(
            options: options.controller, files: ControllerHost.Files(profile: self.profile, clusterID: self.clusterID),
            logger: options.logger, onPresence: { events.continuation.yield(EngineSupervisor.Event($0)) })
        self.controller = controller
        // A cluster of a program's own is nobody else's to stop, and has no file.
        let file = self.ownsProfile ? nil : ClusterFile(clusterID: self.clusterID, profile: self.profile)
        let supervisor = EngineSupervisorService(
            options.restartPolicy, controller: controller, events: events, logger: options.logger,
            save: { try file?.save(with: $0) })
        self.supervisor = supervisor
        self.supervising = Task { await supervisor.run() }
        do { try file?.save(with: [:]) } catch {
            await self.stop()
            throw error
        }
    }

    /// A client of this cluster; the caller closes it.
    public func connect() async throws -> Client { try await Client.connect(to: self.controller.clientInfo) }

    /// Starts engines and waits until they have registered.
    ///
    /// - Parameters:
    ///   - count: How many more than there are.
    ///   - resources: What each of them owns that tasks may ask for (``LoadBalancedView/resources``): `["gpu": 1]`.
    /// - Throws: ``ApusError`` with code `launchFailed` when one cannot be started, ends before it has registered, with what it said last,
    ///   or takes longer than ``Options/startTimeout``. None of them is left then.
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

    /// Ends engines and starts them again in their places, with the ids that they had and empty namespaces; also those that have ended.
    ///
    /// What they were running ends as when an engine dies.
    ///
    /// - Parameter ids: Which of the engines that this cluster started; nil: all.
    /// - Throws: ``ApusError`` with code `noSuchEngine` for one that this cluster did not start, `launchFailed` when one does not come
    ///   back, `timeout` when that takes longer than ``Options/startTimeout``. Engines of ipyparallel are not waited for, and get new ids.
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

    /// Runs two things side by side until the first of them ends, and takes its end.
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

    /// A failure of a user's own engine command, with what an engine is.
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

    /// Stops the engines and the controller, and removes what was made for them. May be called again.
    public func stop() async {
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
}

extension ClusterFile {
    /// Writes what `apus list` and Python's tools know a cluster by whose controller runs in this process.
    fileprivate func save(with sets: [String: EngineSet]) throws {
        var file = self
        file.controller = Controller(
            process: Process(
                processID: ProcessInfo.processInfo.processIdentifier, outputFile: "", clusterID: self.clusterID,
                profile: self.profile))
        file.engineSets = sets
        file.engineCount = sets.values.reduce(0) { $0 + $1.count }
        do { try file.save() } catch {
            throw ApusError(.launchFailed, "the cluster file \(file.path) cannot be written", cause: error)
        }
    }
}
