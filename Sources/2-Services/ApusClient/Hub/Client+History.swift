public import ApusWire

/// The latest tasks that a client has sent, oldest first, up to a limit.
///
/// Results belong to those who hold an ``AsyncResult``; the history keeps no result alive.
struct TaskHistory: Sendable {
    private struct Entry: Sendable {
        let id: TaskID
        weak var task: PendingTask?
    }

    private var entries: [Entry] = []
    var limit = 10_000 {
        didSet { self.trim(to: self.limit) }
    }

    mutating func append(_ task: PendingTask) {
        if self.limit == 0 { return }
        self.entries.append(Entry(id: task.id, task: task))
        // Trimmed only at twice the limit, so that not every task moves all others.
        if self.entries.count >= 2 * self.limit { self.trim(to: self.limit) }
    }

    private mutating func trim(to count: Int) { self.entries.removeFirst(max(0, self.entries.count - count)) }

    var ids: [TaskID] { self.entries.suffix(self.limit).map { $0.id } }

    /// The tasks of these ids whose results are still held.
    func tasks(_ ids: Set<TaskID>) -> [TaskID: PendingTask] {
        var tasks: [TaskID: PendingTask] = [:]
        for entry in self.entries where ids.contains(entry.id) { tasks[entry.id] = entry.task }
        return tasks
    }

    /// Forgets these tasks; nil: all tasks.
    mutating func forget(_ ids: Set<TaskID>?) {
        if let ids { self.entries.removeAll { ids.contains($0.id) } } else { self.entries = [] }
    }
}

extension Client {
    /// The ids of the tasks that this client has sent, oldest first; the latest ``historyLimit`` of them.
    public var history: [TaskID] { self.connection.withHistory { $0.ids } }

    /// How many ids ``history`` keeps; by default 10,000. A client that streams a million tasks need not keep a million ids.
    public var historyLimit: Int {
        get { self.connection.withHistory { $0.limit } }
        set { self.connection.withHistory { $0.limit = max(0, newValue) } }
    }

    /// The metadata of a task that this client has sent and whose result is still held; nil for other tasks.
    public func metadata(of task: TaskID) -> TaskMetadata? {
        self.connection.task(task).map { self.connection.metadata(of: $0) }
    }

    /// Waits until these tasks of this client have ended, or until an earlier condition holds. False when the time is over first.
    @discardableResult
    public func wait(
        for tasks: [TaskID], until condition: WaitCondition = .allCompleted, timeout: Duration? = nil
    ) async throws -> Bool {
        let wanted = Set(tasks)
        // A task that is not pending has ended.
        let pending = self.connection.pendingTasks.filter { wanted.contains($0.id) }
        if condition == .firstCompleted, pending.count < wanted.count { return true }
        // Among those that have ended may be one that failed.
        let known = condition == .firstError ? Array(self.connection.tasks(wanted).values) : pending
        return try await self.wait(for: known, until: condition, timeout: timeout)
    }
}
