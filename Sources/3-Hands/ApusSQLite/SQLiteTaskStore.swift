package import ApusStore
package import ApusWire
import Dispatch
import GRDB
import Locks
import NIOCore

/// Keeps task records in a SQLite file, so that results outlive the controller.
///
/// Changes are gathered and committed by GRDB's writing thread, as many at once as came while the last were committed. They go
/// to the file's journal (``JournalTable``) first, and to the tables when there is time, or when the journal has grown. Committed
/// changes survive when the process is killed at any moment; ``flush()`` waits until all applied changes are committed. Look-ups
/// first have the changes written to the tables, and then read while later ones are written.
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
        /// Bytes of the journal beyond which its oldest changes go to the tables though their tasks have not ended.
        package var journalBytes: Int
        /// Bytes of memory that changes to ended tasks may take before the first of them go to the tables.
        package var endedBytes: Int
        /// So many tasks go from the journal to the tables in one transaction; what comes meanwhile waits until it is done.
        package var tasksAtOnce: Int

        package init(
            records: Int = 1_000_000, bytes: Int = 2 << 30, age: Double? = nil, backlogBytes: Int = 1 << 30,
            journalBytes: Int = 512 << 20, endedBytes: Int = 256 << 20, tasksAtOnce: Int = 1000
        ) {
            self.records = records
            self.bytes = bytes
            self.age = age
            self.backlogBytes = backlogBytes
            self.journalBytes = min(journalBytes, bytes / 8)
            self.endedBytes = endedBytes
            self.tasksAtOnce = tasksAtOnce
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
        /// How often changes were handed over.
        var applications = 0
        /// Whether the tables have all that is committed.
        var isTidy: Bool
        /// Whether the store will look whether it can be tidied.
        var isTidying = false
        /// Nil once the store is closed.
        var owner: FileOwner?
    }

    private let path: String
    private let limits: Limits
    private let pool: DatabasePool
    private let state: Mutex<State>
    /// What the journal holds. The writing thread alone uses it, so the lock is always free; it is held during a write.
    private let journal: Mutex<JournalTable.Contents>
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
        let pool = try TaskFile.open(path, waitsForDisk: waitsForDisk)
        self.pool = pool
        do {
            let journal = try pool.writeWithoutTransaction { try JournalTable($0).contents() }
            self.state = Mutex(State(isTidy: journal.changes.isEmpty, owner: owner))
            self.journal = Mutex(journal)
        } catch { throw TaskFile.error(error, path) }
    }

    // MARK: Writing

    package func apply(_ changes: [TaskChange]) {
        if changes.isEmpty { return }
        let byteCount = changes.reduce(0) { $0 + $1.byteCount }
        let mustSchedule = self.state.withLock { state in
            if state.isClosed { return false }
            state.changes.append(contentsOf: changes)
            state.changesByteCount += byteCount
            state.applications += 1
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
            if changes.allSatisfy({ $0.task != nil && $0.byteCount <= Self.largestJournaled }) {
                try self.append(changes, to: database)
            } else {
                try self.write(changes, to: database)
            }
            self.state.withLock { state in
                state.inFlightByteCount = 0
                state.problem = nil
            }
        } catch let error as DatabaseError where !error.mayPass {
            // At least one of the changes can never be written. The others can, each in a transaction of its own.
            self.writeOneByOne(changes, to: database)
        } catch {
            return self.keep(changes, because: TaskFile.error(error, self.path))
        }
        self.limitJournal(changes.count, database)
        self.tidyLater()
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
            // What cannot be written stays in the journal, for the store that opens the file next.
            var last: Int?
            repeat { last = (try? self.tidyPart(through: last, database, keepsRoom: false)) ?? nil } while last != nil
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
    private nonisolated(nonsending) func onWriter<Value: Sendable>(
        _ body: @escaping @Sendable (Database) -> Value
    ) async -> Value {
        await withCheckedContinuation { continuation in
            self.pool.asyncWriteWithoutTransaction { continuation.resume(returning: body($0)) }
        }
    }

    /// Limits the file to this number of pages, or to those it has. For tests: writing then fails as on a full disk.
    package func limitPages(to count: Int) async throws {
        try await self.pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA max_page_count = \(count)") }
    }

    // MARK: The journal

    /// A larger change goes to the tables at once, for the journal would write it twice.
    private static let largestJournaled = 64 << 10
    /// Bytes of a row of the journal after which the next row begins.
    private static let rowBytes = 1 << 20
    /// The pause between two looks at the journal. A store to which nothing was handed over meanwhile writes all of the journal to its
    /// tables, in parts; a busy one writes a part of what the journal has of ended tasks.
    private static let pause = DispatchTimeInterval.milliseconds(250)

    /// Commits changes to the journal.
    private func append(_ changes: [TaskChange], to database: Database) throws {
        try self.journal.withLock { journal in
            var next = journal.nextSerial
            var rows: [(bytes: ByteBuffer, changes: [JournaledChange])] = []
            var row: (bytes: ByteBuffer, changes: [JournaledChange]) = (ByteBuffer(), [])
            for change in changes {
                guard let task = change.task else { continue }
                let journaled = JournaledChange(task: task, serial: change.begins ? next : nil, change: change)
                if change.begins { next += 1 }
                ChangeCoding.write(journaled, to: &row.bytes)
                row.changes.append(journaled)
                if row.bytes.readableBytes >= Self.rowBytes {
                    rows.append(row)
                    row = (ByteBuffer(), [])
                }
            }
            if !row.changes.isEmpty { rows.append(row) }

            var numbers: [Int64] = []
            try database.inTransaction(.immediate) {
                for row in rows { numbers.append(try JournalTable(database).append(row.bytes)) }
                return .commit
            }
            journal.nextSerial = next
            for (number, row) in zip(numbers, rows) {
                journal.append(row.changes, in: number, byteCount: row.bytes.readableBytes)
            }
        }
        self.state.withLock { $0.isTidy = false }
    }

    /// Writes changes to the tables at once: large ones, and changes to many tasks.
    private func write(_ changes: [TaskChange], to database: Database) throws {
        let tasks = changes.compactMap { $0.task }
        let concernsAll = tasks.count < changes.count
        let entries = self.journal.withLock { journal in
            concernsAll ? journal.changes.oldest(.max) : journal.changes.entries(of: Set(tasks))
        }
        try self.write(entries, then: changes, to: database, keepsRoom: !concernsAll)
    }

    /// Writes what the journal has of some tasks to the tables, and then changes that the journal does not have.
    ///
    /// - Parameter keepsRoom: Whether the journal will soon need the room in the file that it gives up.
    private func write(
        _ entries: [JournaledChanges.Entry], then changes: [TaskChange] = [], to database: Database, keepsRoom: Bool = true
    ) throws {
        let census = try self.state.withLock { $0.census } ?? TaskWriter.census(database)
        let retention = TaskRetention(self.limits, database)
        let culled = try self.journal.withLock { journal in
            var writer = try TaskWriter(database, census: census, nextSerial: journal.nextSerial, row: journal.lastRow) { id in
                self.state.withLock { $0.culled.contains(id) }
            }
            let firstRow = journal.changes.firstRow(without: Set(entries.lazy.map { $0.task }))
            var culled: [TaskID] = []
            try database.inTransaction(.immediate) {
                for entry in entries { try writer.write(entry) }
                try writer.write(changes)
                // First, so that no record has to go for the room of what is in the tables now.
                if !entries.isEmpty { try JournalTable(database).trim(before: firstRow) }
                culled = try retention.cull(&writer, now: .now)
                return .commit
            }
            journal.remove(entries)
            journal.nextSerial = writer.nextSerial
            self.state.withLock { state in
                state.census = writer.census
                state.isTidy = journal.changes.isEmpty
            }
            return culled
        }
        self.state.withLock { state in for id in culled { state.culled.insert(id) } }
        // The changes are written; pages that cannot be freed now are freed after a later write.
        try? retention.giveBack(except: keepsRoom ? self.limits.journalBytes : 0)
    }

    /// Writes what the journal has of some tasks to the tables. Changes that can never be written are left out, and reported.
    private func tidy(_ entries: [JournaledChanges.Entry], _ database: Database, keepsRoom: Bool = true) throws {
        do {
            try self.write(entries, to: database, keepsRoom: keepsRoom)
        } catch let error as DatabaseError where !error.mayPass {
            for entry in entries {
                do { try self.write([entry], to: database) } catch let error as DatabaseError where !error.mayPass {
                    self.journal.withLock { $0.remove([entry]) }
                    self.onProblem(
                        TaskFile.error("changes of task '\(entry.task)' are lost: \(TaskFile.error(error, self.path).message)"))
                }
            }
        }
    }

    /// Keeps the journal within its limits, after so many changes were committed.
    private func limitJournal(_ count: Int, _ database: Database) {
        let most = max(self.limits.tasksAtOnce, count)
        let entries = self.journal.withLock { journal in
            if journal.byteCount > self.limits.journalBytes { return journal.changes.oldest(most) }
            return journal.changes.endedByteCount > self.limits.endedBytes ? journal.changes.firstEnded(most) : []
        }
        // What cannot be written now is written later; a look-up that needs the tables says why.
        if !entries.isEmpty { try? self.tidy(entries, database) }
    }

    /// Writes the first part of what the journal has to the tables.
    ///
    /// - Parameter last: The last entry that is to be written; nil: the last that there is now.
    /// - Returns: The last entry that is to be written, nil once that is done.
    private func tidyPart(through last: Int?, _ database: Database, keepsRoom: Bool = true) throws -> Int? {
        let (entries, last) = self.journal.withLock { journal in
            let last = last ?? journal.changes.lastNumber
            return (journal.changes.oldest(self.limits.tasksAtOnce, through: last), last)
        }
        if !entries.isEmpty { try self.tidy(entries, database, keepsRoom: keepsRoom) }
        return entries.count < self.limits.tasksAtOnce ? nil : last
    }

    /// Writes all that the journal has now to the tables, in parts, so that commits of what comes meanwhile go in between.
    private nonisolated(nonsending) func tidy() async throws(TaskStoreError) {
        if self.state.withLock({ $0.isTidy }) { return }
        var last: Int?
        repeat {
            let begun = last
            let part = await self.onWriter { database in Result { try self.tidyPart(through: begun, database) } }
            do { last = try part.get() } catch { throw TaskFile.error(error, self.path) }
        } while last != nil
    }

    /// Has the tables written after a pause.
    private func tidyLater() {
        let applications = self.state.withLock { state -> Int? in
            if state.isTidying || state.isTidy || state.isClosed { return nil }
            state.isTidying = true
            return state.applications
        }
        guard let applications else { return }
        DispatchQueue.global().asyncAfter(deadline: .now() + Self.pause) { [weak self] in
            guard let self else { return }
            let (isQuiet, isClosed) = self.state.withLock { state in
                state.isTidying = false
                return (state.applications == applications, state.isClosed)
            }
            if isClosed { return }
            self.pool.asyncWriteWithoutTransaction { database in
                // A disk that is full now is tried again with the next change.
                do {
                    if isQuiet {
                        _ = try self.tidyPart(through: nil, database)
                    } else {
                        let ended = self.journal.withLock { $0.changes.firstEnded(self.limits.tasksAtOnce) }
                        if !ended.isEmpty { try self.tidy(ended, database) }
                    }
                } catch { return }
                self.tidyLater()
            }
        }
    }

    // MARK: Reading

    private nonisolated(nonsending) func read<Answer: Sendable>(
        _ body: @escaping @Sendable (TaskReader) throws -> Answer
    ) async throws(TaskStoreError) -> Answer {
        if self.state.withLock({ $0.isClosed }) { throw TaskFile.error("\(self.path) has been closed") }
        try await self.flush()
        try await self.tidy()
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

    /// Does not have the journal's changes written to the tables first: a controller that starts anew waits for this.
    package nonisolated(nonsending) func unfinished() async throws(TaskStoreError) -> [TaskRecord] {
        if self.state.withLock({ $0.isClosed }) { throw TaskFile.error("\(self.path) has been closed") }
        try await self.flush()
        let records = await self.onWriter { database in Result { try self.unfinished(database) } }
        do { return try records.get() } catch { throw TaskFile.error(error, self.path) }
    }

    private func unfinished(_ database: Database) throws -> [TaskRecord] {
        let entries = self.journal.withLock { $0.changes.oldest(.max) }
        var changes = Dictionary(uniqueKeysWithValues: entries.map { ($0.task, $0.changes) })
        let reader = TaskReader(database)
        var records = try reader.unfinished
        for index in records.indices {
            for change in changes.removeValue(forKey: records[index].id) ?? [] { records[index].take(change) }
        }
        let known = try reader.rows(of: entries.lazy.map { $0.task }.filter { changes[$0] != nil })
        for entry in entries where changes[entry.task] != nil {
            // A request that came again for a task that has ended changes nothing. One that came after output has the output's place.
            let row = known[entry.task]
            if row?.isFinished == true { continue }
            var record = TaskRecord(id: entry.task, serial: row?.serial ?? entry.serial ?? 0)
            for change in entry.changes { record.take(change) }
            if !record.isStub { records.append(record) }
        }
        return records.filter { !$0.isFinished }.sorted { $0.serial < $1.serial }
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
