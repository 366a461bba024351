package import ApusWire
import Foundation

/// How an engine runs Python.
package struct PythonOptions: Sendable {
    /// The interpreter to start.
    package var interpreter: String
    /// The profile whose IPython configuration and start-up files apply; nil for none.
    package var profileDirectory: String?
    /// Further configuration files, which override the profile's.
    package var configurationFiles: [String] = []
    /// Settings of IPython's own classes from the command line: class, trait, text.
    package var traits: [(owner: String, trait: String, text: String)] = []
    /// Code to run before the first request.
    package var startupLines: [String] = []
    /// Scripts to run before the first request.
    package var startupFiles: [String] = []
    /// Code that starts MPI, before everything else; nil without MPI.
    package var startsMPI: String?
    /// Whether to do without IPython even where it is installed.
    package var isPlain = false
    /// Whether a kernel that died is replaced by a new one; otherwise the engine ends with it.
    package var restarts = true
    /// How long an interrupted task that has passed its limit may take to end before its kernel is killed.
    package var grace = 2.0

    package init(interpreter: String) { self.interpreter = interpreter }

    /// The settings in the form that the kernel reads when it starts.
    var settings: JSONObject {
        var settings: JSONObject = [
            "config_files": JSONValue(self.configurationFiles), "lines": JSONValue(self.startupLines),
            "files": JSONValue(self.startupFiles), "plain": .bool(self.isPlain),
            "traits": .array(self.traits.map { JSONValue([$0.owner, $0.trait, $0.text]) }),
        ]
        if let profileDirectory { settings["profile_dir"] = .string(profileDirectory) }
        if let startsMPI { settings["mpi"] = .string(startsMPI) }
        return settings
    }

    /// Finds the interpreter of the given path or name; for nil the active environment's, else `python3` or `python` on the path.
    ///
    /// - Throws: ``WireError`` when there is none.
    package static func findInterpreter(
        _ asked: String? = nil, environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws(WireError) -> String {
        if let found = Self.interpreters(asked, environment: environment).first { return found }
        if let asked { throw WireError("there is no Python interpreter \(asked)") }
        throw WireError(
            "there is no Python: neither an active environment nor python3 on the path. Name one with --python, or say --no-python"
        )
    }

    /// Finds every interpreter of the given path or name; for nil the active environment's and then those on the path, in this
    /// order.
    package static func interpreters(
        _ asked: String? = nil, environment: [String: String] = ProcessInfo.processInfo.environment
    ) -> [String] {
        let folders = (environment["PATH"] ?? "").split(separator: ":").map(String.init)
        var candidates: [String]
        if let asked {
            candidates = asked.contains("/") ? [asked] : folders.map { $0 + "/" + asked }
        } else {
            candidates = ["VIRTUAL_ENV", "CONDA_PREFIX"].compactMap { environment[$0] }.map { $0 + "/bin/python" }
            for name in ["python3", "python"] { candidates += folders.map { $0 + "/" + name } }
        }
        return candidates.filter(Self.isProgram)
    }

    private static func isProgram(_ path: String) -> Bool { FileManager.default.isExecutableFile(atPath: path) }
}
