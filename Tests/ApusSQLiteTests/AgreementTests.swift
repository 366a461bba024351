import ApusSQLite
import ApusStore
import ApusTestKit
import ApusWire
import Foundation
import NIOCore
import Testing

@Suite("A file and the memory")
struct AgreementTests {
    /// How much the journal of a file keeps back from the tables.
    private static let limits = [
        SQLiteTaskStore.Limits(), SQLiteTaskStore.Limits(journalBytes: 3000, tasksAtOnce: 3),
        SQLiteTaskStore.Limits(endedBytes: 2000, tasksAtOnce: 2),
    ]

    @Test(
        "They agree on everything, whatever happens in whatever batches, and whenever the controller is killed",
        arguments: UInt64(0)..<18)
    func agree(seed: UInt64) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func path(_ number: Int) -> String { folder.appending(path: "\(number).db").path(percentEncoded: false) }
        let limits = Self.limits[Int(seed % 3)]
        var world = World(seed: seed)
        let memory = MemoryTaskStore()
        var file = try SQLiteTaskStore(path: path(0), limits: limits)
        var number = 0
        for round in 0..<30 {
            let changes = world.changes()
            memory.apply(changes)
            file.apply(changes)
            if round % 10 == 9 {
                try await file.close()
                file = try SQLiteTaskStore(path: path(number), limits: limits)
            } else if round % 4 == 1 {
                try await file.flush()
                // The files as a kill would leave them now.
                for suffix in ["", "-wal"] {
                    try FileManager.default.copyItem(atPath: path(number) + suffix, toPath: path(number + 1) + suffix)
                }
                try await file.close()
                number += 1
                file = try SQLiteTaskStore(path: path(number), limits: limits)
            }
            // Asked for first, before the look-ups have the journal's changes written to the tables.
            #expect(try await file.unfinished().map { $0.id } == memory.unfinished().map { $0.id })
            // Compared in some rounds only, so that batches of several sizes are written.
            if round % 3 < 2 { continue }
            #expect(try await file.states(of: world.ids) == memory.states(of: world.ids))
            #expect(try await file.history() == memory.history())
            let inFileNow = try await shown(file, TaskQuery([:]), TaskField.all)
            let inMemoryNow = try await shown(memory, TaskQuery([:]), TaskField.all)
            #expect(inFileNow.map { $0["msg_id"] } == inMemoryNow.map { $0["msg_id"] })
            for (left, right) in zip(inFileNow, inMemoryNow) {
                for field in TaskField.allCases.map({ $0.rawValue }) {
                    #expect(left[field] == right[field], "\(field) of \(left)")
                }
            }
            for _ in 0..<10 {
                let json = world.query()
                let query = try TaskQuery(json)
                #expect(try await shown(file, query, [.id]) == shown(memory, query, [.id]), "\(json)")
            }
            let (inFile, inMemory) = (try await file.counts(), try await memory.counts())
            #expect(inFile.unfinished == inMemory.unfinished)
            #expect(inFile.finished == inMemory.finished)
            #expect(inFile.stubs == inMemory.stubs)
        }
        try await file.close()
    }

    private func shown(_ store: any TaskStore, _ query: TaskQuery, _ fields: Set<TaskField>) async throws -> [JSONValue] {
        try await store.records(matching: query, fields: fields).map { record in
            .object(Dictionary(uniqueKeysWithValues: fields.map { ($0.rawValue, record.json($0)) }))
        }
    }
}

/// Random events and queries, from a seed.
private struct World {
    let ids = (0..<25).map { TaskID("t\($0)") }
    private var random: Numbers
    private var clock = 0.0

    init(seed: UInt64) { self.random = Numbers(state: seed) }

    private mutating func pick<Element>(_ elements: [Element]) -> Element {
        elements[Int.random(in: 0..<elements.count, using: &self.random)]
    }

    mutating func changes() -> [TaskChange] {
        (0..<Int.random(in: 1..<40, using: &self.random)).map { _ in
            self.clock += 1
            let id = self.pick(self.ids)
            let engine = self.pick(["e0", "e1", "e2"])
            switch Int.random(in: 0..<40, using: &self.random) {
            case 0..<12:
                return .example(
                    id, at: self.pick([self.clock, 5]), client: self.pick(["ann", "bob"]),
                    queue: self.pick([.direct, .balanced]),
                    engine: self.pick([nil, engine]), metadata: ["label": self.pick(["x", "y", nil])],
                    buffers: self.pick([[], ["b"], ["", "cc"]]))
            case 12..<18: return .assigned(id, to: engine)
            case 18..<28:
                return .exampleReply(
                    id, engine: engine, at: self.clock, content: ["status": self.pick(["ok", "error"])],
                    buffers: self.pick([[], ["r", "s"]]))
            case 28: return .stranded(id, on: EngineUUID(engine), at: WireDate(microseconds: Int64(self.clock)))
            case 29: return .lost(id, on: nil, error: ErrorContent(.engineError, "gone"), at: WireDate(microseconds: 7))
            case 30..<34:
                let content = JSONValue.object([
                    "name": self.pick(["stdout", "stderr"]), "text": .string("line \(self.clock)\n"),
                ])
                return .output(id, TaskOutput(.stream, content: content.packed))
            case 34:
                return .output(id, TaskOutput(self.pick(TaskOutput.Kind.allCases), content: ByteBuffer(string: "{\"code\": 1}")))
            case 35: return .resubmitted(id, as: self.pick(self.ids))
            case 36..<38: return .drop([id, self.pick(self.ids)])
            case 38: return .dropCompletedOf(EngineUUID(engine))
            default: return .dropCompleted
            }
        }
    }

    mutating func query(depth: Int = 0) -> JSONValue {
        let dates: [JSONValue] = [
            "1970-01-01T00:00:05Z", "1970-01-01T00:01:40+00:00",
            .string(WireDate(microseconds: Int64(self.clock / 2 * 1e6)).description),
        ]
        let values: [JSONValue] = dates + [nil, "e0", "e1", "ann", "mux", "t3", "x", 3, true, "1970"]
        switch Int.random(in: 0..<(depth < 3 ? 14 : 8), using: &self.random) {
        case 0..<8:
            let field = self.pick(
                TaskField.allCases.map { $0.rawValue } + ["header.session", "result_metadata.started", "nothing"])
            let operation = self.pick([
                "$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$exists", "$glob", "$regex", "",
            ])
            switch operation {
            case "": return .object([field: self.pick(values)])
            case "$in", "$nin": return .object([field: .object([operation: .array([self.pick(values), self.pick(values)])])])
            case "$glob": return .object([field: ["$glob": self.pick(["*", "t1*", "e?", "*00*"])]])
            case "$regex": return .object([field: ["$regex": self.pick(["[01]$", "^a", "line"])]])
            case "$exists": return .object([field: ["$exists": self.pick([true, false])]])
            default: return .object([field: .object([operation: self.pick(values)])])
            }
        case 8..<10: return ["$and": [self.query(depth: depth + 1), self.query(depth: depth + 1)]]
        case 10..<12: return ["$or": [self.query(depth: depth + 1), self.query(depth: depth + 1)]]
        default: return ["$not": self.query(depth: depth + 1)]
        }
    }
}

/// SplitMix64.
private struct Numbers: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var z = self.state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
