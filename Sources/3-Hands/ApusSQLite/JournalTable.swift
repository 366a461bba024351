import ApusStore
import ApusWire
import DequeModule
import GRDB
import NIOCore

/// The file's journal: changes that are committed as they came, many in one row, and reach the tables later.
///
/// A task's changes cost several searches and half a dozen pages when each goes to its table at once. In the journal they cost
/// their bytes; by the time that they go on to the tables most tasks have ended, and are written once. A row of the journal is
/// deleted when the tables have all that it says.
struct JournalTable {
    private let database: Database

    init(_ database: Database) { self.database = database }

    /// What the journal holds that the tables do not have, and the numbers that come next.
    struct Contents {
        var changes = JournaledChanges()
        /// The last row there ever was.
        var lastRow: Int64
        /// The serial of the next task.
        var nextSerial: Int64
        /// The rows that there are, with their sizes.
        private var rows: Deque<(number: Int64, byteCount: Int)> = []
        private(set) var byteCount = 0

        init(lastRow: Int64, nextSerial: Int64) {
            self.lastRow = lastRow
            self.nextSerial = nextSerial
        }

        /// Takes a row that was committed.
        mutating func append(_ changes: [JournaledChange], in row: Int64, byteCount: Int) {
            self.lastRow = max(self.lastRow, row)
            self.rows.append((row, byteCount))
            self.byteCount += byteCount
            for change in changes {
                self.changes.append(
                    change.change, of: change.task, serial: change.serial, row: row, byteCount: change.change.byteCount)
            }
        }

        /// Forgets changes that the tables have, and the rows that have been trimmed.
        mutating func remove(_ entries: [JournaledChanges.Entry]) {
            self.changes.remove(entries)
            let first = self.changes.firstRow(without: []) ?? .max
            while let row = self.rows.first, row.number < first {
                self.byteCount -= row.byteCount
                self.rows.removeFirst()
            }
        }
    }

    /// - Throws: A ``DatabaseError`` that says so when a row is damaged.
    func contents() throws -> Contents {
        let last = try Int64.fetchOne(self.database, sql: "SELECT seq FROM sqlite_sequence WHERE name = 'journal'") ?? 0
        let serial = try Int64.fetchOne(self.database, sql: "SELECT max(serial) FROM tasks") ?? 0
        var contents = Contents(lastRow: last, nextSerial: serial + 1)
        /// For tasks of which the tables have changes that the journal still has: the last row whose changes they have.
        var taken: [TaskID: Int64] = [:]
        let first = try Int64.fetchOne(self.database, sql: "SELECT min(row) FROM journal") ?? .max
        let known = try Row.fetchCursor(
            self.database, sql: "SELECT msg_id, journal FROM tasks WHERE journal > 0 AND journal >= ?", arguments: [first])
        while let row = try known.next() { taken[TaskID(row[0])] = row[1] }
        let rows = try Row.fetchCursor(self.database, sql: "SELECT row, changes FROM journal ORDER BY row")
        while let row = try rows.next() {
            let number: Int64 = row[0]
            let bytes = try row.withUnsafeData(atIndex: 1) { $0.map { ByteBuffer(bytes: $0) } ?? ByteBuffer() }
            guard let changes = ChangeCoding.changes(in: bytes) else {
                throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "row \(number) of the journal is damaged")
            }
            var missing: [JournaledChange] = []
            for change in changes {
                if let serial = change.serial { contents.nextSerial = max(contents.nextSerial, serial + 1) }
                if number > taken[change.task] ?? 0 { missing.append(change) }
            }
            contents.append(missing, in: number, byteCount: bytes.readableBytes)
        }
        return contents
    }

    /// Appends a row and gives its number.
    func append(_ bytes: ByteBuffer) throws -> Int64 {
        let statement = try self.database.cachedStatement(sql: "INSERT INTO journal (changes) VALUES (?)")
        try RawStatement(statement).run([.bytes(bytes)])
        return self.database.lastInsertedRowID
    }

    /// Deletes the rows before this one; all for nil.
    func trim(before row: Int64?) throws {
        let statement = try self.database.cachedStatement(sql: "DELETE FROM journal WHERE row < ?")
        try RawStatement(statement).run([.number(row ?? .max)])
    }
}

extension TaskChange {
    /// The task that the change is about; nil for a change to many.
    var task: TaskID? {
        switch self {
        case .submitted(let id, _, _, _, _, _), .assigned(let id, _, _), .completed(let id, _, _), .output(let id, _),
            .resubmitted(let id, _):
            id
        case .drop, .dropCompleted, .dropCompletedOf: nil
        }
    }

    /// Roughly the memory that the change takes.
    var byteCount: Int {
        switch self {
        case .submitted(_, let request, _, _, _, _): request.byteCount + 300
        case .completed(_, let reply, _): reply.byteCount + 300
        case .output(_, let output): output.byteCount + 100
        default: 100
        }
    }
}
