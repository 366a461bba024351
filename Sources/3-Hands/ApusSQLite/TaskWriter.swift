import ApusStore
import ApusWire
import GRDB
import NIOCore

/// Writes changes to the tables, inside a transaction that its caller has begun.
///
/// A record that begins with the changes is put together in memory and written once, in its final state; changes to records in
/// the file are written one by one.
struct TaskWriter {
    /// The numbers of records of the kinds that are limited.
    struct Census {
        var finished: Int
        var stubs: Int
    }

    private let database: Database
    private(set) var census: Census
    /// Whether the record was deleted to keep a limit; late output must not begin it again.
    private let wasCulled: (TaskID) -> Bool
    /// Records that begin with the changes that are being written, none of which is in the file.
    private var fresh: [TaskID: TaskRecord] = [:]
    /// The records of `fresh` in order of arrival, and some that were removed from it.
    private var freshOrder: [(id: TaskID, serial: Int64)] = []
    /// The serial of the next record that begins.
    private(set) var nextSerial: Int64
    /// The row of the journal up to which a record that is being written has all changes.
    private var journalRow: Int64
    private let insertion: RawStatement
    private let payloadInsertion: RawStatement

    /// - Parameters:
    ///   - nextSerial: The serial of the next record that begins with changes that were not journaled.
    ///   - row: The last row of the journal.
    init(
        _ database: Database, census: Census, nextSerial: Int64, row: Int64, wasCulled: @escaping (TaskID) -> Bool
    ) throws {
        self.database = database
        self.census = census
        self.nextSerial = nextSerial
        self.journalRow = row
        self.wasCulled = wasCulled
        self.insertion = RawStatement(try database.cachedStatement(sql: Self.insertionSQL))
        self.payloadInsertion = RawStatement(
            try database.cachedStatement(sql: "INSERT INTO payloads (key, data) VALUES (?, ?)"))
    }

    /// Writes changes that are not in the journal.
    mutating func write(_ changes: [TaskChange]) throws {
        for change in changes { try self.write(change) }
        try self.insertFresh()
    }

    /// Writes what the journal has of a task.
    mutating func write(_ entry: JournaledChanges.Entry) throws {
        let (row, nextSerial) = (self.journalRow, self.nextSerial)
        defer { (self.journalRow, self.nextSerial) = (row, nextSerial) }
        (self.journalRow, self.nextSerial) = (entry.last, entry.serial ?? nextSerial)
        if case .submitted? = entry.changes.first, let serial = entry.serial {
            var record = TaskRecord(id: entry.task, serial: serial)
            for change in entry.changes { record.take(change) }
            if try self.insert(record) { return }
        }
        try self.write(entry.changes)
    }

    private mutating func insertFresh() throws {
        for (id, serial) in self.freshOrder {
            if let record = self.fresh[id], record.serial == serial { _ = try self.insert(record) }
        }
        self.fresh.removeAll(keepingCapacity: true)
        self.freshOrder.removeAll(keepingCapacity: true)
    }

    private mutating func write(_ change: TaskChange) throws {
        switch change {
        case .submitted(let id, let request, let client, let date, let queue, let engine):
            guard let row = try self.row(id) else {
                self.begin(id)
                self.fresh[id]?.submit(request: request, client: client, date: date, queue: queue, engine: engine)
                return
            }
            if row.isStub {
                try self.submit(row, request: request, client: client, date: date, queue: queue, engine: engine)
            }
        case .assigned(let id, let engine, let failures):
            if self.fresh[id]?.assign(to: engine, failures: failures) != nil { return }
            try self.run(
                "UPDATE tasks SET engine = ?, failures = ? WHERE msg_id = ? AND completed IS NULL",
                [.text(engine?.text), .number(failures), .text(id.text)])
        case .completed(let id, let reply, let received):
            if self.fresh[id]?.complete(reply: reply, received: received) != nil { return }
            if let row = try self.row(id), !row.isStub, !row.isFinished {
                try self.complete(row, id, reply: reply, received: received)
            }
        case .output(let id, let output):
            if self.fresh[id]?.append(output) != nil { return }
            if let row = try self.row(id) {
                try self.append(output, to: row)
            } else if !self.wasCulled(id) {
                self.begin(id)
                self.fresh[id]?.append(output)
            }
        case .resubmitted(let id, let newID):
            if self.fresh[id]?.resubmit(as: newID) != nil { return }
            try self.run("UPDATE tasks SET resubmitted = ? WHERE msg_id = ?", [.text(newID.text), .text(id.text)])
        case .drop(let ids):
            for id in ids where self.fresh.removeValue(forKey: id) == nil {
                if let row = try self.row(id) { try self.delete(row.serial, isFinished: row.isFinished, isStub: row.isStub) }
            }
        case .dropCompleted:
            self.fresh = self.fresh.filter { !$0.value.isFinished }
            _ = try self.deleteFinished("completed IS NOT NULL", [])
        case .dropCompletedOf(let engine):
            self.fresh = self.fresh.filter { !($0.value.isFinished && $0.value.engine == engine) }
            _ = try self.deleteFinished("completed IS NOT NULL AND engine = ?", [engine.text])
        }
    }

    // MARK: Records that begin

    private mutating func begin(_ id: TaskID) {
        guard self.fresh[id] == nil else { return }
        self.fresh[id] = TaskRecord(id: id, serial: self.nextSerial)
        self.freshOrder.append((id, self.nextSerial))
        self.nextSerial += 1
    }

    private static let insertionSQL = """
        INSERT INTO tasks (serial, msg_id, client, submitted, queue, engine, started, completed, received, resubmitted,
            output_bytes, failures, journal, header, metadata, content, result_header, result_metadata, result_content)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (msg_id) DO NOTHING
        """

    /// Inserts a record, unless there is one of that id.
    ///
    /// - Returns: Whether it was inserted.
    private mutating func insert(_ record: TaskRecord) throws -> Bool {
        try self.insertion.run([
            .number(record.serial), .text(record.id.text), record.isStub ? .null : .text(record.client),
            .number(record.submitted?.microseconds), .text(record.queue?.rawValue), .text(record.engine?.text),
            .number(record.started?.microseconds), .number(record.completed?.microseconds),
            .number(record.received?.microseconds),
            .text(record.resubmittedAs?.text), .number(record.outputByteCount), .number(record.failures),
            .number(self.journalRow),
            .bytes(record.request?.header), .bytes(record.request?.metadata), .bytes(record.request?.content),
            .bytes(record.reply?.header), .bytes(record.reply?.metadata), .bytes(record.reply?.content),
        ])
        if self.database.changesCount == 0 { return false }
        if record.isFinished { self.census.finished += 1 }
        if record.isStub { self.census.stubs += 1 }
        if let request = record.request { try self.insertPayload(request, of: record.serial, isReply: false) }
        if let reply = record.reply { try self.insertPayload(reply, of: record.serial, isReply: true) }
        for output in record.outputs { try self.insert(output, of: record.serial) }
        return true
    }

    private func insertPayload(_ message: Message, of serial: Int64, isReply: Bool) throws {
        for (key, data) in zip(Payload.keys(task: serial, isReply: isReply), Payload.rows(message.buffers)) {
            try self.payloadInsertion.run([.number(key), .bytes(data)])
        }
    }

    private func insert(_ output: TaskOutput, of serial: Int64) throws {
        try self.run(
            "INSERT INTO outputs (task, kind, content) VALUES (?, ?, ?)",
            [.number(serial), .text(output.kind.rawValue), .bytes(output.content)])
    }

    // MARK: Records in the file

    private struct TaskRow {
        let serial: Int64
        let isStub: Bool
        let isFinished: Bool
        let outputByteCount: Int
    }

    /// The task's row in the file; nil also for a record that begins in this batch.
    private func row(_ id: TaskID) throws -> TaskRow? {
        if self.fresh[id] != nil { return nil }
        let statement = try self.database.cachedStatement(
            sql: "SELECT serial, client IS NULL, completed IS NOT NULL, output_bytes FROM tasks WHERE msg_id = ?")
        return try Row.fetchOne(statement, arguments: [id.text]).map { row in
            TaskRow(serial: row[0], isStub: row[1], isFinished: row[2], outputByteCount: row[3])
        }
    }

    private mutating func submit(
        _ row: TaskRow, request: Message, client: String, date: WireDate?, queue: TaskQueue?, engine: EngineUUID?
    ) throws {
        try self.run(
            """
            UPDATE tasks SET client = ?, submitted = ?, queue = ?, engine = coalesce(engine, ?), header = ?, metadata = ?, content = ?
            WHERE serial = ?
            """,
            [
                .text(client), .number(date?.microseconds), .text(queue?.rawValue), .text(engine?.text), .bytes(request.header),
                .bytes(request.metadata), .bytes(request.content), .number(row.serial),
            ])
        try self.insertPayload(request, of: row.serial, isReply: false)
        self.census.stubs -= 1
    }

    private mutating func complete(_ row: TaskRow, _ id: TaskID, reply: Message, received: WireDate) throws {
        // A new record reads the dates and the engine out of the reply, as every record does.
        var record = TaskRecord(id: id, serial: row.serial)
        record.submit(request: reply, client: "", date: nil, queue: nil, engine: nil)
        record.complete(reply: reply, received: received)
        try self.run(
            """
            UPDATE tasks SET engine = coalesce(?, engine), started = ?, completed = ?, received = ?,
                result_header = ?, result_metadata = ?, result_content = ?
            WHERE serial = ?
            """,
            [
                .text(record.engine?.text), .number(record.started?.microseconds), .number(record.completed?.microseconds),
                .number(received.microseconds), .bytes(reply.header), .bytes(reply.metadata), .bytes(reply.content),
                .number(row.serial),
            ])
        try self.insertPayload(reply, of: row.serial, isReply: true)
        self.census.finished += 1
    }

    private func append(_ output: TaskOutput, to row: TaskRow) throws {
        guard row.outputByteCount < TaskOutput.byteLimit else { return }
        try self.insert(output, of: row.serial)
        try self.run(
            "UPDATE tasks SET output_bytes = output_bytes + ?, journal = ? WHERE serial = ?",
            [.number(output.byteCount), .number(self.journalRow), .number(row.serial)])
    }

    // MARK: Records that go

    /// Deletes the records that the condition selects, all of finished tasks, and gives their ids.
    mutating func deleteFinished(_ condition: String, _ arguments: StatementArguments) throws -> [TaskID] {
        try self.delete(condition, arguments, isFinished: true, isStub: false)
    }

    /// Deletes the oldest stubs.
    mutating func deleteStubs(_ count: Int) throws -> [TaskID] {
        try self.delete("client IS NULL ORDER BY serial LIMIT ?", [count], isFinished: false, isStub: true)
    }

    private mutating func delete(
        _ condition: String, _ arguments: StatementArguments, isFinished: Bool, isStub: Bool
    ) throws -> [TaskID] {
        let statement = try self.database.cachedStatement(sql: "SELECT serial, msg_id FROM tasks WHERE \(condition)")
        let rows = try Row.fetchAll(statement, arguments: arguments)
        for row in rows { try self.delete(row[0], isFinished: isFinished, isStub: isStub) }
        return rows.map { TaskID($0[1]) }
    }

    private mutating func delete(_ serial: Int64, isFinished: Bool, isStub: Bool) throws {
        let keys = Payload.keys(task: serial)
        try self.run("DELETE FROM payloads WHERE key BETWEEN ? AND ?", [.number(keys.lowerBound), .number(keys.upperBound)])
        try self.run("DELETE FROM outputs WHERE task = ?", [.number(serial)])
        try self.run("DELETE FROM tasks WHERE serial = ?", [.number(serial)])
        if isFinished { self.census.finished -= 1 }
        if isStub { self.census.stubs -= 1 }
    }

    /// The census of a file, by counting.
    static func census(_ database: Database) throws -> Census {
        func count(_ condition: String) throws -> Int {
            try Int.fetchOne(database, sql: "SELECT count(*) FROM tasks WHERE \(condition)") ?? 0
        }
        return Census(finished: try count("completed IS NOT NULL"), stubs: try count("client IS NULL"))
    }

    private func run(_ sql: String, _ arguments: [SQLiteValue]) throws {
        try RawStatement(try self.database.cachedStatement(sql: sql)).run(arguments)
    }
}
