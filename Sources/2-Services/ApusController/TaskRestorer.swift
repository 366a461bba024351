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
    let recorder: Recorder
    /// The serial number of the last record that is left alone.
    let mark: Int64

    /// Reads the unfinished tasks and hands them over; a task whose record cannot be read ends as lost. Engines must be expected
    /// before.
    ///
    /// - Returns: The number of unfinished tasks in the store, including tasks that could not be taken up.
    nonisolated(nonsending) func restore() async throws(TaskStoreError) -> Int {
        let records = try await self.store.unfinished().filter { $0.serial > self.mark }
        let tasks = records.map { record in Result { try RestoredTask(record, signing: self.session) } }
        self.tasks.beginRestoring()
        self.direct.beginRestoring()
        for (record, task) in zip(records, tasks) {
            do {
                let task = try task.get()
                if record.queue == .balanced {
                    try self.tasks.restore(task)
                } else {
                    self.direct.restore(record, as: task.message)
                }
            } catch {
                let error = ErrorContent(.engineError, "task '\(record.id)' cannot be taken up again: \(error)")
                self.recorder.note(.lost(record.id, on: record.assignedEngine, error: error, at: .now))
            }
        }
        return records.count
    }
}
