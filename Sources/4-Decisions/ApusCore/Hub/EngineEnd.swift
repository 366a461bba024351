package import ApusWire

/// How an engine's process ended, and which tasks it was running, for the clients that wait for these tasks.
///
/// The process reports its end itself when it crashes or calls `exit`; the launcher reports the end of a killed process.
package struct EngineEnd: Sendable, Hashable {
    package enum Cause: Sendable, Hashable {
        case signal(Int32)
        /// The process called `exit` with this code; -1: with a code that the system does not give.
        case code(Int32)
        /// The cause is not known.
        case unknown
    }

    package var cause: Cause
    /// The last lines that the process wrote to its error stream, oldest first.
    package var lastLines: [String]
    /// The tasks that the engine had begun and not answered; nil: not known, so that any task it held may have begun.
    package var begun: Set<TaskID>?

    /// Keeps the last twelve lines, each cut to 400 bytes or so.
    package init(_ cause: Cause, lastLines: [String] = [], begun: Set<TaskID>? = nil) {
        self.cause = cause
        // With backtraces off, the Swift runtime prints a stack trace after a trap's message, which would push out the message.
        let end = lastLines.lastIndex(where: Self.isOfTrap).map { $0 + 1 } ?? lastLines.count
        self.lastLines = lastLines[..<end].suffix(12).map { $0.utf8.count > 400 ? String($0.prefix(400)) + "…" : $0 }
        self.begun = begun
    }
}

extension EngineEnd {
    /// The content of an `apus_engine_ended` message.
    package var json: JSONObject {
        var content: JSONObject = ["lines": JSONValue(self.lastLines)]
        switch self.cause {
        case .signal(let number): content["signal"] = .int(Int(number))
        case .code(let code): content["code"] = .int(Int(code))
        case .unknown: break
        }
        if let begun { content["begun"] = JSONValue(begun.map(\.text).sorted()) }
        return content
    }

    package init(_ content: JSONValue) {
        let cause: Cause
        if let number = content["signal"]?.int.flatMap({ Int32(exactly: $0) }) {
            cause = .signal(number)
        } else if let code = content["code"]?.int.flatMap({ Int32(exactly: $0) }) {
            cause = .code(code)
        } else {
            cause = .unknown
        }
        self.init(
            cause, lastLines: (content["lines"]?.array ?? []).compactMap(\.string),
            begun: content["begun"]?.array.map { Set($0.compactMap { $0.string.map { TaskID($0) } }) })
    }
}

// MARK: - Words

extension EngineEnd: CustomStringConvertible {
    /// A text to follow a colon: "signal 4 (SIGILL). Fatal error: Index out of range".
    package var description: String { self.message.map { "\(self.cause). \($0)" } ?? "\(self.cause)" }

    /// The message of the crash: the line of a trap if there is one, else the last line.
    private var message: String? {
        self.lastLines.last(where: Self.isOfTrap) ?? self.lastLines.last { !$0.isEmpty }
    }

    private static func isOfTrap(_ line: String) -> Bool { line.contains("Fatal error") || line.contains("fatal error") }

    /// The description, followed by the last lines if there are several.
    package var report: String {
        guard self.lastLines.count > 1 else { return self.description }
        return "\(self.description)\nThe last lines of its error output:" + self.lastLines.map { "\n    " + $0 }.joined()
    }
}

extension EngineEnd.Cause: CustomStringConvertible {
    package var description: String {
        switch self {
        case .signal(9): "signal 9 (SIGKILL), as the system sends it when memory runs out"
        case .signal(let number): "signal \(number)" + (Self.names[number].map { " (\($0))" } ?? "")
        case .code(-1): "it called exit()"
        case .code(let code): "it exited with code \(code)"
        case .unknown: "its process ended, and nobody knows why"
        }
    }

    /// The signals that have the same number on Linux and macOS.
    private static let names: [Int32: String] = [
        1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 8: "SIGFPE", 11: "SIGSEGV",
        13: "SIGPIPE",
        14: "SIGALRM", 15: "SIGTERM",
    ]
}

extension EngineRegistry.Departure: CustomStringConvertible {
    /// A text of one line to follow a colon.
    package var description: String {
        switch self {
        case .ended(let end): end.description
        case .heartStopped: "it no longer answered heartbeats"
        case .disconnected: "its connections dropped, as they do when a process is killed"
        case .replaced: "it was started again, or registered again after it had missed something"
        case .unregistered, .shutDown: "it left the cluster"
        }
    }

    /// The description, followed by further lines if there are any.
    package var report: String {
        if case .ended(let end) = self { return end.report }
        return self.description
    }
}
