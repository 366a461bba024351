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

    mutating func note(_ task: TaskID, _ error: ErrorContent) {
        self.note(task, error.value.isEmpty ? error.name : "\(error.name): \(error.value)")
    }

    mutating func note(_ task: TaskID, _ text: String) {
        let line = text.split(separator: "\n", maxSplits: 1).first.map(String.init) ?? text
        let shown = line.count > Self.longest ? line.prefix(Self.longest) + "…" : line[...]
        guard self.lines.updateValue(String(shown), forKey: task) == nil else { return }
        self.order.append(task)
        if self.order.count > Self.limit { self.lines[self.order.removeFirst()] = nil }
    }
}
