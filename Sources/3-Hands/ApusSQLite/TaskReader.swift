import ApusStore
import ApusWire
import Foundation
import GRDB
import NIOCore

/// Reads the requested fields of records out of a file.
struct TaskReader {
    private let database: Database

    init(_ database: Database) { self.database = database }

    func states(of ids: [TaskID]) throws -> [TaskState] {
        let statement = try self.database.cachedStatement(
            sql: "SELECT client IS NULL, completed IS NOT NULL FROM tasks WHERE msg_id = ?")
        return try ids.map { id in
            guard let row = try Row.fetchOne(statement, arguments: [id.text]) else { return .unknown }
            return row[0] ? .stub : row[1] ? .finished : .unfinished
        }
    }

    func records(of ids: [TaskID], fields: Set<TaskField>) throws -> [TaskRecord] {
        let statement = try self.database.cachedStatement(
            sql: "SELECT \(Self.columns(for: fields)) FROM tasks WHERE msg_id = ?")
        return try ids.compactMap { id in
            try Row.fetchOne(statement, arguments: [id.text]).map { try self.record($0, fields) }
        }
    }

    func records(matching query: TaskQuery, fields: Set<TaskField>) throws -> [TaskRecord] {
        var records: [TaskRecord] = []
        // The fields that decide are read first; the rest, above all the buffers, only for records that match.
        let deciding = query.fields
        let isEnough = fields.isSubset(of: deciding)
        let all = fields.union(deciding)
        let selection: SQL =
            "SELECT \(sql: Self.columns(for: all)) FROM tasks WHERE \(QueryFilter.condition(for: query)) ORDER BY serial"
        let (sql, arguments) = try selection.build(self.database)
        let rows = try Row.fetchCursor(self.database, sql: sql, arguments: arguments)
        while let row = try rows.next() {
            let record = try self.record(row, deciding)
            if query.matches(record) { records.append(isEnough ? record : try self.record(row, all)) }
        }
        return records
    }

    var unfinished: [TaskRecord] {
        get throws {
            let fields: Set<TaskField> = [.header, .metadata, .content, .buffers]
            let rows = try Row.fetchCursor(
                self.database,
                sql: """
                    SELECT \(Self.columns(for: fields)) FROM tasks WHERE completed IS NULL AND client IS NOT NULL ORDER BY serial
                    """)
            var records: [TaskRecord] = []
            while let row = try rows.next() { records.append(try self.record(row, fields)) }
            return records
        }
    }

    /// Where the tasks stand in the tables, and whether they have ended; tasks without a row are left out.
    func rows(of ids: [TaskID]) throws -> [TaskID: (serial: Int64, isFinished: Bool)] {
        // SQLite takes a list of any length as one JSON text.
        let list = JSONValue(ids.map { $0.text }).description
        let rows = try Row.fetchCursor(
            self.database,
            sql: """
                SELECT msg_id, serial, completed IS NOT NULL FROM tasks WHERE msg_id IN (SELECT value FROM json_each(?))
                """,
            arguments: [list])
        var found: [TaskID: (serial: Int64, isFinished: Bool)] = [:]
        while let row = try rows.next() { found[TaskID(row[0])] = (row[1], row[2]) }
        return found
    }

    var history: [TaskID] {
        get throws {
            try String.fetchAll(
                self.database, sql: "SELECT msg_id FROM tasks WHERE submitted IS NOT NULL ORDER BY submitted, serial"
            ).map { TaskID($0) }
        }
    }

    var counts: TaskCounts {
        get throws {
            func number(_ sql: String) throws -> Int { try Int.fetchOne(self.database, sql: sql) ?? 0 }
            let finished = try number("SELECT count(*) FROM tasks WHERE completed IS NOT NULL")
            let stubs = try number("SELECT count(*) FROM tasks WHERE client IS NULL")
            return TaskCounts(
                unfinished: try number("SELECT count(*) FROM tasks") - finished - stubs, finished: finished, stubs: stubs,
                byteCount: try number("PRAGMA page_count") * number("PRAGMA page_size"))
        }
    }

    // MARK: Rows

    private static let plainColumns =
        "serial, msg_id, client, submitted, queue, engine, completed, received, resubmitted, output_bytes, failures"

    /// The columns to select; parts that the fields do not need are null.
    private static func columns(for fields: Set<TaskField>) -> String {
        func part(_ name: String, _ users: Set<TaskField>) -> String { fields.isDisjoint(with: users) ? "NULL" : name }
        return [
            Self.plainColumns, part("header", [.header]), part("metadata", [.metadata, .label]), part("content", [.content]),
            part("result_header", [.resultHeader, .completed]), part("result_metadata", [.resultMetadata, .started, .engine]),
            part("result_content", [.resultContent]),
        ].joined(separator: ", ")
    }

    private func record(_ row: Row, _ fields: Set<TaskField>) throws -> TaskRecord {
        let serial: Int64 = row[0]
        var record = TaskRecord(id: TaskID(row[1]), serial: serial)
        func date(_ index: Int) -> WireDate? { (row[index] as Int64?).map { WireDate(microseconds: $0) } }
        func message(from first: Int, isReply: Bool, buffers: TaskField) throws -> Message {
            let parts = MessageParts(
                header: try row.bytes(first), metadata: try row.bytes(first + 1), content: try row.bytes(first + 2))
            let buffers = fields.contains(buffers) ? try self.buffers(of: serial, isReply: isReply) : []
            return Message(identities: [], signature: ByteBuffer(), parts: parts, buffers: buffers)
        }
        record.assign(to: (row[5] as String?).map { EngineUUID($0) }, failures: row[10])
        if let client = row[2] as String? {
            record.submit(
                request: try message(from: 11, isReply: false, buffers: .buffers), client: client, date: date(3),
                queue: (row[4] as String?).flatMap { TaskQueue(rawValue: $0) }, engine: nil)
        }
        if row[6] as Int64? != nil {
            record.complete(
                reply: try message(from: 14, isReply: true, buffers: .resultBuffers),
                received: date(7) ?? WireDate(microseconds: 0))
        }
        if let id = row[8] as String? { record.resubmit(as: TaskID(id)) }
        if row[9] as Int > 0 && !fields.isDisjoint(with: TaskField.ofOutputs) {
            for output in try self.outputs(of: serial) { record.append(output) }
        }
        return record
    }

    private func buffers(of serial: Int64, isReply: Bool) throws -> [ByteBuffer] {
        let keys = Payload.keys(task: serial, isReply: isReply)
        let rows = try Row.fetchCursor(
            try self.database.cachedStatement(sql: "SELECT data FROM payloads WHERE key BETWEEN ? AND ? ORDER BY key"),
            arguments: [keys.lowerBound, keys.upperBound])
        var bytes = ByteBuffer()
        while let row = try rows.next() {
            var part = try row.bytes(0)
            bytes.writeBuffer(&part)
        }
        if bytes.readableBytes == 0 { return [] }
        guard let buffers = Payload.buffers(bytes) else {
            throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "the buffers of a task are cut short")
        }
        return buffers
    }

    private func outputs(of serial: Int64) throws -> [TaskOutput] {
        let rows = try Row.fetchCursor(
            try self.database.cachedStatement(sql: "SELECT kind, content FROM outputs WHERE task = ? ORDER BY serial"),
            arguments: [serial])
        var outputs: [TaskOutput] = []
        while let row = try rows.next() {
            if let kind = TaskOutput.Kind(rawValue: row[0]) { outputs.append(TaskOutput(kind, content: try row.bytes(1))) }
        }
        return outputs
    }
}

extension Row {
    /// A blob's bytes; empty for null.
    fileprivate func bytes(_ index: Int) throws -> ByteBuffer {
        try self.withUnsafeData(atIndex: index) { $0.map { ByteBuffer(bytes: $0) } ?? ByteBuffer() }
    }
}
