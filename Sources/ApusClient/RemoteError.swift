import ApusFunctions
public import ApusWire

/// An error that code raised on an engine.
public struct RemoteError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The error's type there: a Swift type's name, or a Python class's.
    public let name: String
    /// What it says.
    public let value: String
    /// Where it was raised, a line each, as the engine shows it.
    public let traceback: [String]
    /// The engine that ran the code.
    public let engineID: EngineID?
    /// What names that engine for as long as it lives; nil where the reply does not say.
    public let engineUUID: EngineUUID?
    /// How the code was called: `apply` or `execute`.
    public let method: String?

    init(_ content: ErrorContent, engineID: EngineID?, engineUUID: EngineUUID?) {
        self.name = content.name
        self.value = content.value
        self.traceback = content.traceback
        self.engineID = content.engineInfo["engine_id"]?.int.map { EngineID($0) } ?? engineID
        self.engineUUID = content.engineInfo["engine_uuid"]?.string.map { EngineUUID($0) } ?? engineUUID
        self.method = content.engineInfo["method"]?.string
    }

    /// One line: `[3:apply] ValueError: no such thing`.
    public var summary: String {
        guard let engineID else { return "[Engine Exception] \(self.name): \(self.value)" }
        return "[\(engineID):\(self.method ?? "apply")] \(self.name): \(self.value)"
    }

    /// The remote traceback, and the line that sums it up.
    public var description: String {
        self.traceback.isEmpty ? self.summary : self.traceback.joined(separator: "\n") + "\n" + self.summary
    }
}

extension RemoteError: RelayedError {}

/// Errors of several engines, or several tasks, at once.
public struct CompositeError: Error, Sendable, CustomStringConvertible {
    /// What was being done.
    public let message: String
    /// Each error, in the order of the targets or tasks.
    public let errors: [any Error]

    init(_ message: String, _ errors: [any Error]) {
        self.message = message
        self.errors = errors
    }

    /// The message and one line per error; the same traceback is shown once, with the engines that it came from.
    public var description: String {
        var lines = [self.message]
        var groups: [(traceback: [String], engines: [String], summaries: [String])] = []
        for error in self.errors {
            guard let remote = error as? RemoteError else {
                groups.append((traceback: [], engines: [], summaries: ["\(error)"]))
                continue
            }
            let engine = remote.engineID.map { "\($0)" } ?? "?"
            if let index = groups.firstIndex(where: { $0.traceback == remote.traceback && !remote.traceback.isEmpty }) {
                groups[index].engines.append(engine)
                groups[index].summaries.append(remote.summary)
            } else {
                groups.append((traceback: remote.traceback, engines: [engine], summaries: [remote.summary]))
            }
        }
        for group in groups {
            lines += group.summaries
            if !group.traceback.isEmpty {
                lines.append(
                    "  traceback of engine\(group.engines.count > 1 ? "s" : "") \(group.engines.joined(separator: ", ")):")
                lines += group.traceback.flatMap { $0.split(separator: "\n", omittingEmptySubsequences: false) }.map {
                    "    \($0)"
                }
            }
        }
        return lines.joined(separator: "\n")
    }
}
