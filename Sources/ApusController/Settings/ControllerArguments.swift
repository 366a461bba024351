import ApusWire

/// The command line of a controller, as ipyparallel's launchers and users write it.
///
/// `--name=value`, `--name value`, flags, and `--Class.trait=value` for everything else; what we do not know is a warning.
package struct ControllerArguments: Sendable {
    package private(set) var assignments: [TraitAssignment] = []
    package private(set) var warnings: [String] = []

    /// Short names of settings that take a value.
    private static let aliases: [String: (String, String)] = [
        "ssh": ("IPController", "ssh_server"), "enginessh": ("IPController", "engine_ssh_server"),
        "location": ("IPController", "location"), "ip": ("IPController", "ip"), "transport": ("IPController", "transport"),
        "port": ("IPController", "regport"), "ports": ("IPController", "ports"), "ping": ("HeartMonitor", "period"),
        "scheme": ("TaskScheduler", "scheme_name"), "hwm": ("TaskScheduler", "hwm"), "log-level": ("IPController", "log_level"),
        "profile-dir": ("ProfileDir", "location"), "profile": ("IPController", "profile"),
        "ipython-dir": ("IPController", "ipython_dir"), "config": ("IPController", "extra_config_file"),
        "work-dir": ("IPController", "work_dir"), "log-to-file": ("IPController", "log_to_file"),
        "clean-logs": ("IPController", "clean_logs"), "log-url": ("IPController", "log_url"),
        "cluster-id": ("IPController", "cluster_id"), "ident": ("Session", "session"), "user": ("Session", "username"),
        "keyfile": ("Session", "keyfile"),
        // Python has none of these settings.
        "engine-timeout": ("TaskScheduler", "engine_timeout"), "dependency-interval": ("TaskScheduler", "dependency_interval"),
        "max-message-size": ("IPController", "max_message_size"), "max-unread": ("IPController", "max_unread"),
        // Python has these two as traits only.
        "engine-ports": ("IPController", "engine_ports"), "client-ports": ("IPController", "client_ports"),
    ]

    /// Names that set something by being there.
    private static let flags: [String: [(String, String, JSONValue)]] = [
        "log-to-file": [("IPController", "log_to_file", true)], "debug": [("IPController", "log_level", 10)],
        "quiet": [("IPController", "log_level", 50)], "init": [("IPController", "auto_create", true)],
        "usethreads": [("IPController", "use_threads", true)], "sqlitedb": [("IPController", "db_class", "sqlitedb")],
        "mongodb": [("IPController", "db_class", "mongodb")], "dictdb": [("IPController", "db_class", "dictdb")],
        "nodb": [("IPController", "db_class", "nodb")], "reuse": [("IPController", "reuse_files", true)],
        "restore": [("IPController", "restore_engines", true), ("IPController", "reuse_files", true)],
        "secure": [("Session", "keyfile", "")], "no-secure": [("Session", "key", ""), ("Session", "keyfile", "")],
        "clean-logs": [("IPController", "clean_logs", true)],
    ]

    package init(_ arguments: [String]) throws(SettingsError) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            guard argument.hasPrefix("--"), argument != "--" else {
                self.warnings.append("'\(argument)' is no option and has no effect")
                continue
            }
            let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init)
            var value = parts.count > 1 ? parts[1] : nil
            let name = parts[0].contains(".") ? parts[0] : parts[0].replacing("_", with: "-")
            if value == nil, let flag = Self.flags[name],
                rest.first.map({ $0.hasPrefix("-") || Self.aliases[name] == nil }) ?? true
            {
                for (className, trait, literal) in flag {
                    self.assignments.append(TraitAssignment(className, trait, .literal(literal), source: argument))
                }
                continue
            }
            let target: (String, String)
            if let alias = Self.aliases[name] {
                target = alias
            } else if let dot = name.lastIndex(of: "."), dot != name.startIndex {
                target = (String(name[..<dot]), String(name[name.index(after: dot)...]))
            } else {
                self.warnings.append("\(argument): there is no such option, so it has no effect")
                // Its value would only be complained of again.
                if value == nil, let next = rest.first, !next.hasPrefix("-") { rest.removeFirst() }
                continue
            }
            if value == nil, let next = rest.first, !next.hasPrefix("--") { value = rest.popFirst() }
            guard let value else { throw SettingsError("\(argument) needs a value, as in \(argument)=…") }
            self.assignments.append(
                TraitAssignment(
                    target.0, target.1, .text(value), source: "\(parts.count > 1 ? argument : argument + " " + value)"))
        }
    }
}
