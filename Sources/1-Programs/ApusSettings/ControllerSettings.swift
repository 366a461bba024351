package import ApusController
package import ApusWire
package import Logging

/// The settings of a controller, read from its command line, environment and configuration files.
///
/// A later source overrides an earlier one: configuration files, then the environment, then the command line. The names are
/// ipyparallel's (protocol article, "How Python starts the processes"), so that settings of `ipcontroller` work unchanged.
package struct ControllerSettings: Sendable {
    package var options = ControllerOptions()
    package var profile: ProfileDirectory
    package var clusterID = ""
    /// Names of the connection files in the security folder; nil: the usual names.
    package var clientFileName: String?
    package var engineFileName: String?
    /// Whether the controller uses the ports and the key of existing connection files, and leaves the files when it stops.
    package var reusesFiles = false
    /// Whether engines that were registered when a controller last ran here get their ids back when they reconnect.
    package var restoresEngines = false
    package var logLevel = Logger.Level.info
    package var logsToFile = false
    package var cleansLogs = false
    package var workingDirectory: String?
    /// One sentence for each setting that had no effect.
    package var warnings: [String] = []

    /// Reads the settings; files are looked for in the profile's folder.
    ///
    /// - Parameters:
    ///   - readFile: Gives the text of a file; nil when the file cannot be read.
    /// - Throws: ``SettingsError`` for a setting that must not be ignored: a value that makes no sense, a file that cannot be
    ///   read, or encryption, which this controller does not have.
    package init(
        arguments: [String], environment: [String: String], readFile: (String) -> String?
    ) throws(SettingsError) {
        let commandLine = try TraitArguments(arguments, Self.names)
        self.warnings = commandLine.warnings

        // The profile decides which files are read, so it comes first.
        var explicitPath: String?
        var profileName: String?
        var ipythonDirectory: String?
        for assignment in commandLine.assignments {
            switch (assignment.className, assignment.trait) {
            case ("ProfileDir", "location"): explicitPath = try assignment.text()
            case (_, "profile"): profileName = try assignment.text()
            case (_, "ipython_dir"): ipythonDirectory = try assignment.text()
            default: break
            }
        }
        if explicitPath == nil, profileName == nil {
            explicitPath = environment[EnvironmentVariable.profileDirectory].flatMap { $0.isEmpty ? nil : $0 }
        }
        self.profile = ProfileDirectory(explicitPath: explicitPath, profile: profileName, ipythonDirectory: ipythonDirectory)

        var files = ["ipython_config", "ipcontroller_config"].flatMap { name in
            [".json", ".py"].map { self.profile.path + "/" + name + $0 }
        }
        for assignment in commandLine.assignments where assignment.trait == "extra_config_file" {
            let path = try assignment.text()
            if readFile(path) == nil { throw SettingsError("\(assignment.source): the file \(path) cannot be read") }
            files.append(path)
        }
        for path in files {
            guard let text = readFile(path) else { continue }
            let file = path.hasSuffix(".json") ? TraitsFile(json: text, name: path) : TraitsFile(python: text, name: path)
            // IPython's programs share this file: only settings of a controller's classes count, and others give no warning.
            let isShared = path.contains("/ipython_config.")
            if !isShared { self.warnings += file.warnings }
            for assignment in file.assignments where !isShared || TraitTable.knows(assignment.className) {
                try self.take(assignment)
            }
        }
        if let key = environment[EnvironmentVariable.sessionKey], !key.isEmpty { self.options.key = key }
        if let id = environment[EnvironmentVariable.clusterID] { self.clusterID = id }
        if environment[EnvironmentVariable.enableCurve] == "1" { throw Self.noEncryption("\(EnvironmentVariable.enableCurve)=1") }
        for assignment in commandLine.assignments { try self.take(assignment) }
        if let keyFile = self.keyFile {
            guard let text = readFile(keyFile) else { throw SettingsError("the key file \(keyFile) cannot be read") }
            self.options.key = text.trimmed
        }
        // Limits of the memory mean that records are wanted there.
        switch self.database ?? (self.limitsMemory ? .memory : .file) {
        case .file:
            self.options.database = .sqlite(
                path: self.databasePath, waitsForDisk: self.waitsForDisk, records: self.fileLimits.records,
                bytes: self.fileLimits.bytes)
            return
        case .memory: self.options.database = .memory(records: self.memoryLimits.records, bytes: self.memoryLimits.bytes)
        case .nowhere: self.options.database = .none
        }
        if self.waitsForDisk {
            self.warnings.append("nothing waits for the disk (--fsync), because no task records are kept there; add --sqlitedb")
        }
    }

    private enum Database {
        case file, memory, nowhere
    }

    /// Where task records are kept; nil: nothing was chosen.
    private var database: Database?
    private var memoryLimits = (records: 1024, bytes: 256 << 20)
    private var limitsMemory = false
    private var fileLimits = (records: 1_000_000, bytes: 2 << 30)
    private var keyFile: String?
    private var databaseFolder: String?
    private var databaseName: String?
    private var waitsForDisk = false

    private var databasePath: String {
        let name = self.databaseName ?? ProfileDirectory.taskFileName(clusterID: self.clusterID)
        return name.hasPrefix("/") ? name : (self.databaseFolder ?? self.profile.path) + "/" + name
    }

    package var clientFile: String {
        self.clientFileName.map { self.inSecurity($0) } ?? self.profile.clientFile(clusterID: self.clusterID)
    }
    package var engineFile: String {
        self.engineFileName.map { self.inSecurity($0) } ?? self.profile.engineFile(clusterID: self.clusterID)
    }

    private func inSecurity(_ name: String) -> String { name.hasPrefix("/") ? name : self.profile.security + "/" + name }

    private static func noEncryption(_ source: String) -> SettingsError {
        SettingsError(
            "\(source): this controller has no CURVE encryption. Use --ssh, or a network that you trust, and leave the setting out"
        )
    }

    // MARK: - Assignments

    private mutating func take(_ assignment: TraitAssignment) throws(SettingsError) {
        switch assignment.className {
        case _ where TraitTable.controllerClasses.contains(assignment.className): try self.takeController(assignment)
        case "HeartMonitor": try self.takeHeart(assignment)
        case "TaskScheduler": try self.takeScheduler(assignment)
        case "DictDB", "SQLiteDB", "NoDB": try self.takeDatabase(assignment)
        case "Session": try self.takeSession(assignment)
        case "ProfileDir" where assignment.trait == "location": break
        case "Apus" where assignment.trait == "python": self.options.python = try assignment.text().nonEmpty
        default: self.ignore(assignment)
        }
    }

    private mutating func ignore(_ assignment: TraitAssignment) {
        if !TraitTable.hasNoMeaningHere(assignment) {
            self.warnings.append("\(assignment.source): this controller has no setting \(assignment.name), so it has no effect")
        }
    }

    private mutating func takeController(_ assignment: TraitAssignment) throws(SettingsError) {
        switch assignment.trait {
        case "ip":
            self.options.clientAddress = try assignment.text()
            self.options.engineAddress = self.options.clientAddress
        case "client_ip": self.options.clientAddress = try assignment.text()
        case "engine_ip": self.options.engineAddress = try assignment.text()
        case "location": self.options.location = try assignment.text()
        case "ssh_server": self.options.clientSSH = try assignment.text()
        case "engine_ssh_server": self.options.engineSSH = try assignment.text()
        case "ports", "mon_port": try self.takePorts(assignment, into: \.ports)
        case "engine_ports", "regport", "hb": try self.takePorts(assignment, into: \.enginePorts)
        case "client_ports", "notifier_port": try self.takePorts(assignment, into: \.clientPorts)
        case "mux", "task", "control", "iopub":
            self.warnings.append(
                "\(assignment.source): \(assignment.name) is not used any more; give the ports as client_ports and engine_ports")
        case "transport", "client_transport", "engine_transport", "monitor_transport":
            let transport = try assignment.text()
            guard transport == "tcp" else {
                throw SettingsError("\(assignment.source): only tcp can be used here, not '\(transport)'")
            }
        case "broadcast_scheduler_depth": self.options.broadcastDepth = try assignment.number(in: 0...8)
        case "registration_timeout":
            let seconds = try assignment.number(in: 0...(.max))
            self.options.registrationTimeout = seconds == 0 ? nil : seconds
        case "max_message_size": self.options.maximumMessageSize = try assignment.number(in: 1 << 20...(.max))
        case "max_unread": self.options.maximumUnread = try assignment.number(in: 1 << 20...(.max))
        case "reuse_files": self.reusesFiles = try assignment.flag()
        case "restore_engines":
            self.restoresEngines = try assignment.flag()
            if self.restoresEngines { self.reusesFiles = true }
        case "client_json_file": self.clientFileName = try assignment.text()
        case "engine_json_file": self.engineFileName = try assignment.text()
        case "db_class": try self.chooseDatabase(assignment)
        case "cluster_id": self.clusterID = try assignment.text()
        case "work_dir": self.workingDirectory = try assignment.text()
        case "log_level": self.logLevel = try assignment.logLevel()
        case "log_to_file": self.logsToFile = try assignment.flag()
        case "clean_logs": self.cleansLogs = try assignment.flag()
        case "log_url":
            self.warnings.append("\(assignment.source): this controller does not send its log to a URL; use --log-to-file")
        case "enable_curve": if try assignment.flag() { throw Self.noEncryption(assignment.source) }
        default: self.ignore(assignment)
        }
    }

    private mutating func takePorts(
        _ assignment: TraitAssignment, into pool: WritableKeyPath<ControllerOptions, [Int]>
    ) throws(SettingsError) {
        let ports = try assignment.ports()
        // The old settings name single ports, which are added to the pool.
        let joins = assignment.isAddition || !assignment.trait.hasSuffix("ports")
        self.options[keyPath: pool] = joins ? self.options[keyPath: pool] + ports : ports
    }

    private mutating func takeHeart(_ assignment: TraitAssignment) throws(SettingsError) {
        switch assignment.trait {
        case "period": self.options.heartbeatPeriod = try assignment.number(in: 1...86_400_000)
        case "max_heartmonitor_misses": self.options.maximumMisses = try assignment.number(in: 0...(.max))
        default: self.ignore(assignment)
        }
    }

    private mutating func takeScheduler(_ assignment: TraitAssignment) throws(SettingsError) {
        switch assignment.trait {
        case "scheme_name":
            let scheme = try assignment.text()
            guard ControllerOptions.schemes.contains(scheme) else {
                throw SettingsError(
                    "\(assignment.source): there is no scheme '\(scheme)'; there are \(ControllerOptions.schemes.joined(separator: ", "))"
                )
            }
            self.options.scheme = scheme
        case "hwm": self.options.highWaterMark = try assignment.number(in: 0...(.max))
        case "engine_timeout": self.options.engineTimeout = try assignment.span()
        case "dependency_interval": self.options.dependencyInterval = try assignment.span()
        default: self.ignore(assignment)
        }
    }

    private mutating func chooseDatabase(_ assignment: TraitAssignment) throws(SettingsError) {
        let name = try assignment.text()
        switch name.split(separator: ".").last.map({ $0.lowercased() }) {
        case "dictdb": self.database = .memory
        case "sqlitedb": self.database = .file
        case "nodb": self.database = .nowhere
        case "mongodb":
            throw SettingsError(
                "\(assignment.source): this controller has no MongoDB; use --sqlitedb, which keeps tasks in a file")
        default:
            throw SettingsError("\(assignment.source): there is no task database '\(name)'; there are dictdb, sqlitedb and nodb")
        }
    }

    private mutating func takeDatabase(_ assignment: TraitAssignment) throws(SettingsError) {
        if assignment.className == "DictDB" { self.limitsMemory = true }
        switch (assignment.className, assignment.trait) {
        case ("DictDB", "record_limit"): self.memoryLimits.records = try assignment.number(in: 1...(.max))
        case ("DictDB", "size_limit"): self.memoryLimits.bytes = try assignment.number(in: 1...(.max))
        case ("SQLiteDB", "record_limit"): self.fileLimits.records = try assignment.number(in: 1...(.max))
        case ("SQLiteDB", "size_limit"): self.fileLimits.bytes = try assignment.number(in: 16 << 20...(.max))
        case ("SQLiteDB", "filename"): self.databaseName = try assignment.text()
        case ("SQLiteDB", "location"): self.databaseFolder = try assignment.text()
        case ("SQLiteDB", "fsync"): self.waitsForDisk = try assignment.flag()
        default: self.ignore(assignment)
        }
    }

    private mutating func takeSession(_ assignment: TraitAssignment) throws(SettingsError) {
        switch assignment.trait {
        case "key":
            self.options.key = try assignment.text()
            self.keyFile = nil
        case "keyfile": self.keyFile = try assignment.text().nonEmpty
        case "session": self.options.sessionID = try assignment.text().nonEmpty
        case "username": self.options.username = try assignment.text()
        case "signature_scheme": self.options.signatureScheme = try assignment.text()
        case "packer", "unpacker":
            let name = try assignment.text()
            guard ["json", "orjson"].contains(name) else {
                throw SettingsError("\(assignment.source): messages are packed as json here, not as '\(name)'")
            }
        default: self.ignore(assignment)
        }
    }
}

extension String {
    var nonEmpty: String? { self.isEmpty ? nil : self }
    var trimmed: String {
        String(self.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }
}
