import ApusCore
import ApusStore
import ApusWire
import NIOCore

/// Hands the unfinished tasks of the store to the desks that they belong to.
struct TaskRestorer {
    let store: any TaskStore
    let tasks: TaskDesk
    let direct: DirectDesk
    let session: ControllerSession
    let loop: any EventLoop

    /// Reads the unfinished tasks and hands them over. Engines must be expected before.
    ///
    /// - Returns: The number of unfinished tasks in the store, including tasks that could not be taken up.
    nonisolated(nonsending) func restore() async throws(TaskStoreError) -> Int {
        let records = try await self.store.unfinished()
        let balanced = records.filter { $0.queue == .balanced }
        let ids = Set(balanced.map(\.id))
        // The outcomes of tasks on which the unfinished ones depend.
        let needed = Set(balanced.flatMap { Self.dependencies(of: $0) }).subtracting(ids)
        let fields: Set<TaskField> = [.resultMetadata, .resultContent, .engine]
        let ended = needed.isEmpty ? [] : try await self.store.records(of: needed.sorted(), fields: fields)
        self.tasks.restore(balanced, ended: ended.filter(\.isFinished))
        for record in records where record.queue != .balanced {
            let request = try? RestoredTask(record, signing: self.session)
            self.direct.restore(record, as: request?.message, on: self.loop)
        }
        return records.count
    }

    private static func dependencies(of record: TaskRecord) -> [TaskID] {
        guard let metadata = record.request?.metadata, let asked = try? RequestMetadata.ForScheduler(scanning: metadata) else {
            return []
        }
        return (asked.after?.tasks ?? []) + (asked.follow?.tasks ?? [])
    }
}
