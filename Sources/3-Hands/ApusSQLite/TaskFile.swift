import ApusStore
import ApusWire
import Foundation
import GRDB

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Makes a file of task records, or checks it and brings it up to date, before the store uses it.
///
/// Every error names the file, says what is wrong with it, and what to do. Nothing in the file is ever run or unpickled.
enum TaskFile {
    /// Opens the file, making it if it is not there, readable and writable for its owner only.
    static func open(_ path: String, waitsForDisk: Bool) throws(TaskStoreError) -> DatabasePool {
        try Self.make(path)
        let configuration = Self.configuration(waitsForDisk: waitsForDisk)
        do {
            // Some settings must be made before a file's first page is written, so a new file is laid out before the pool changes
            // its mode.
            let queue = try DatabaseQueue(path: path, configuration: configuration)
            try queue.inDatabase { try Self.prepare($0, path) }
            try queue.close()
            return try DatabasePool(path: path, configuration: configuration)
        } catch { throw Self.error(error, path) }
    }

    private static func configuration(waitsForDisk: Bool) -> Configuration {
        var configuration = Configuration()
        configuration.label = "apus.tasks"
        // A backup or a curious sqlite3 may hold the file for a moment.
        configuration.busyMode = .timeout(10)
        configuration.prepareDatabase { database in
            // Committed changes survive the process. With NORMAL a power cut may lose the last seconds, and leaves the file whole;
            // FULL waits for the disk with each commit.
            let mode = waitsForDisk ? "FULL" : "NORMAL"
            try database.execute(
                sql: "PRAGMA synchronous = \(mode); PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -32768")
        }
        return configuration
    }

    // SQLite gives the files beside it (the journal and its index) the same mode.
    private static func make(_ path: String) throws(TaskStoreError) {
        var status = stat()
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFREG else { throw Self.error("\(path) is no file that could hold task records") }
            // SQLite takes a file of one byte for an empty one.
            guard !(1..<100).contains(status.st_size) else {
                throw Self.error(
                    "\(path) is cut short: \(status.st_size) bytes are no database. Move it away, or name another file")
            }
            if status.st_mode & 0o077 != 0 && chmod(path, 0o600) != 0 {
                throw Self.error(
                    "\(path) can be read by others, and cannot be closed to them: \(String(cString: strerror(errno)))")
            }
            return
        }
        let file = Foundation.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Self.error("\(path) cannot be made: \(String(cString: strerror(errno)))") }
        Foundation.close(file)
    }

    // MARK: Checking the file

    /// "Apus" in the field in which SQLite keeps the program that a file belongs to.
    private static let applicationID = 0x4170_7573

    private static func prepare(_ database: Database, _ path: String) throws {
        let tables = Set(try String.fetchAll(database, sql: "SELECT name FROM sqlite_master WHERE type = 'table'"))
        let application = try Int.fetchOne(database, sql: "PRAGMA application_id") ?? 0
        let version = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
        let isNew = tables.isEmpty && application == 0 && version == 0
        guard isNew || application == Self.applicationID else {
            if tables.contains(where: { $0.hasPrefix("ipython-tasks") }) {
                throw Self.error(
                    "\(path) is ipyparallel's: its records are pickles, which Apus does not open. Move it away, or name another file"
                )
            }
            throw Self.error("\(path) is another program's database. Move it away, or name another file")
        }
        guard version <= TaskSchema.migrations.count else {
            throw Self.error(
                "\(path) was written by a newer Apus (its layout is \(version), this one knows \(TaskSchema.migrations.count)). "
                    + "Use that Apus, move the file away, or name another")
        }
        // Large pages: a commit costs two calls of the system for each, however large, and most bytes of tasks lie side by side.
        if isNew { try database.execute(sql: "PRAGMA page_size = 16384; PRAGMA auto_vacuum = INCREMENTAL") }
        for step in TaskSchema.migrations.indices.dropFirst(version) {
            try database.inTransaction {
                try database.execute(sql: TaskSchema.migrations[step])
                try database.execute(sql: "PRAGMA user_version = \(step + 1); PRAGMA application_id = \(Self.applicationID)")
                return .commit
            }
        }
        // Checking a large file would take seconds to minutes; its damage is found when the damaged pages are read.
        let pages = try Int.fetchOne(database, sql: "PRAGMA page_count") ?? 0
        let pageSize = try Int.fetchOne(database, sql: "PRAGMA page_size") ?? 0
        if pages * pageSize < 32 << 20, let problem = try String.fetchOne(database, sql: "PRAGMA quick_check(1)"), problem != "ok"
        {
            throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: problem)
        }
    }

    // MARK: Errors

    static func error(_ message: String) -> TaskStoreError { TaskStoreError(.databaseError, message) }

    /// The error with the file's name, and what to do.
    static func error(_ error: any Error, _ path: String) -> TaskStoreError {
        if let error = error as? TaskStoreError { return error }
        if error is CancellationError { return Self.error("the question was withdrawn before \(path) was read") }
        guard let error = error as? DatabaseError else { return Self.error("\(path): \(error)") }
        let reason = error.message ?? "\(error.resultCode)"
        return switch error.resultCode {
        case .SQLITE_NOTADB:
            Self.error("\(path) holds no task records: it is no SQLite database. Move it away, or name another file")
        case .SQLITE_CORRUPT:
            Self.error(
                "\(path) is damaged (\(reason)). Move it and what begins with its name away and start with a new file, "
                    + "or try the sqlite3 program's .recover on it")
        case .SQLITE_FULL:
            Self.error("\(path) cannot grow, the disk is full. Make room; what is not written yet is kept until then")
        case .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_READONLY, .SQLITE_AUTH:
            Self.error("\(path) cannot be opened for writing (\(reason)). Its owner must be able to write it and its folder")
        case .SQLITE_BUSY, .SQLITE_LOCKED: Self.error("\(path) is in use by another program (\(reason)). End that program")
        default: Self.error("\(path): \(reason)")
        }
    }
}
