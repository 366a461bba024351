package import ApusWire
package import Foundation

/// A cluster as its file describes it, so that another program, Apus's or Python's `ipcluster`, finds and stops the cluster
/// (protocol article, section 10.1).
///
/// Unknown members, those of other launchers and of later versions, are kept.
package struct ClusterFile: Sendable, Hashable {
    package var clusterID: String
    package var profile: ProfileDirectory
    /// How many engines were asked for; nil: as many as there are processors.
    package var engineCount: Int?
    package var controllerArguments: [String]
    package var controllerIP: String
    package var controllerLocation: String
    /// Seconds between the starts of controller and engines.
    package var delay: Double
    /// Nil when no controller runs.
    package var controller: Controller?
    /// Which launcher started the engines, as ``EngineLauncher/kind`` names it.
    package var engineKind: String
    /// The sets that run, by id.
    package var engineSets: [String: EngineSet]
    /// Further members of `cluster`; its `class` is by default ipyparallel's `Cluster`.
    package var otherMembers: JSONObject

    package struct Controller: Sendable, Hashable {
        package var kind: String
        package var process: Process

        package init(kind: String = "local", process: Process) {
            self.kind = kind
            self.process = process
        }
    }

    /// A process of this host, or a job of a batch system, that was started for the cluster.
    package struct Process: Sendable, Hashable {
        /// Nil for a job that is no process of this host.
        package var processID: Int32?
        /// The log, which Python's tools delete when they stop the process; empty: none. Nil for sets, which have none of
        /// their own.
        package var outputFile: String?
        package var clusterID: String
        package var profile: ProfileDirectory
        /// `running`, else Python's tools send it no signals.
        package var state: String
        /// Further members, which the process's launcher needs.
        package var otherMembers: JSONObject

        package init(
            processID: Int32?, outputFile: String?, clusterID: String, profile: ProfileDirectory, state: String = "running",
            otherMembers: JSONObject = [:]
        ) {
            self.processID = processID
            self.outputFile = outputFile
            self.clusterID = clusterID
            self.profile = profile
            self.state = state
            self.otherMembers = otherMembers
        }
    }

    package struct EngineSet: Sendable, Hashable {
        /// How many engines it has.
        package var count: Int
        /// The engines by number, where each is a process of its own.
        package var engines: [String: Process]
        /// The process that runs all engines (`mpiexec`, a batch job); its ``Process/processID`` is nil where there is none.
        package var whole: Process

        package init(engines: [String: Process], clusterID: String, profile: ProfileDirectory) {
            self.count = engines.count
            self.engines = engines
            self.whole = Process(processID: nil, outputFile: nil, clusterID: clusterID, profile: profile)
        }

        package init(count: Int, whole: Process) {
            self.count = count
            self.engines = [:]
            self.whole = whole
        }
    }

    package init(clusterID: String, profile: ProfileDirectory, engineCount: Int? = nil, engineKind: String = "local") {
        self.clusterID = clusterID
        self.profile = profile
        self.engineCount = engineCount
        self.controllerArguments = []
        self.controllerIP = ""
        self.controllerLocation = ""
        self.delay = 1
        self.controller = nil
        self.engineKind = engineKind
        self.engineSets = [:]
        self.otherMembers = ["class": "ipyparallel.cluster.cluster.Cluster"]
    }

    /// The process that started controller and engines and starts them again when they die, where it does nothing else. Python's tools
    /// do not know the member; where they write the file anew it is missing, and a stop of the cluster ends the others only.
    package var launcher: Int32? {
        get { self.otherMembers["apus_launcher"]?.int.flatMap { Int32(exactly: $0) } }
        set { self.otherMembers["apus_launcher"] = newValue.map { .int(Int($0)) } }
    }

    /// Every process of this host that the file names.
    package var processes: [Process] {
        let sets = self.engineSets.sorted { $0.key < $1.key }.map(\.value)
        return ([self.controller?.process].compactMap { $0 } + sets.flatMap { [$0.whole] + $0.engines.map(\.value) })
            .filter { $0.processID != nil }
    }

    // MARK: - Names

    /// A cluster's id as Python makes it: the time and four random characters.
    package static func newClusterID(now: Date = Date()) -> String {
        let suffix = (0..<4).map { _ in "abcdefghijklmnopqrstuvwxyz0123456789".randomElement()! }
        return "\(Int(now.timeIntervalSince1970))-\(String(suffix))"
    }

    /// An engine set's id as Python makes it: the time, and a number when that is taken.
    package static func newSetID(besides taken: some Collection<String>, now: Date = Date()) -> String {
        let base = String(Int(now.timeIntervalSince1970))
        guard taken.contains(base) else { return base }
        return (1...).lazy.map { "\(base)-\($0)" }.first { !taken.contains($0) }!
    }

    // MARK: - Files

    /// Where the cluster's file belongs.
    package var path: String { self.profile.clusterFile(clusterID: self.clusterID) }

    /// Writes the file, or removes it when nothing runs.
    package func save() throws {
        guard self.controller != nil || !self.engineSets.isEmpty else { return PrivateFile.remove(self.path) }
        try self.profile.create()
        try PrivateFile.write(self.json.description, to: self.path)
    }

    /// Reads a cluster file.
    ///
    /// - Throws: ``LauncherError`` with code `unreadableClusterFile`.
    package init(contentsOf path: String) throws(LauncherError) {
        do {
            try self.init(PrivateFile.readJSON(path))
        } catch {
            throw LauncherError(.unreadableClusterFile, "\(path) describes no cluster", cause: error)
        }
    }
}
