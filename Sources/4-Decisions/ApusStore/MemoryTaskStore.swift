package import ApusWire
import Locks

/// Keeps task records in memory, within limits: the default, gone with the controller.
package final class MemoryTaskStore: TaskStore {
    // Changes come from the hub's loop, which must not wait: a query only copies records under the lock, and matches them
    // outside.
    private let tasks: Mutex<MemoryTasks>

    package init(limits: MemoryTasks.Limits = MemoryTasks.Limits()) { self.tasks = Mutex(MemoryTasks(limits: limits)) }

    package func apply(_ changes: [TaskChange]) {
        self.tasks.withLock { tasks in
            for change in changes { tasks.apply(change) }
        }
    }

    package nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> [TaskState] {
        self.tasks.withLock { tasks in ids.map { tasks.state(of: $0) } }
    }

    package nonisolated(nonsending) func records(
        of ids: [TaskID], fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] {
        self.tasks.withLock { tasks in ids.compactMap { tasks.record($0) } }
    }

    package nonisolated(nonsending) func records(
        matching query: TaskQuery, fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] {
        let candidates = self.tasks.withLock { $0.candidates(for: query) }
        return MemoryTasks.records(matching: query, among: candidates)
    }

    package nonisolated(nonsending) func unfinished() async throws(TaskStoreError) -> [TaskRecord] {
        self.tasks.withLock { $0.unfinished }
    }

    package nonisolated(nonsending) func history() async throws(TaskStoreError) -> [TaskID] { self.tasks.withLock { $0.history } }
    package nonisolated(nonsending) func counts() async throws(TaskStoreError) -> TaskCounts { self.tasks.withLock { $0.counts } }
    package var backlogByteCount: Int { 0 }
    package var isDurable: Bool { false }
    package nonisolated(nonsending) func flush() async throws(TaskStoreError) {}
    package nonisolated(nonsending) func close() async throws(TaskStoreError) {}
}
