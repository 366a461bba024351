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
        self.tasks.beginRestoring()
        self.direct.beginRestoring()
        let (first, others) = (records.prefix(Self.partSize), records.dropFirst(Self.partSize))
        // Other threads begin with the others while the loop reads the first.
        let parts = self.parts(of: others)
        for (record, task) in zip(first, Self.tasks(of: first, self.session.forSigning)) { self.restore(record, task) }
        for part in parts {
            for (record, task) in zip(part.records, await part.tasks.value) { self.restore(record, task) }
        }
        return records.count
    }

    /// So many records are read and signed at once, on any thread, while the loop restores those before them.
    private static let partSize = 2000

    private func parts(
        of records: ArraySlice<TaskRecord>
    ) -> [(records: ArraySlice<TaskRecord>, tasks: Task<[Result<RestoredTask, WireError>], Never>)] {
        let session = self.session.forSigning
        return stride(from: records.startIndex, to: records.endIndex, by: Self.partSize).map { start in
            let part = records[start..<min(start + Self.partSize, records.endIndex)]
            return (part, Task.detached { Self.tasks(of: part, session) })
        }
    }

    private static func tasks(
        of records: ArraySlice<TaskRecord>, _ session: Session
    ) -> [Result<RestoredTask, WireError>] {
        records.map { record in Result { () throws(WireError) in try RestoredTask(record, signing: session) } }
    }

    private func restore(_ record: TaskRecord, _ task: Result<RestoredTask, WireError>) {
        do {
            let task = try task.get()
            self.session.remember(task.message)
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
}
