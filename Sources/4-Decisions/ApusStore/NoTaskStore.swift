package import ApusWire

/// A store that keeps nothing (`--nodb`), for clusters whose clients wait for their results and never ask the hub for them.
package struct NoTaskStore: TaskStore {
    package init() {}

    private static let error = TaskStoreError(
        ErrorName(rawValue: "NoData"),
        "this controller keeps no task records. Start it with a task database to look up, resubmit or purge results.")

    package func apply(_ changes: [TaskChange]) {}

    package nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> [TaskState] {
        throw Self.error
    }

    package nonisolated(nonsending) func records(
        of ids: [TaskID], fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] { throw Self.error }

    package nonisolated(nonsending) func records(
        matching query: TaskQuery, fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] { throw Self.error }

    package nonisolated(nonsending) func unfinished() async throws(TaskStoreError) -> [TaskRecord] { throw Self.error }
    package nonisolated(nonsending) func history() async throws(TaskStoreError) -> [TaskID] { throw Self.error }
    package nonisolated(nonsending) func counts() async throws(TaskStoreError) -> TaskCounts { throw Self.error }
    package var backlogByteCount: Int { 0 }
    package var isDurable: Bool { false }
    package nonisolated(nonsending) func flush() async throws(TaskStoreError) {}
    package nonisolated(nonsending) func close() async throws(TaskStoreError) {}
}
