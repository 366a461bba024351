import ApusSQLite
import ApusStore
import ApusTestKit
import ApusWire
import Foundation
import GRDB
import NIOCore
import Locks
import Testing

@Suite("Task records in a file")
struct SQLiteStoreTests {
    @Test("A task store", arguments: StoreConformance.rules)
    func conforms(rule: StoreConformance.Rule) async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path)
            try await rule.check(store)
            try await store.close()
        }
    }

    @Test("What was flushed is there when the file is opened again", arguments: [false, true])
    func persists(waitsForDisk: Bool) async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path, waitsForDisk: waitsForDisk)
            store.apply([
                .example("a", metadata: ["label": "mine"], buffers: ["argument"]), .assigned("a", to: "e"),
                .exampleReply("a", engine: "e", buffers: ["result"]), .example("b"),
                .output("b", TaskOutput(.stream, content: ByteBuffer(string: "{\"name\": \"stdout\", \"text\": \"x\"}"))),
            ])
            try await store.close()

            let again = try SQLiteTaskStore(path: path)
            #expect(try await again.states(of: ["a", "b"]) == [.finished, .unfinished])
            let records = try await again.records(of: ["a", "b"], fields: TaskField.all)
            #expect(records[0].json(.label) == "mine")
            #expect(records[0].request?.buffers.map { String(buffer: $0) } == ["argument"])
            #expect(records[0].reply?.buffers.map { String(buffer: $0) } == ["result"])
            #expect(records[1].json(.stdout) == "x")
            // The order of arrival goes on when the file is opened again.
            again.apply([.example("c"), .exampleReply("b", engine: "e")])
            #expect(try await again.records(matching: TaskQuery([:]), fields: [.id]).map { $0.id } == ["a", "b", "c"])
            try await again.close()
        }
    }

    @Test("A controller killed at any moment leaves a file with all that was flushed", arguments: [0, 1, 7, 100, 4_000])
    func survivesKill(tornBytes: Int) async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path)
            let ids = (0..<50).map { TaskID("t\($0)") }
            for id in ids {
                store.apply([.example(id, buffers: ["argument"])])
                store.apply([.exampleReply(id, engine: "e", buffers: ["result"])])
            }
            try await store.flush()
            // The files as a kill would leave them now, with a torn last write at the journal's end.
            let left = path + ".left"
            for suffix in ["", "-wal"] { try FileManager.default.copyItem(atPath: path + suffix, toPath: left + suffix) }
            let journal = try FileHandle(forWritingTo: URL(filePath: left + "-wal"))
            try journal.seekToEnd()
            try journal.write(contentsOf: Data(repeating: 0xA7, count: tornBytes))
            try journal.close()

            let found = try SQLiteTaskStore(path: left)
            #expect(try await found.states(of: ids).allSatisfy { $0 == .finished })
            #expect(try await found.records(of: ids, fields: TaskField.all).allSatisfy { $0.json(.resultBuffers) == [6] })
            try await found.close()
            try await store.close()
        }
    }

    @Test("Only its owner can read the file and those beside it")
    func isPrivate() async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path)
            store.apply([.example("a")])
            try await store.flush()
            for suffix in ["", "-wal", "-shm", "-owner"] { #expect(try mode(path + suffix) == 0o600, "\(suffix)") }
            try await store.close()

            try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
            try await SQLiteTaskStore(path: path).close()
            #expect(try mode(path) == 0o600)
        }
    }

    @Test("After closing, look-ups fail, and changes are dropped")
    func closed() async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path)
            store.apply([.example("a")])
            try await store.close()
            store.apply([.example("b")])
            #expect(await message { _ = try await store.history() }?.contains("closed") == true)
            #expect(store.backlogByteCount == 0)
            let again = try SQLiteTaskStore(path: path)
            #expect(try await again.history() == ["a"])
            try await again.close()
        }
    }

    @Test("A second controller is refused, and told which process has the file; a file that a dead process left is free")
    func oneOwner() async throws {
        try await withFile { path in
            // Text of a process that is long gone, and longer than the next one's.
            try Data("4294967295 and more\n".utf8).write(to: URL(filePath: path + "-owner"))
            let store = try SQLiteTaskStore(path: path)
            store.apply([.example("a")])
            let problem = await message { _ = try SQLiteTaskStore(path: path) }
            #expect(
                problem?.contains("\(path) belongs to a controller that runs, process \(getpid()).") == true, "\(problem ?? "")")
            try await store.close()
            let again = try SQLiteTaskStore(path: path)
            #expect(try await again.history() == ["a"])
            try await again.close()
        }
    }

    @Test("Records from every thread at once are all there")
    func concurrent() async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in 0..<8 {
                    group.addTask {
                        for number in 0..<100 {
                            let id = TaskID("t\(worker)-\(number)")
                            store.apply([.example(id)])
                            store.apply([.exampleReply(id, engine: "e")])
                            if number % 10 > 0 { continue }
                            let states = try await store.states(of: [id])
                            #expect(states == [.finished])
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await store.counts().finished == 800)
            #expect(store.backlogByteCount == 0)
            try await store.close()
        }
    }
}

// MARK: - Limits

@Suite("Limits of a file of task records")
struct SQLiteLimitTests {
    @Test("The records that ended first go first, and queries for them say so")
    func recordLimit() async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path, limits: .init(records: 2))
            store.apply([.example("a"), .example("b"), .example("c"), .example("d")])
            store.apply([.exampleReply("c", engine: "e", at: 20), .exampleReply("a", engine: "e", at: 21)])
            store.apply([.exampleReply("b", engine: "e", at: 22)])
            #expect(try await store.states(of: ["a", "b", "c", "d"]) == [.finished, .finished, .culled, .unfinished])
            // Late output does not bring it back.
            store.apply([.output("c", TaskOutput(.stream, content: ByteBuffer(string: "{}")))])
            #expect(try await store.states(of: ["c"]) == [.culled])
            #expect(try await store.counts().stubs == 0)
            try await store.close()

            // The limit holds for what an earlier controller left, too.
            let again = try SQLiteTaskStore(path: path, limits: .init(records: 1))
            again.apply([.example("e")])
            #expect(try await again.states(of: ["a", "b", "d"]) == [.culled, .finished, .unfinished])
            try await again.close()
        }
    }

    @Test("The file does not grow beyond its limit, and shrinks when it is emptied")
    func byteLimit() async throws {
        try await withFile { path in
            let limit = 4 << 20
            let store = try SQLiteTaskStore(path: path, limits: .init(bytes: limit))
            let large = String(repeating: "x", count: 50_000)
            for number in 0..<400 {
                let id = TaskID("t\(number)")
                store.apply([
                    .example(id, buffers: [large]), .exampleReply(id, engine: "e", at: Double(number), buffers: [large]),
                ])
                if number % 20 == 0 { #expect(try await store.counts().byteCount <= limit) }
            }
            #expect(try await store.counts().byteCount <= limit)
            #expect(try await store.states(of: ["t0", "t399"]) == [.culled, .finished])
            store.apply([.dropCompleted])
            #expect(try await store.counts().byteCount < 400_000)
            try await store.close()
            #expect(try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0 < 400_000)
        }
    }

    @Test("Unfinished tasks stay, even where they alone are more than the limit")
    func unfinishedStay() async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path, limits: .init(records: 1, bytes: 1 << 20))
            let ids = (0..<100).map { TaskID("t\($0)") }
            store.apply(ids.map { .example($0, buffers: [String(repeating: "x", count: 50_000)]) })
            #expect(try await store.states(of: ids).allSatisfy { $0 == .unfinished })
            try await store.close()
        }
    }

    @Test("Stubs of broadcasts do not pile up")
    func stubs() async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path, limits: .init(records: 100))
            for number in 0..<50 {
                store.apply([.output(TaskID("t\(number)"), TaskOutput(.stream, content: ByteBuffer(string: "{}")))])
            }
            #expect(try await store.counts().stubs == 10)
            #expect(try await store.states(of: ["t0", "t49"]) == [.culled, .stub])
            try await store.close()
        }
    }

    @Test("Records of tasks that ended too long ago are removed")
    func age() async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path, limits: .init(age: 3600))
            let now = Double(WireDate.now.microseconds) / 1_000_000
            store.apply([
                .example("old"), .exampleReply("old", engine: "e", at: now - 3700), .example("new"),
                .exampleReply("new", engine: "e", at: now - 3500), .example("running", at: now - 9999),
            ])
            #expect(try await store.states(of: ["old", "new", "running"]) == [.culled, .finished, .unfinished])
            try await store.close()
        }
    }
}

// MARK: - Other people's files

@Suite("What cannot be a file of task records")
struct ForeignFileTests {
    @Test("A file that is no database is refused and left alone")
    func noDatabase() async throws {
        try await withFile { path in
            let text = String(repeating: "Dear diary, today I ran a task. ", count: 100)
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            let problem = await message { _ = try SQLiteTaskStore(path: path) }
            #expect(problem?.hasPrefix(path) == true && problem?.contains("no SQLite database") == true)
            #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
        }
    }

    @Test("ipyparallel's file is refused, for it holds pickles")
    func pythons() async throws {
        try await withFile { path in
            let queue = try DatabaseQueue(path: path)
            try await queue.write { try $0.execute(sql: "CREATE TABLE 'ipython-tasks' (msg_id TEXT PRIMARY KEY)") }
            try queue.close()
            #expect(await message { _ = try SQLiteTaskStore(path: path) }?.contains("pickles") == true)
        }
    }

    @Test("Another program's database is refused")
    func foreign() async throws {
        try await withFile { path in
            let queue = try DatabaseQueue(path: path)
            try await queue.write { try $0.execute(sql: "CREATE TABLE tasks (id INTEGER)") }
            try queue.close()
            #expect(await message { _ = try SQLiteTaskStore(path: path) }?.contains("another program's") == true)
        }
    }

    @Test("A file of a newer Apus is refused")
    func newer() async throws {
        try await withFile { path in
            try await SQLiteTaskStore(path: path).close()
            let queue = try DatabaseQueue(path: path)
            try await queue.write { try $0.execute(sql: "PRAGMA user_version = 99") }
            try queue.close()
            let problem = await message { _ = try SQLiteTaskStore(path: path) }
            #expect(problem?.contains("newer Apus") == true && problem?.contains(path) == true)
        }
    }

    @Test("A file cut short is refused, wherever it was cut", arguments: [1, 50, 99, 512, 4096, 5000, 20_000, 40_000])
    func torn(length: Int) async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path)
            store.apply((0..<200).map { .example(TaskID("t\($0)"), buffers: [String(repeating: "x", count: 1000)]) })
            try await store.close()
            let file = try FileHandle(forWritingTo: URL(filePath: path))
            try file.truncate(atOffset: UInt64(length))
            try file.close()
            #expect(await message { try await SQLiteTaskStore(path: path).close() }?.contains(path) == true)
        }
    }

    @Test("A damaged page is found")
    func damaged() async throws {
        try await withFile { path in
            let store = try SQLiteTaskStore(path: path)
            store.apply((0..<200).map { .example(TaskID("t\($0)")) })
            try await store.close()
            let file = try FileHandle(forUpdating: URL(filePath: path))
            try file.seek(toOffset: 4096 * 12)
            try file.write(contentsOf: Data(repeating: 0xFF, count: 4096))
            try file.close()
            #expect(await message { _ = try SQLiteTaskStore(path: path) }?.contains("damaged") == true)
        }
    }

    @Test("A place where no file can be is named")
    func noPlace() async throws {
        try await withFile { path in
            let inside = path + "/no/such/folder/tasks.db"
            #expect(await message { _ = try SQLiteTaskStore(path: inside) }?.hasPrefix(inside) == true)
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
            #expect(await message { _ = try SQLiteTaskStore(path: path) }?.contains("no file") == true)
        }
    }

    @Test("While the file cannot be written changes are kept, and look-ups say why")
    func writeFailure() async throws {
        try await withFile { path in
            let problems = Mutex<[String]>([])
            let store = try SQLiteTaskStore(path: path) { problem in problems.withLock { $0.append(problem.message) } }
            store.apply([.example("a")])
            try await store.flush()
            // A limit on the file's pages fails as a full disk does.
            try await store.limitPages(to: 1)
            let large = String(repeating: "x", count: 100_000)
            store.apply([.example("b", buffers: [large])])
            #expect(await message { _ = try await store.history() }?.contains("full") == true)
            store.apply([.exampleReply("b", engine: "e")])
            #expect(await message { try await store.flush() }?.contains("full") == true)
            #expect(problems.withLock { $0.count } == 1)
            #expect(store.backlogByteCount > 100_000)

            try await store.limitPages(to: 1 << 30)
            #expect(try await store.states(of: ["a", "b"]) == [.unfinished, .finished])
            #expect(store.backlogByteCount == 0)
            try await store.close()
        }
    }
}

// MARK: - Tools

private func withFile(_ body: (_ path: String) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "apus-tasks-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try await body(folder.appending(path: "tasks.db").path(percentEncoded: false))
}

private func mode(_ path: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    return (attributes[.posixPermissions] as? NSNumber)?.intValue ?? -1
}

/// The message of the store's error; nil when there is none.
private func message(_ body: () async throws -> Void) async -> String? {
    do { try await body() } catch { return (error as? TaskStoreError)?.message ?? "no store's error: \(error)" }
    return nil
}
