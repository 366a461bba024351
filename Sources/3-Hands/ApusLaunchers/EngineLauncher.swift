package import ApusWire

/// Starts engines: the one way by which a cluster reaches processes, on this machine, over SSH or in a batch system.
///
/// A launcher launches a set of engines; the set takes signals, stops, and is waited for. A launcher knows processes, not
/// messages: only the hub knows whether an engine has registered.
package protocol EngineLauncher: Sendable {
    /// The launcher's name in cluster files: `local`, `ssh`, `slurm` and so on, as Python's entry points are named.
    var kind: String { get }

    /// Starts a set of engines, and returns when each is started or queued. The engines register some time later.
    ///
    /// All or nothing: when one engine cannot be started, or the calling task is cancelled, the started engines are stopped.
    func launch(_ order: EngineOrder) async throws -> any EngineSet
}

/// Engines that were launched together.
///
/// The engines are numbered from 0 within their set; the hub gives them ids of its own.
package protocol EngineSet: Sendable {
    /// The set's name in the cluster file.
    var id: String { get }
    /// The ends of engines, as they happen. For one reader; the stream ends when the set was stopped.
    var exits: AsyncStream<EngineExit> { get }

    /// Sends a signal to one engine, or to all.
    func signal(_ number: Int32, to engine: Int?) async throws

    /// Ends one engine, or all, gently and then by force. Returns within a limited time; may be called again.
    func stop(_ engine: Int?) async

    /// Ends an engine, if it still runs, and starts it anew under its number.
    func restart(_ engine: Int) async throws

    /// Waits until no engine of the set runs, or the waiting task is cancelled.
    func wait() async

    /// The set's entry for the cluster file; nil when no engine of the set runs.
    var record: ClusterFile.EngineSet? { get async }
}

extension EngineSet {
    package func signal(_ number: Int32) async throws { try await self.signal(number, to: nil) }
    package func stop() async { await self.stop(nil) }
}

/// The order to launch a set of engines.
package struct EngineOrder: Sendable, Hashable {
    package let count: Int
    /// The set's name in files: ``ClusterFile/newSetID(besides:)``.
    package var setID: String
    package var clusterID: String
    package var profile: ProfileDirectory
    /// How engines reach the controller. Without it they read the engine connection file.
    package var connection: EngineConnectionInfo?
    /// The user's variables for the engines.
    package var environment: [String: String]
    /// The uuid of each engine, by its number; an engine that is started again keeps its uuid.
    package let uuids: [EngineUUID]

    package init(
        count: Int, setID: String, clusterID: String, profile: ProfileDirectory, connection: EngineConnectionInfo? = nil,
        environment: [String: String] = [:]
    ) {
        self.count = count
        self.uuids = (0..<count).map { _ in EngineUUID(Session.newID()) }
        self.setID = setID
        self.clusterID = clusterID
        self.profile = profile
        self.connection = connection
        self.environment = environment
    }

    /// The variables that an engine's environment adds to this process's (protocol article, "Environment").
    package func variables(ofEngine number: Int) -> [String: String] {
        var variables = self.environment
        variables[EnvironmentVariable.engineUUID] = self.uuids[number].text
        variables[EnvironmentVariable.clusterID] = self.clusterID
        variables[EnvironmentVariable.profileDirectory] = self.profile.path
        if let connection { variables[EnvironmentVariable.connectionInfo] = connection.json.description }
        return variables
    }
}

/// The end of an engine's process.
package struct EngineExit: Sendable, Hashable, CustomStringConvertible {
    /// The engine's number within the set.
    package let engine: Int
    /// The engine's uuid, by which its id at the hub is found, if the engine takes the uuid from its environment as Apus's do.
    package let uuid: EngineUUID
    package let exit: ProcessExit
    /// Whether the set was told to stop or restart the engine.
    package let wasStopped: Bool

    package init(engine: Int, uuid: EngineUUID, exit: ProcessExit, wasStopped: Bool) {
        self.engine = engine
        self.uuid = uuid
        self.exit = exit
        self.wasStopped = wasStopped
    }

    /// "engine 2 ended with signal 11 (Segmentation fault); last lines: …"
    package var description: String { "engine \(self.engine) \(self.exit)" }
}
