import ApusController
import ApusCore
import ApusEngine
import ApusWire
import Foundation
import Logging

/// The command line of an engine, as ipyparallel's launchers and users write it for `ipengine`.
///
/// `--name=value`, `--name value`, flags, and `--Class.trait=value` for everything else. What concerns IPython's own classes goes on
/// to the kernel, which reads the profile's configuration files as the Python they are; of those files only literals count here.
struct EngineArguments {
    private(set) var place = EngineProcess.Place()
    /// Written to standard error before the engine starts.
    private(set) var warnings: [String] = []
    private(set) var asksForHelp = false
    /// Where to go before anything else.
    private(set) var workingDirectory: String?
    /// Where what the engine logs goes; nil: standard error.
    private(set) var logFile: String?

    private var assignments: [TraitAssignment] = []
    /// `--python`: an interpreter by path or name.
    private var interpreter: String?
    private var withoutPython = false

    private static let aliases: [String: (String, String)] = [
        "file": ("IPEngine", "url_file"), "c": ("IPEngine", "startup_command"), "s": ("IPEngine", "startup_script"),
        "url": ("IPEngine", "registration_url"), "ssh": ("IPEngine", "sshserver"), "sshkey": ("IPEngine", "sshkey"),
        "location": ("IPEngine", "location"), "timeout": ("IPEngine", "timeout"), "log-level": ("IPEngine", "log_level"),
        "profile": ("IPEngine", "profile"), "profile-dir": ("ProfileDir", "location"), "ipython-dir": ("IPEngine", "ipython_dir"),
        "config": ("IPEngine", "extra_config_file"), "work-dir": ("IPEngine", "work_dir"), "log-url": ("IPEngine", "log_url"),
        "cluster-id": ("IPEngine", "cluster_id"), "ident": ("Session", "session"), "user": ("Session", "username"),
        "keyfile": ("Session", "keyfile"),
        // Ours.
        "max-message-size": ("IPEngine", "max_message_size"), "python": ("Apus", "python"), "resources": ("Apus", "resources"),
        "on-crash": ("Apus", "on_crash"),
    ]

    private static let flags: [String: (String, String, JSONValue)] = [
        "mpi": ("IPEngine", "use_mpi", true), "debug": ("IPEngine", "log_level", 10), "quiet": ("IPEngine", "log_level", 50),
        "log-to-file": ("IPEngine", "log_to_file", true), "clean-logs": ("IPEngine", "clean_logs", true),
        "init": ("IPEngine", "auto_create", true), "secure": ("Session", "keyfile", ""), "no-secure": ("Session", "key", ""),
        "no-python": ("Apus", "no_python", true), "plain": ("Apus", "plain", true),
    ]

    static let help = """
        OVERVIEW: Run an engine alone, in the foreground.

        Joins the controller of the profile's engine connection file, waiting up to ten seconds for the file. It runs Python in a process
        of its own, with IPython where that is installed, and the Swift functions that this program holds.

        USAGE: apus engine [options] [--Class.trait=value ...]

        Which controller:
          --file <path>           The engine connection file itself.
          --profile <name>        The profile's name.
          --profile-dir <path>    The profile's folder, instead of its name.
          --cluster-id <id>       Which of the profile's clusters.
          --location <host>       Where the controller is, in place of what the file says.
          --timeout <seconds>     How long the controller may take to answer.

        What it runs:
          --python <path>         The interpreter: unless told, the active environment's, else python3 on the path.
          --no-python             Run Swift functions only.
          --plain                 Do without IPython even where it is installed.
          --on-crash <what>       When Python dies: 'restart' it in the same place, or 'exit' with it.
          --c <code>              Code to run before the first request.
          --s <path>              A script to run before the first request.
          --mpi                   Start MPI in Python, and ask for the rank as the engine's id.

        Itself:
          --resources <list>      What it owns that tasks may ask for: gpu=1,memory=64.
          --ident <name>          The engine's name on the wire, new at every start.
          --max-message-size <n>  The largest message taken, in bytes: unless told, half of the memory.
          --work-dir <path>       The folder to work in.
          --log-level <level>     DEBUG, INFO, WARNING, ERROR, or Python's number.
          --log-to-file           Log to the profile's log folder.
          --debug, --quiet        Log everything; log almost nothing.
        """

    // MARK: Reading

    init(_ arguments: [String], environment: [String: String] = ProcessInfo.processInfo.environment) throws(WireError) {
        try self.read(arguments)
        if self.asksForHelp { return }
        let profile = self.text("IPEngine", "profile") ?? self.text("BaseParallelApplication", "profile")
        let folder = self.text("ProfileDir", "location")
        self.place.profile = ProfileDirectory(explicitPath: folder, profile: profile)
        self.readFiles()
        try self.apply(environment)
        try self.chooseResources()
        try self.choosePython(environment)
    }

    private mutating func read(_ arguments: [String]) throws(WireError) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            if argument == "--help" || argument == "-h" || argument == "--help-all" {
                self.asksForHelp = true
                return
            }
            guard argument.hasPrefix("-"), argument != "--" else {
                self.warnings.append("'\(argument)' is no option and has no effect")
                continue
            }
            let parts = argument.drop { $0 == "-" }.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init)
            let name = parts[0].contains(".") ? parts[0] : parts[0].replacing("_", with: "-")
            if parts.count == 1, let (owner, trait, value) = Self.flags[name] {
                self.assignments.append(TraitAssignment(owner, trait, .literal(value), source: argument))
                continue
            }
            let target: (String, String)
            if let alias = Self.aliases[name] {
                target = alias
            } else if let flag = Self.flags[name] {
                target = (flag.0, flag.1)
            } else if let dot = name.lastIndex(of: "."), dot != name.startIndex {
                target = (String(name[..<dot]), String(name[name.index(after: dot)...]))
            } else {
                self.warnings.append("\(argument): there is no such option, so it has no effect")
                continue
            }
            guard let value = parts.count > 1 ? parts[1] : rest.popFirst() else {
                throw WireError("\(argument) needs a value, as in \(argument)=…")
            }
            self.assignments.append(TraitAssignment(target.0, target.1, .text(value), source: argument))
        }
    }

    /// Literals of `ipengine_config.py` come before the command line's, which so win.
    private mutating func readFiles() {
        for (name, isPython) in [("ipengine_config.py", true), ("ipengine_config.json", false)] {
            let path = self.place.profile.path + "/" + name
            guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { continue }
            let file = isPython ? TraitsFile(python: text, name: path) : TraitsFile(json: text, name: path)
            // The rest of the file is IPython's, and Python reads it.
            self.assignments.insert(
                contentsOf: file.assignments.filter {
                    ["IPEngine", "BaseParallelApplication", "Session"].contains($0.className)
                }, at: 0)
        }
    }

    // MARK: Values

    /// The last value said for a trait; the application's base class counts where the engine's own does not.
    private func value(_ owner: String, _ trait: String) -> TraitAssignment.Value? {
        self.assignments.last { $0.className == owner && $0.trait == trait }?.value
            ?? (owner == "IPEngine" ? self.value("BaseParallelApplication", trait) : nil)
    }

    private func text(_ owner: String, _ trait: String) -> String? {
        switch self.value(owner, trait) {
        case .text(let text), .literal(.string(let text)): text.isEmpty ? nil : text
        case .literal(let value): value.int.map { String($0) }
        default: nil
        }
    }

    /// - Throws: ``WireError`` for what is no number, or is one that no time, count or id can be.
    private func number(_ owner: String, _ trait: String) throws(WireError) -> Double? {
        let number: Double?
        switch self.value(owner, trait) {
        case .literal(let value): number = value.double
        case .text(let text):
            number = Double(text)
            if number == nil { throw WireError("\(owner).\(trait) must be a number, not '\(text)'") }
        default: return nil
        }
        if let number, !(-1e9...1e9).contains(number) {
            throw WireError("\(owner).\(trait) must be between -1e9 and 1e9, not \(number)")
        }
        return number
    }

    private func flag(_ owner: String, _ trait: String) -> Bool {
        switch self.value(owner, trait) {
        case .literal(let value): value.bool ?? false
        case .text(let text): ["true", "1", "yes"].contains(text.lowercased())
        default: false
        }
    }

    // MARK: Meaning

    private mutating func apply(_ environment: [String: String]) throws(WireError) {
        self.workingDirectory = self.text("IPEngine", "work_dir")
        self.place.file = self.text("IPEngine", "url_file")
        if let id = self.text("IPEngine", "cluster_id") { self.place.clusterID = id }
        self.place.location = self.text("IPEngine", "location")
        self.place.uuid = self.text("Session", "session")
        self.place.key = self.text("Session", "key")
        if let file = self.text("Session", "keyfile") {
            guard let key = try? String(contentsOfFile: file, encoding: .utf8) else {
                throw WireError("the key file \(file) cannot be read")
            }
            self.place.key = key.trimmingCharacters(in: .whitespacesAndNewlines)
        }
        if let seconds = try self.number("IPEngine", "timeout") { self.place.registrationTimeout = .seconds(seconds) }
        if let seconds = try self.number("IPEngine", "wait_for_url_file") { self.place.patience = .seconds(seconds) }
        if let misses = try self.number("IPEngine", "max_heartbeat_misses") { self.place.missedHeartbeatLimit = Int(misses) }
        if let text = self.text("IPEngine", "max_message_size") {
            guard let bytes = Int(text), bytes >= 1 << 20 else {
                throw WireError("--max-message-size must be a number of bytes, 1 MiB or more, not '\(text)'")
            }
            self.place.maximumMessageSize = bytes
        }
        if let id = try self.number("IPEngine", "id") { self.place.wantedID = EngineID(Int(id)) }
        if self.flag("IPEngine", "use_mpi"), self.place.wantedID == nil {
            self.place.wantedID = Self.rank(environment).map { EngineID($0) }
        }
        if let level = self.text("IPEngine", "log_level") { self.place.logLevel = Self.level(level) }
        if self.flag("IPEngine", "log_to_file") {
            self.logFile = self.place.profile.log + "/ipengine-\(ProcessInfo.processInfo.processIdentifier).log"
        }
        for (trait, option) in [
            ("sshserver", "--ssh"), ("sshkey", "--sshkey"), ("log_url", "--log-url"), ("registration_url", "--url"),
        ] where self.text("IPEngine", trait) != nil {
            self.warnings.append("\(option) has no effect: this engine connects directly and logs to its own error stream")
        }
    }

    /// The process's rank, as the launchers of the MPI implementations tell it; nil for a process alone.
    static func rank(_ environment: [String: String]) -> Int? {
        for name in ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID"] {
            if let rank = environment[name].flatMap({ Int($0) }) { return rank }
        }
        return nil
    }

    private static func level(_ text: String) -> Logger.Level {
        switch text.uppercased() {
        case "DEBUG", "10": .debug
        case "INFO", "20": .info
        case "WARN", "WARNING", "30": .warning
        case "ERROR", "40": .error
        case "CRITICAL", "FATAL", "50": .critical
        default: Int(text).map { $0 < 20 ? .debug : $0 < 30 ? .info : .warning } ?? .info
        }
    }

    private mutating func chooseResources() throws(WireError) {
        guard let text = self.text("Apus", "resources") else { return }
        guard let resources = EngineProcess.Place.resources(in: text) else {
            throw WireError("--resources is a list such as 'gpu=1,memory=64', not '\(text)'")
        }
        self.place.resources = resources
    }

    private mutating func choosePython(_ environment: [String: String]) throws(WireError) {
        let asked = self.text("Apus", "python")
        if self.flag("Apus", "no_python") { return }
        let interpreter: String
        do { interpreter = try PythonOptions.findInterpreter(asked, environment: environment) } catch {
            if asked != nil { throw error }
            self.warnings.append("\(error). This engine runs Swift functions only")
            return
        }
        var python = PythonOptions(interpreter: interpreter)
        python.profileDirectory = self.place.profile.path
        python.configurationFiles = [self.text("IPEngine", "extra_config_file")].compactMap { $0 }
        python.startupLines = [self.text("IPEngine", "startup_command")].compactMap { $0 }
        python.startupFiles = [self.text("IPEngine", "startup_script")].compactMap { $0 }
        python.isPlain = self.flag("Apus", "plain")
        switch self.text("Apus", "on_crash") {
        case nil, "restart": break
        case "exit": python.restarts = false
        case let other?: throw WireError("--on-crash is 'restart' or 'exit', not '\(other)'")
        }
        if self.flag("IPEngine", "use_mpi") {
            python.startsMPI =
                self.text("IPEngine", "init_mpi")
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
