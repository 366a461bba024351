import GRDB
import GRDBSQLite
import NIOCore

/// A value of a statement's argument.
enum SQLiteValue {
    case null
    case number(Int64)
    case text(String)
    case bytes(ByteBuffer)

    static func number(_ value: Int) -> SQLiteValue { .number(Int64(value)) }
    static func number(_ value: Int64?) -> SQLiteValue { value.map { .number($0) } ?? .null }
    static func text(_ value: String?) -> SQLiteValue { value.map { .text($0) } ?? .null }
    static func bytes(_ value: ByteBuffer?) -> SQLiteValue { value.map { .bytes($0) } ?? .null }
}

/// Runs a statement that changes the file, with its arguments bound as they are. GRDB's own way boxes every argument and copies
/// every blob twice, which took twice the time that SQLite itself needs for a row.
struct RawStatement {
    private let statement: Statement
    private let pointer: OpaquePointer

    init(_ statement: Statement) {
        self.statement = statement
        self.pointer = statement.sqliteStatement
    }

    /// Must be called on the writing thread.
    func run(_ arguments: [SQLiteValue]) throws {
        defer {
            // The arguments are not kept for the next run.
            sqlite3_reset(self.pointer)
            sqlite3_clear_bindings(self.pointer)
        }
        for (index, argument) in arguments.enumerated() {
            guard self.bind(argument, at: Int32(index + 1)) == SQLITE_OK else { throw self.error }
        }
        guard sqlite3_step(self.pointer) == SQLITE_DONE else { throw self.error }
    }

    private func bind(_ value: SQLiteValue, at index: Int32) -> Int32 {
        // SQLite copies the bytes before the call returns.
        let copied = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        switch value {
        case .null: return sqlite3_bind_null(self.pointer, index)
        case .number(let number): return sqlite3_bind_int64(self.pointer, index, number)
        case .text(var text):
            // An empty text has no address, and no address would mean null.
            if text.isEmpty { return sqlite3_bind_text(self.pointer, index, "", 0, copied) }
            return text.withUTF8 { bytes in
                bytes.withMemoryRebound(to: CChar.self) { characters in
                    sqlite3_bind_text64(
                        self.pointer, index, characters.baseAddress, UInt64(characters.count), copied, UInt8(SQLITE_UTF8))
                }
            }
        case .bytes(let bytes):
            return bytes.withUnsafeReadableBytes { bytes in
                // No address would mean null.
                bytes.isEmpty
                    ? sqlite3_bind_zeroblob(self.pointer, index, 0)
                    : sqlite3_bind_blob64(self.pointer, index, bytes.baseAddress, UInt64(bytes.count), copied)
            }
        }
    }

    private var error: DatabaseError {
        let database = sqlite3_db_handle(self.pointer)
        return DatabaseError(
            resultCode: ResultCode(rawValue: sqlite3_extended_errcode(database)),
            message: String(cString: sqlite3_errmsg(database)), sql: self.statement.sql)
    }
}
