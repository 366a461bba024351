public import ApusClient
public import ApusController
internal import ApusEngine
internal import ApusLaunchers
public import ApusWire
internal import Foundation
public import Logging
internal import Synchronization

/// A controller and engines on this machine, started and stopped together.
///
/// Most programs want the scope, ``withCluster(_:engines:options:_:)``. The object is for those whose cluster outlives a function.
/// Engines are this very program, started again in engine mode, so they have every `@Remote` function that it has; with
/// ``Options/python`` each has a Python interpreter besides.
public final class Cluster: Sendable {
    /// What a cluster is made of, and how. The defaults suit a program that uses a machine for itself.
    public struct Options: Sendable {
        /// How the controller runs.
        public var controller = ControllerOptions()
        /// The profile whose folder gets the connection files, so that others can join; nil: a folder of its own that is removed
        /// at the end.
        public var profile: ProfileDirectory?
        /// What tells this cluster from others of the same profile; empty for the profile's nameless one, which
        /// ``Client/connect(profile:profileDirectory:clusterID:timeout:patience:eventLoopGroup:logger:)`` finds unless told; nil: a new one.
        public var clusterID: String?
        /// How long engines may take to register.
        public var startTimeout: Duration = .seconds(60)
        /// The program that the engines run; nil: this one.
        public var engineCommand: [String]?
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
    private let sets = Mutex<[any EngineSet]>([])

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
        self.controller = try await ControllerHost(
            options: options.controller, files: ControllerHost.Files(profile: self.profile, clusterID: self.clusterID),
            logger: options.logger)
        try await self.saveClusterFile()
    }

    /// What `apus list` and Python's tools know this cluster by; rewritten when engines come or go.
    private func saveClusterFile() async throws {
        // A cluster of a program's own is nobody else's to stop.
        if self.ownsProfile { return }
        var file = ClusterFile(clusterID: self.clusterID, profile: self.profile)
        file.controller = ClusterFile.Controller(
            process: ClusterFile.Process(
                processID: ProcessInfo.processInfo.processIdentifier, outputFile: "", clusterID: self.clusterID,
                profile: self.profile))
        for set in self.sets.withLock({ $0 }) { file.engineSets[set.id] = await set.record }
        file.engineCount = file.engineSets.values.reduce(0) { $0 + $1.count }
        do { try file.save() } catch {
            throw ApusError(.launchFailed, "the cluster file \(file.path) cannot be written", cause: error)
        }
    }

    /// A client of this cluster; the caller closes it.
    public func connect() async throws -> Client { try await Client.connect(to: self.controller.clientInfo) }

    /// Starts engines and waits until they have registered.
    ///
    /// - Parameters:
    ///   - count: How many more than there are.
    ///   - resources: What each of them owns that tasks may ask for (``LoadBalancedView/resources``): `["gpu": 1]`.
    /// - Throws: ``ApusError`` with code `launchFailed` when one cannot be started or ends at once, with what it said last.
    public func startEngines(_ count: Int, resources: [String: Double] = [:]) async throws {
        let engine: LocalLauncher.Engine
        if let command = self.options.engineCommand, let program = command.first {
            engine = LocalLauncher.Engine(program, arguments: Array(command.dropFirst()))
        } else {
            engine = .thisProgram()
        }
        let launcher = LocalLauncher(engine, output: .logFiles, logger: self.options.logger)
        let existing = self.sets.withLock { $0.map { $0.id } }
        var environment: [String: String] = [:]
        if !resources.isEmpty {
            environment[EngineProcess.Place.resourcesVariable] = resources.sorted { $0.key < $1.key }
                .map { "\($0.key)=\($0.value)" }.joined(separator: ",")
        }
        if let python = self.options.python { environment[EngineProcess.Place.pythonVariable] = python.text }
        let client = try await self.connect()
        let before = client.ids.count
        do {
            let set = try await launcher.launch(
                EngineOrder(
                    count: count, setID: ClusterFile.newSetID(besides: existing), clusterID: self.clusterID,
                    profile: self.profile,
                    connection: self.controller.engineInfo, environment: environment))
            self.sets.withLock { $0.append(set) }
            try await self.saveClusterFile()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await client.waitForEngines(before + count, timeout: self.options.startTimeout) }
                group.addTask {
                    for await exit in set.exits where !exit.wasStopped {
                        throw ApusError(.launchFailed, "\(exit)")
                    }
                    // The set was stopped; whoever did so knows. Only cancellation ends this wait.
                    while true { try await Task.sleep(for: .seconds(3600)) }
                }
                defer { group.cancelAll() }
                try await group.next()
            }
        } catch {
            await client.close()
            throw error as? ApusError ?? ApusError(.launchFailed, "the engines could not be started: \(error)")
        }
        await client.close()
    }

    /// Stops the engines and the controller, and removes what was made for them. May be called again.
    public func stop() async {
        let sets = self.sets.withLock { sets in
            defer { sets = [] }
            return sets
        }
        for set in sets { await set.stop() }
        await self.controller.stop()
        try? FileManager.default.removeItem(atPath: self.profile.clusterFile(clusterID: self.clusterID))
        if self.ownsProfile { try? FileManager.default.removeItem(atPath: self.profile.path) }
    }
}
