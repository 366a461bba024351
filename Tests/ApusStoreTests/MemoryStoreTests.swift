import ApusStore
import ApusTestKit
import ApusWire
import NIOCore
import Testing

@Suite("Task records in memory")
struct MemoryStoreTests {
    @Test("A task store", arguments: StoreConformance.rules)
    func conforms(rule: StoreConformance.Rule) async throws { try await rule.check(MemoryTaskStore()) }

    @Test("The records that ended first go first, and queries for them say so")
    func culling() async throws {
        let store = MemoryTaskStore(limits: MemoryTasks.Limits(records: 2))
        store.apply([.example("a"), .example("b"), .example("c"), .example("d")])
        for id in ["c", "a", "b"] as [TaskID] { store.apply([.exampleReply(id, engine: "e")]) }
        #expect(try await store.states(of: ["a", "b", "c", "d"]) == [.finished, .finished, .culled, .unfinished])
    }

    @Test("Bytes of ended tasks are limited, output after the end included")
    func byteLimit() async throws {
        let store = MemoryTaskStore(limits: MemoryTasks.Limits(bytes: 10_000))
        let large = String(repeating: "x", count: 4_000)
        store.apply([.example("a", buffers: [large]), .exampleReply("a", engine: "e")])
        store.apply([.example("b", buffers: [large]), .exampleReply("b", engine: "e")])
        #expect(try await store.states(of: ["a", "b"]) == [.finished, .finished])
        store.apply([.output("b", TaskOutput(.displayData, content: ByteBuffer(string: large)))])
        #expect(try await store.states(of: ["a", "b"]) == [.culled, .finished])
        #expect(try await store.counts().byteCount < 10_000)
    }

    @Test("Where bytes are short, large arguments of ended tasks go before any record does, and such a task is not run again")
    func largeRequestsGoFirst() async throws {
        let store = MemoryTaskStore(limits: MemoryTasks.Limits(bytes: 250_000))
        let large = String(repeating: "x", count: 100_000)
        for id in ["a", "b", "c"] as [TaskID] {
            store.apply([.example(id, buffers: [large]), .exampleReply(id, engine: "e", buffers: ["result"])])
        }
        #expect(try await store.states(of: ["a", "b", "c"]) == [.finished, .finished, .finished])
        let records = try await store.records(of: ["a", "b", "c"], fields: TaskField.all)
        #expect(records.map { $0.request?.buffers.count } == [0, 1, 1])
        #expect(records.map { $0.lacksRequestBuffers } == [true, false, false])
        #expect(records.allSatisfy { $0.reply?.buffers.count == 1 })
        let answers = HubAnswers(store: store)
        await #expect(throws: TaskStoreError.self) { try await answers.tasksToResubmit(["msg_ids": ["a"]]) }
        #expect(try await answers.tasksToResubmit(["msg_ids": ["b"]]).count == 1)
    }

    @Test("Six requests with an array of 200 MB leave at most the limit behind")
    func largeArrays() {
        var tasks = MemoryTasks()
        // One array that all requests share, counted for each, as if each had come by the network.
        let array = ByteBuffer(repeating: 7, count: 200 << 20)
        for number in 0..<6 {
            let id = TaskID("t\(number)")
            let request = Message(
                identities: [], signature: ByteBuffer(), parts: MessageParts(header: ByteBuffer(string: "{}")), buffers: [array])
            tasks.apply(.submitted(id, request: request, client: "c", date: nil, queue: .balanced, engine: nil))
            tasks.apply(.exampleReply(id, engine: "e"))
            tasks.checkInvariants()
        }
        #expect(tasks.counts.finished == 6)
        #expect(tasks.counts.byteCount <= 256 << 20)
    }

    @Test("Unfinished tasks stay, however many and however large")
    func unfinishedStay() async throws {
        let store = MemoryTaskStore(limits: MemoryTasks.Limits(records: 3, bytes: 1_000))
        let large = String(repeating: "x", count: 4_000)
        let ids = (0..<100).map { TaskID("t\($0)") }
        store.apply(ids.map { .example($0, buffers: [large]) })
        #expect(try await store.counts() == TaskCounts(unfinished: 100))
        #expect(try await store.states(of: ids).allSatisfy { $0 == .unfinished })
    }

    @Test("Stubs of broadcasts do not pile up")
    func stubsAreBounded() async throws {
        let store = MemoryTaskStore(limits: MemoryTasks.Limits(records: 10))
        for number in 0..<100 {
            store.apply([.output(TaskID("t\(number)"), TaskOutput(.stream, content: ByteBuffer(string: "{}")))])
        }
        #expect(try await store.counts().stubs == 10)
        #expect(try await store.states(of: ["t0", "t99"]) == [.culled, .stub])
        // Late output of a record that has gone does not bring it back.
        store.apply([.output("t0", TaskOutput(.stream, content: ByteBuffer(string: "{}")))])
        #expect(try await store.states(of: ["t0"]) == [.culled])
    }

    @Test("A kept message does not keep alive what it was read with")
    func detachesFrames() async throws {
        var read = ByteBufferAllocator().buffer(capacity: 1 << 20)
        for text in ["<IDS|MSG>", "sig", "{\"msg_id\": \"a\"}", "{}", "{}", "{}", "buffer"] { read.writeString(text) }
        read.writeRepeatingByte(7, count: 600_000)
        let frames = [9, 3, 15, 2, 2, 2, 6, 600_000].compactMap { read.readSlice(length: $0) }
        let message = try Message(frames: frames)
        let kept = message.forKeeping()
        #expect(kept.header == message.header && kept.metadata == message.metadata && kept.content == message.content)
        #expect(kept.buffers.elementsEqual(message.buffers))
        #expect(kept.header.storageCapacity < 1000)
        // A slice that is most of its buffer is not copied.
        #expect(kept.buffers.last?.storageCapacity == message.buffers.last?.storageCapacity)
    }

    @Test("The counts hold, whatever happens in whatever order", arguments: UInt64(0)..<20)
    func invariants(seed: UInt64) {
        var random = Random(seed: seed)
        var tasks = MemoryTasks(limits: MemoryTasks.Limits(records: 8, bytes: 4_000))
        for step in 0..<2_000 {
            let id = TaskID("t\(Int.random(in: 0..<40, using: &random))")
            let engine = "e\(Int.random(in: 0..<3, using: &random))"
            let padding = String(repeating: "x", count: Int.random(in: 0..<500, using: &random))
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<7: tasks.apply(.example(id, at: Double(step), buffers: [padding]))
            case 7..<9: tasks.apply(.assigned(id, to: engine))
            case 9..<15: tasks.apply(.exampleReply(id, engine: engine, buffers: [padding]))
            case 15..<17: tasks.apply(.output(id, TaskOutput(.displayData, content: ByteBuffer(string: padding))))
            case 17: tasks.apply(.drop([id]))
            case 18: tasks.apply(.dropCompletedOf(EngineUUID(engine)))
            default: tasks.apply(.dropCompleted)
            }
            tasks.checkInvariants()
        }
    }
}

@Suite("No task records")
struct NoStoreTests {
    @Test("Every look-up is answered with the error that Python's --nodb gives")
    func everyLookUpFails() async throws {
        let store = NoTaskStore()
        store.apply([.example("a")])
        func name(_ body: () async throws -> Void) async -> String? {
            do { try await body() } catch { return (error as? TaskStoreError)?.name.rawValue }
            return nil
        }
        #expect(await name { _ = try await store.states(of: ["a"]) } == "NoData")
        #expect(await name { _ = try await store.history() } == "NoData")
        #expect(await name { _ = try await store.counts() } == "NoData")
        #expect(await name { _ = try await store.records(of: ["a"], fields: TaskField.all) } == "NoData")
        #expect(await name { _ = try await store.records(matching: TaskQuery([:]), fields: TaskField.all) } == "NoData")
        try await store.flush()
        try await store.close()
    }
}

/// A generator that gives the same numbers for the same seed (SplitMix64).
struct Random: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { self.state = seed }
    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var z = self.state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
