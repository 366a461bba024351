import ApusCore
import ApusWire
import DequeModule

/// Why the tasks that failed last did so, one line each, for the errors of tasks that depend on them: at most 1,024 lines of 300
/// characters.
struct RecentFailures {
    private static let limit = 1024
    private static let longest = 300

    private var lines: [TaskID: String] = [:]
    /// The tasks that have a line, oldest first.
    private var order: Deque<TaskID> = []

    subscript(task: TaskID) -> String? { self.lines[task] }

    /// Notes the failure in a reply; one of success changes nothing.
    mutating func note(_ task: TaskID, _ reply: Message) {
        if let reason = Self.reason(in: reply) { self.note(task, reason) }
    }

    mutating func note(_ task: TaskID, _ error: ErrorContent) { self.note(task, Self.text(error)) }

    mutating func note(_ task: TaskID, _ text: String) {
        guard self.lines.updateValue(Self.line(of: text), forKey: task) == nil else { return }
        self.order.append(task)
        if self.order.count > Self.limit { self.lines[self.order.removeFirst()] = nil }
    }

    /// The line that tells the failure in a reply; nil for a reply of success.
    static func reason(in reply: Message) -> String? {
        switch reply.content.textMember("status") {
        case "ok": nil
        case "aborted": "it was aborted"
        default: Self.line(of: Self.text(ErrorContent((try? JSONValue(parsing: reply.content)) ?? .null)))
        }
    }

    private static func text(_ error: ErrorContent) -> String {
        error.value.isEmpty ? error.name : "\(error.name): \(error.value)"
    }

    private static func line(of text: String) -> String {
        let line = text.split(separator: "\n", maxSplits: 1).first.map(String.init) ?? text
        return line.count > Self.longest ? "\(line.prefix(Self.longest))…" : line
    }
}
