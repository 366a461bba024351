package import ApusEngine
import ApusWire
import Foundation

/// The settings of an engine, read from its command line, environment and configuration files.
///
/// A later source overrides an earlier one: the environment, then configuration files, then the command line. Settings of
/// IPython's own classes are passed to the Python kernel, which runs the profile's configuration files; here only the files'
/// literals count.
package struct EngineSettings: Sendable {
    package private(set) var place = EngineProcess.Place()
    /// One sentence for each setting that had no effect.
    package private(set) var warnings: [String] = []
    package let asksForHelp: Bool
    /// The folder to go to before anything else; nil: none.
    package private(set) var workingDirectory: String?
    /// The file that the engine's log goes to; nil: standard error.
    package private(set) var logFile: String?

    /// Every setting, those that override others last.
    private var assignments: [TraitAssignment]

    /// Reads the settings; files are looked for in the profile's folder.
    ///
    /// - Parameter readFile: Gives the text of a file; nil when the file cannot be read.
    /// - Throws: ``SettingsError`` for a value that makes no sense, a key file that cannot be read, and an interpreter that is
    ///   named and not there.
    package init(
        arguments: [String], environment: [String: String], readFile: (String) -> String?
    ) throws(SettingsError) {
        let commandLine = try TraitArguments(arguments, Self.names)
        self.assignments = commandLine.assignments
        self.warnings = commandLine.warnings
        self.asksForHelp = commandLine.asksForHelp
        if self.asksForHelp { return }
        self.place.profile = ProfileDirectory(
            explicitPath: try self.text("ProfileDir", "location"), profile: try self.text("IPEngine", "profile"))
        self.read(readFile)
        try self.choosePlace(readFile)
        try self.chooseLimits()
        try self.chooseID(environment)
        try self.chooseLog()
        try self.chooseResources()
        try self.choosePython(environment)
    }

    /// Reads the engine's settings from the profile's configuration files; the command line's settings override them.
    private mutating func read(_ readFile: (String) -> String?) {
        for (name, isPython) in [("ipengine_config.py", true), ("ipengine_config.json", false)] {
            let path = self.place.profile.path + "/" + name
            guard let text = readFile(path) else { continue }
            let file = isPython ? TraitsFile(python: text, name: path) : TraitsFile(json: text, name: path)
            // The file's other settings are IPython's, and the kernel reads them.
            self.assignments.insert(
                contentsOf: file.assignments.filter {
                    ["IPEngine", "BaseParallelApplication", "Session"].contains($0.className)
                }, at: 0)
        }
    }

    // MARK: Values

    /// The setting of a trait that overrides all others. A trait that is not set for the engine's class may be set for its base
    /// class.
    private func last(_ owner: String, _ trait: String) -> TraitAssignment? {
        self.assignments.last { $0.className == owner && $0.trait == trait }
            ?? (owner == "IPEngine" ? self.last("BaseParallelApplication", trait) : nil)
    }

    /// The text of a trait; nil where the trait is not set, or empty.
    private func text(_ owner: String, _ trait: String) throws(SettingsError) -> String? {
        try self.last(owner, trait)?.text().nonEmpty
    }

    private func flag(_ owner: String, _ trait: String) throws(SettingsError) -> Bool {
        try self.last(owner, trait)?.flag() ?? false
    }

    // MARK: Meaning

    private mutating func choosePlace(_ readFile: (String) -> String?) throws(SettingsError) {
        self.workingDirectory = try self.text("IPEngine", "work_dir")
        self.place.file = try self.text("IPEngine", "url_file")
        if let id = try self.text("IPEngine", "cluster_id") { self.place.clusterID = id }
        self.place.location = try self.text("IPEngine", "location")
        self.place.uuid = try self.text("Session", "session")
        self.place.key = try self.text("Session", "key")
        if let file = try self.text("Session", "keyfile") {
            guard let key = readFile(file) else { throw SettingsError("the key file \(file) cannot be read") }
            self.place.key = key.trimmed
        }
        for (trait, option) in [
            ("sshserver", "--ssh"), ("sshkey", "--sshkey"), ("log_url", "--log-url"), ("registration_url", "--url"),
        ] where try self.text("IPEngine", trait) != nil {
            self.warnings.append("\(option) has no effect: this engine connects directly and logs to its own error stream")
        }
    }

    private mutating func chooseLimits() throws(SettingsError) {
        if let time = try self.last("IPEngine", "timeout")?.span() { self.place.registrationTimeout = time }
        if let time = self.last("IPEngine", "wait_for_url_file") { self.place.patience = try time.span() ?? .zero }
        if let misses = self.last("IPEngine", "max_heartbeat_misses") {
            self.place.missedHeartbeatLimit = try misses.number(in: 0...1_000_000_000)
        }
        if let size = self.last("IPEngine", "max_message_size") {
            self.place.maximumMessageSize = try size.number(in: 1 << 20...(.max))
        }
    }

    private mutating func chooseID(_ environment: [String: String]) throws(SettingsError) {
        if let id = self.last("IPEngine", "id") { self.place.wantedID = EngineID(try id.number(in: 0...1_000_000_000)) }
        if try self.flag("IPEngine", "use_mpi"), self.place.wantedID == nil {
            self.place.wantedID = Self.rank(environment).map { EngineID($0) }
        }
    }

    /// The process's MPI rank, which the launchers of MPI implementations put into the environment; nil where none did.
    private static func rank(_ environment: [String: String]) -> Int? {
        for name in ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID"] {
            if let rank = environment[name].flatMap({ Int($0) }) { return rank }
        }
        return nil
    }

    private mutating func chooseLog() throws(SettingsError) {
        if let level = self.last("IPEngine", "log_level") { self.place.logLevel = try level.logLevel() }
        if try self.flag("IPEngine", "log_to_file") {
            self.logFile = self.place.profile.log + "/ipengine-\(ProcessInfo.processInfo.processIdentifier).log"
        }
    }

    private mutating func chooseResources() throws(SettingsError) {
        guard let text = try self.text("Apus", "resources") else { return }
        guard let resources = EngineProcess.Place.resources(in: text) else {
            throw SettingsError("--resources is a list such as 'gpu=1,memory=64', not '\(text)'")
        }
        self.place.resources = resources
    }

    private mutating func choosePython(_ environment: [String: String]) throws(SettingsError) {
        let asked = try self.text("Apus", "python")
        if try self.flag("Apus", "no_python") { return }
        let interpreter: String
        do { interpreter = try PythonOptions.findInterpreter(asked, environment: environment) } catch {
            if asked != nil { throw SettingsError("\(error)") }
            self.warnings.append("\(error). This engine runs Swift functions only")
            return
        }
        var python = PythonOptions(interpreter: interpreter)
        python.profileDirectory = self.place.profile.path
        python.configurationFiles = [try self.text("IPEngine", "extra_config_file")].compactMap { $0 }
        python.startupLines = [try self.text("IPEngine", "startup_command")].compactMap { $0 }
        python.startupFiles = [try self.text("IPEngine", "startup_script")].compactMap { $0 }
        python.isPlain = try self.flag("Apus", "plain")
        switch try self.text("Apus", "on_crash") {
        case nil, "restart": break
        case "exit": python.restarts = false
        case let other?: throw SettingsError("--on-crash is 'restart' or 'exit', not '\(other)'")
        }
        if try self.flag("IPEngine", "use_mpi") {
            python.startsMPI =
                try self.text("IPEngine", "init_mpi")
                ?? "from mpi4py import MPI\nmpi_rank = MPI.COMM_WORLD.Get_rank()\nmpi_size = MPI.COMM_WORLD.Get_size()"
        }
        let own: Set<String> = ["IPEngine", "BaseParallelApplication", "ProfileDir", "Session", "Apus"]
        for assignment in self.assignments where !own.contains(assignment.className) {
            guard case .text(let text) = assignment.value else { continue }
            python.traits.append((assignment.className, assignment.trait, text))
        }
        self.place.python = python
    }
}
