package import ApusWire

/// Keeps the hub's records of tasks: in memory, in a file, or not at all.
///
/// The hub hands over changes as they happen and never waits for them. Order is kept: changes take effect in the order they
/// were applied, a batch at once, and a look-up sees every change that was applied before it was called. ``flush()`` waits until
/// changes would survive the end of this process.
///
/// Look-ups run where they are called from, and may take long: a query goes through texts and patterns. A store in memory answers
/// without suspending; a file is read on another thread. Applying changes does not wait for a look-up that runs.
package protocol TaskStore: Sendable {
    /// Takes over changes. Never blocks and never fails; a store that cannot write throws in look-ups.
    func apply(_ changes: [TaskChange])

    /// The state of each id, in the order asked.
    nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> [TaskState]

    /// The existing records of these ids, in the order asked.
    ///
    /// - Parameter fields: The fields that will be used; a file reads no others. The rest of a record is left empty.
    nonisolated(nonsending) func records(
        of ids: [TaskID], fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord]

    /// The records that match, in the order in which the store first heard of them.
    nonisolated(nonsending) func records(
        matching query: TaskQuery, fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord]

    /// The records of tasks that have not ended, with their requests, in the order in which the store first heard of them. Stubs are
    /// left out.
    nonisolated(nonsending) func unfinished() async throws(TaskStoreError) -> [TaskRecord]

    /// The ids of all tasks, by the date of their submission. Stubs are left out.
    nonisolated(nonsending) func history() async throws(TaskStoreError) -> [TaskID]

    nonisolated(nonsending) func counts() async throws(TaskStoreError) -> TaskCounts

    /// Bytes of applied changes that would not survive this process yet; always 0 for a store that is not durable.
    ///
    /// The number grows when tasks come faster than a disk can write. The caller should pause accepting tasks when it is large.
    var backlogByteCount: Int { get }

    /// Whether flushed changes survive this process.
    var isDurable: Bool { get }

    /// Returns when all changes applied before would survive if this process were killed; at once for a store that is not
    /// durable.
    nonisolated(nonsending) func flush() async throws(TaskStoreError)

    /// Flushes and closes the store. Changes applied later are lost, look-ups fail.
    nonisolated(nonsending) func close() async throws(TaskStoreError)
}

/// The state of a task in a store.
package enum TaskState: Sendable, Hashable {
    /// There is no record: there never was one, or it was purged, or it was culled so long ago that this is forgotten, too.
    case unknown
    /// The task ended, and its record was removed because the store was full.
    case culled
    /// Only output of the task came, no request: a broadcast, which is not recorded.
    case stub
    case unfinished
    case finished
}

package struct TaskCounts: Sendable, Hashable {
    package var unfinished = 0
    package var finished = 0
    package var stubs = 0
    /// Bytes of the records that have ended and of stubs, which the store's limit counts. For a file, its size.
    package var byteCount = 0

    package init(unfinished: Int = 0, finished: Int = 0, stubs: Int = 0, byteCount: Int = 0) {
        self.unfinished = unfinished
        self.finished = finished
        self.stubs = stubs
        self.byteCount = byteCount
    }
}

/// Why a store has no answer, under the name by which Python knows it.
package struct TaskStoreError: Error, Hashable, CustomStringConvertible {
    package let name: ErrorName
    /// A sentence for a user.
    package let message: String

    package init(_ name: ErrorName, _ message: String) {
        self.name = name
        self.message = message
    }

    package var description: String { "\(self.name): \(self.message)" }
    /// The error as a reply carries it.
    package var content: ErrorContent { ErrorContent(self.name, self.message) }
}
