import ApusStore
import ApusWire
import GRDB

/// Keeps a file within its limits: deletes the records that ended first, and gives the room back.
struct TaskRetention {
    private let limits: SQLiteTaskStore.Limits
    private let database: Database

    init(_ limits: SQLiteTaskStore.Limits, _ database: Database) {
        self.limits = limits
        self.database = database
    }

    /// Deletes records that are too old or too many, and gives their ids.
    ///
    /// Tasks that have not ended are never deleted. The limit on stubs is a tenth of that on records.
    func cull(_ writer: inout TaskWriter, now: WireDate) throws -> [TaskID] {
        let oldest = "completed IS NOT NULL ORDER BY completed LIMIT ?"
        var culled: [TaskID] = []
        if let age = self.limits.age {
            culled += try writer.deleteFinished("completed < ?", [now.microseconds - Int64(min(max(age, 0), 1e12) * 1_000_000)])
        }
        if writer.census.finished > self.limits.records {
            culled += try writer.deleteFinished(oldest, [writer.census.finished - self.limits.records])
        }
        let stubLimit = max(1, self.limits.records / 10)
        if writer.census.stubs > stubLimit { culled += try writer.deleteStubs(writer.census.stubs - stubLimit) }

        if try self.usedByteCount > self.limits.bytes {
            // Down to nine tenths, so that the next batch need not delete again.
            while writer.census.finished > 0, try self.usedByteCount > self.limits.bytes / 10 * 9 {
                culled += try writer.deleteFinished(oldest, [max(16, writer.census.finished / 50)])
            }
        }
        return culled
    }

    /// Cuts unused pages off the file when they are many.
    ///
    /// - Parameter reserve: Bytes of unused pages that are kept, while the file is within its limit.
    func giveBack(except reserve: Int) throws {
        let (pages, unused) = (try self.number("PRAGMA page_count"), try self.number("PRAGMA freelist_count"))
        let pageSize = try self.number("PRAGMA page_size")
        if unused * pageSize > max(1 << 20, reserve) && unused > pages / 4 || unused > 0 && pages * pageSize > self.limits.bytes {
            try self.database.execute(sql: "PRAGMA incremental_vacuum")
            // The file itself shrinks when the journal is written into it.
            _ = try self.database.checkpoint(.passive)
        }
    }

    private var usedByteCount: Int {
        get throws {
            try (self.number("PRAGMA page_count") - self.number("PRAGMA freelist_count")) * self.number("PRAGMA page_size")
        }
    }

    private func number(_ sql: String) throws -> Int {
        try Int.fetchOne(try self.database.cachedStatement(sql: sql)) ?? 0
    }
}
