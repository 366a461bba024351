package import ApusWire

/// Where the hub keeps the records of tasks: in memory, in a file, or nowhere.
///
/// The hub hands over changes as they happen and never waits for them. Order is kept: changes take effect in the order they
/// were applied, a batch at once, and a look-up sees every change that was applied before it was called. Whether a change
/// would outlive this process is another matter; ``flush()`` waits for that.
///
/// Look-ups run where they are called from, and may take long: a query goes through texts and patterns. A store in memory answers
/// without suspending; a file is read elsewhere. While a look-up runs, changes are taken over without waiting for it.
package protocol TaskStore: Sendable {
    /// Takes over what happened. Never blocks and never fails; a store that cannot write says so in the answers.
    func apply(_ changes: [TaskChange])

    /// What is known of each id, in the order asked.
    nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> [TaskState]

    /// The records of these ids that there are, in the order asked.
    ///
    /// - Parameter fields: What of a record will be used; a file reads nothing else. The rest of it is left empty.
    nonisolated(nonsending) func records(
        of ids: [TaskID], fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord]

    /// The records that match, in the order in which the store first heard of them.
    nonisolated(nonsending) func records(
        matching query: TaskQuery, fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord]

    /// The ids of all tasks, by the date of their submission. Stubs are left out.
    nonisolated(nonsending) func history() async throws(TaskStoreError) -> [TaskID]

    nonisolated(nonsending) func counts() async throws(TaskStoreError) -> TaskCounts

    /// Bytes of changes taken over and not yet where they would survive this process; always 0 where nothing will.
    ///
    /// Grows when tasks come faster than a disk can write. Whoever accepts tasks should stop for a while when it is large.
    var backlogByteCount: Int { get }

    /// Whether what was flushed survives this process.
    var isDurable: Bool { get }

    /// Returns when everything applied before is where it would survive this process being killed, as far as it ever will be.
    nonisolated(nonsending) func flush() async throws(TaskStoreError)

    /// Flushes and gives up what the store holds open. Changes applied later are lost, look-ups fail.
    nonisolated(nonsending) func close() async throws(TaskStoreError)
}

/// What a store knows of an id.
package enum TaskState: Sendable, Hashable {
    /// Nothing: it never heard of it, or was told to forget it, or forgot even that it had to let it go.
    case unknown
    /// The task ended, and its record went when the store was full.
    case culled
    /// Only output of it came, no request: a broadcast, which is not recorded.
    case stub
    case unfinished
    case finished
}

package struct TaskCounts: Sendable, Hashable {
    package var unfinished = 0
    package var finished = 0
    package var stubs = 0
    /// Bytes of the records that have ended and of stubs: what the store's limit is about. For a file, its size.
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
    /// A sentence fit to be shown to a user.
    package let message: String

    package init(_ name: ErrorName, _ message: String) {
        self.name = name
        self.message = message
    }

    package var description: String { "\(self.name): \(self.message)" }
    /// The error as a reply carries it.
    package var content: ErrorContent { ErrorContent(self.name, self.message) }
}
