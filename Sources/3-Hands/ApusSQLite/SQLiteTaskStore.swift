package import ApusStore
package import ApusWire
import GRDB
import Locks

/// Keeps task records in a SQLite file, so that results outlive the controller.
///
/// Changes are gathered and written by GRDB's writing thread, as many in one transaction as came while the last was written.
/// Committed changes survive when the process is killed at any moment; ``flush()`` waits until all applied changes are committed.
/// Look-ups first have the gathered changes written, and then read while later ones are written.
///
/// When a disk is full or fails, changes are kept and written with the next ones. Until then look-ups fail and say why.
package final class SQLiteTaskStore: TaskStore {
    package struct Limits: Sendable {
        /// How many records of tasks that have ended are kept.
        package var records: Int
        /// The size limit of the file, in bytes.
        package var bytes: Int
        /// How long records of tasks that have ended are kept, in seconds; nil: as long as there is room.
        package var age: Double?
        /// Bytes of changes that are kept while they cannot be written. Beyond the limit changes are lost, and `onProblem` is
        /// called.
        package var backlogBytes: Int

        package init(records: Int = 1_000_000, bytes: Int = 10 << 30, age: Double? = nil, backlogBytes: Int = 1 << 30) {
            self.records = records
            self.bytes = bytes
            self.age = age
            self.backlogBytes = backlogBytes
        }
    }

    private struct State {
        /// Changes not written yet, oldest first.
        var changes: [TaskChange] = []
        var changesByteCount = 0
        /// Bytes of the changes that are being written.
        var inFlightByteCount = 0
        /// A write is on its way, or under way.
        var isScheduled = false
        var isClosed = false
        /// Why the last write failed; nil when it did not.
        var problem: TaskStoreError?
        var culled = CulledTasks()
        /// The numbers of records in the file; nil until they are counted.
        var census: TaskWriter.Census?
        /// Nil once the store is closed.
        var owner: FileOwner?
    }

    private let path: String
    private let limits: Limits
    private let pool: DatabasePool
    private let state = Mutex(State())
    private let onProblem: @Sendable (TaskStoreError) -> Void

    /// Opens the file, or makes it.
    ///
    /// - Parameters:
    ///   - waitsForDisk: Whether a commit waits until the disk has the changes, so that they outlive a power cut, too.
    ///   - onProblem: Called for changes that could not be written, once for each reason; must not block.
    /// - Throws: An error that names the file, says what is wrong with it, and what to do.
    package init(
        path: String, limits: Limits = Limits(), waitsForDisk: Bool = false,
        onProblem: @escaping @Sendable (TaskStoreError) -> Void = { _ in }
    ) throws(TaskStoreError) {
        self.path = path
        self.limits = limits
        self.onProblem = onProblem
        let owner = try FileOwner(of: path)
        self.pool = try TaskFile.open(path, waitsForDisk: waitsForDisk)
        self.state.withLock { $0.owner = owner }
    }

    // MARK: Writing

    package func apply(_ changes: [TaskChange]) {
        if changes.isEmpty { return }
        let byteCount = changes.reduce(0) { $0 + $1.byteCount }
        let mustSchedule = self.state.withLock { state in
            if state.isClosed { return false }
            state.changes.append(contentsOf: changes)
            state.changesByteCount += byteCount
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
        if mustSchedule { self.pool.asyncWriteWithoutTransaction { self.writeChanges($0) } }
    }

    package var backlogByteCount: Int { self.state.withLock { $0.changesByteCount + $0.inFlightByteCount } }

    package var isDurable: Bool { true }

    /// Writes all gathered changes. Runs on GRDB's writing thread, one call at a time.
    private func writeChanges(_ database: Database) {
        let changes = self.state.withLock { state in
            state.isScheduled = false
            if state.isClosed { return [TaskChange]() }
            state.inFlightByteCount = state.changesByteCount
            state.changesByteCount = 0
            defer { state.changes = [] }
            return state.changes
        }
        if changes.isEmpty { return }
        do {
            try self.write(changes, to: database)
            self.state.withLock { state in
                state.inFlightByteCount = 0
                state.problem = nil
            }
        } catch let error as DatabaseError where !error.mayPass {
            // At least one of the changes can never be written. The others can, each in a transaction of its own.
            self.writeOneByOne(changes, to: database)
        } catch {
            self.keep(changes, because: TaskFile.error(error, self.path))
        }
    }

    /// Writes changes of which one cannot be written. Where the disk fails on the way, the rest is kept for later.
    private func writeOneByOne(_ changes: [TaskChange], to database: Database) {
        for (index, change) in changes.enumerated() {
            do { try self.write([change], to: database) } catch let error as DatabaseError where error.mayPass {
                return self.keep(Array(changes[index...]), because: TaskFile.error(error, self.path))
            } catch {
                self.onProblem(
                    TaskFile.error("a change of a task's record is lost: \(TaskFile.error(error, self.path).message)"))
            }
        }
        self.state.withLock { state in
            state.inFlightByteCount = 0
            state.problem = nil
        }
    }

    private func write(_ changes: [TaskChange], to database: Database) throws {
        let census = try self.state.withLock { $0.census } ?? TaskWriter.census(database)
        let retention = TaskRetention(self.limits, database)
        var writer = TaskWriter(database, census: census) { id in self.state.withLock { $0.culled.contains(id) } }
        var culled: [TaskID] = []
        try database.inTransaction(.immediate) {
            try writer.write(changes)
            culled = try retention.cull(&writer, now: .now)
            return .commit
        }
        self.state.withLock { state in
            state.census = writer.census
            for id in culled { state.culled.insert(id) }
        }
        // The changes are written; pages that cannot be freed now are freed after a later write.
        try? retention.giveBack()
    }

    private func keep(_ changes: [TaskChange], because problem: TaskStoreError) {
        let (isNew, lost) = self.state.withLock { state in
            let isNew = state.problem != problem
            state.problem = problem
            if state.inFlightByteCount + state.changesByteCount > self.limits.backlogBytes {
                state.inFlightByteCount = 0
                return (isNew, changes.count)
            }
            state.changes.insert(contentsOf: changes, at: 0)
            state.changesByteCount += state.inFlightByteCount
            state.inFlightByteCount = 0
            return (isNew, 0)
        }
        if isNew { self.onProblem(problem) }
        if lost > 0 { self.onProblem(TaskFile.error("\(lost) changes of task records are lost: \(problem.message)")) }
    }

    package nonisolated(nonsending) func flush() async throws(TaskStoreError) {
        if self.state.withLock({ $0.changes.isEmpty && $0.inFlightByteCount == 0 && !$0.isScheduled }) { return }
        await self.onWriter { self.writeChanges($0) }
        if let problem = self.state.withLock({ $0.problem }) { throw problem }
    }

    package nonisolated(nonsending) func close() async throws(TaskStoreError) {
        if self.state.withLock({ $0.isClosed }) { return }
        await self.onWriter { database in
            self.writeChanges(database)
            // The pool closes its readers last, and those may not bring the journal into the file.
            _ = try? database.checkpoint(.truncate)
        }
        let problem = self.state.withLock { state in
            state.isClosed = true
            return state.problem
        }
        // Fails while there are readers; the file is then closed with the last reference to the store.
        try? self.pool.close()
        self.state.withLock { $0.owner = nil }
        if let problem { throw problem }
    }

    /// Runs the body on the writing thread, also for a task that is cancelled, because a task's last act is to write.
    private nonisolated(nonsending) func onWriter(_ body: @escaping @Sendable (Database) -> Void) async {
        await withCheckedContinuation { continuation in
            self.pool.asyncWriteWithoutTransaction { database in
                body(database)
                continuation.resume()
            }
        }
    }

    /// Limits the file to this number of pages, or to those it has. For tests: writing then fails as on a full disk.
    package func limitPages(to count: Int) async throws {
        try await self.pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA max_page_count = \(count)") }
    }

    // MARK: Reading

    private nonisolated(nonsending) func read<Answer: Sendable>(
        _ body: @escaping @Sendable (TaskReader) throws -> Answer
    ) async throws(TaskStoreError) -> Answer {
        if self.state.withLock({ $0.isClosed }) { throw TaskFile.error("\(self.path) has been closed") }
        try await self.flush()
        do { return try await self.pool.read { try body(TaskReader($0)) } } catch { throw TaskFile.error(error, self.path) }
    }

    package nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> [TaskState] {
        let states = try await self.read { try $0.states(of: ids) }
        return self.state.withLock { state in
            zip(ids, states).map { $1 == .unknown && state.culled.contains($0) ? .culled : $1 }
        }
    }

    package nonisolated(nonsending) func records(
        of ids: [TaskID], fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] { try await self.read { try $0.records(of: ids, fields: fields) } }

    package nonisolated(nonsending) func records(
        matching query: TaskQuery, fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] {
        try await self.read { try $0.records(matching: query, fields: fields) }
    }

    package nonisolated(nonsending) func unfinished() async throws(TaskStoreError) -> [TaskRecord] {
        try await self.read { try $0.unfinished }
    }

    package nonisolated(nonsending) func history() async throws(TaskStoreError) -> [TaskID] {
        try await self.read { try $0.history }
    }

    package nonisolated(nonsending) func counts() async throws(TaskStoreError) -> TaskCounts {
        try await self.read { try $0.counts }
    }
}

extension DatabaseError {
    /// Whether the same write may succeed later, because the disk or another program was the cause, and not the data.
    fileprivate var mayPass: Bool {
        switch self.resultCode {
        case .SQLITE_TOOBIG, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH, .SQLITE_RANGE, .SQLITE_ERROR: false
        default: true
        }
    }
}

extension TaskChange {
    /// Roughly the memory that the change takes.
    fileprivate var byteCount: Int {
        switch self {
        case .submitted(_, let request, _, _, _, _): request.byteCount + 300
        case .completed(_, let reply, _): reply.byteCount + 300
        case .output(_, let output): output.byteCount + 100
        default: 100
        }
    }
}
