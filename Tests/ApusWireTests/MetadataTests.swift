import ApusWire
import NIOCore
import Testing

@Suite("Metadata of requests and replies")
struct MetadataTests {
    private func text(_ bytes: ByteBuffer) -> String { String(buffer: bytes) }

    @Test("A request says to the scheduler what its client asked of it")
    func scheduling() throws {
        var asked = RequestMetadata.ForScheduler()
        asked.after = TaskDependency([MessageID("a")])
        asked.follow = TaskDependency([MessageID("b")], all: false, failure: true)
        asked.timeout = .seconds(3)
        asked.targets = [EngineUUID("e1"), EngineUUID("e2")]
        asked.retries = 2
        asked.retryRule = RetryRule(pause: .seconds(1), errors: ["ValueError"])
        asked.resources = ["gpu": 1]
        asked.engineTimeout = .zero
        asked.abandonedAfter = .seconds(7)
        asked.depth = 1
        asked.priority = -4
        asked.results = ResultPlaces([(3, MessageID("d")), (2, MessageID("c"))])
        var metadata = ByteBuffer()
        asked.begin(&metadata)
        metadata.writeStaticString("}")
        #expect(try RequestMetadata.ForScheduler(scanning: metadata) == asked)
    }

    @Test("A request that asks for nothing has every member that Python's scheduler expects")
    func plainRequest() throws {
        var metadata = ByteBuffer()
        RequestMetadata.ForScheduler().begin(&metadata)
        RequestMetadata.ForEngine().write(label: nil, into: &metadata)
        metadata.writeStaticString("}")
        #expect(
            self.text(metadata)
                == #"{"after": [], "follow": [], "timeout": 0.0, "targets": [], "retries": 0, "label": null}"#)
        #expect(try RequestMetadata.ForScheduler(scanning: metadata) == RequestMetadata.ForScheduler())
    }

    @Test("A request says to the engine how to call the function, and the scheduler reads of it what concerns engines")
    func calling() throws {
        var asked = RequestMetadata.ForEngine()
        asked.isQuiet = true
        asked.maps = true
        asked.keepsOutcomes = true
        asked.slice = 100
        asked.captureCount = 2
        asked.limit = 1.5
        asked.build = "b1"
        var metadata = ByteBuffer()
        RequestMetadata.ForBroadcast.beginNone(&metadata)
        asked.write(label: "fit", into: &metadata)
        metadata.writeStaticString("}")
        let read = try RequestMetadata.ForEngine(scanning: metadata)
        #expect(read.isQuiet && read.maps && read.keepsOutcomes)
        #expect(read.slice == 100 && read.captureCount == 2 && read.limit == 1.5 && read.build == "b1")
        let scheduling = try RequestMetadata.ForScheduler(scanning: metadata)
        #expect(scheduling.build == "b1" && scheduling.isLimited)
    }

    @Test("A broadcast names its targets with their ids")
    func broadcast() throws {
        var metadata = ByteBuffer()
        RequestMetadata.ForBroadcast(to: [(EngineUUID("e"), 4)], isCoalescing: false).begin(&metadata)
        metadata.writeStaticString("}")
        #expect(
            self.text(metadata)
                == #"{"targets": [["e", 4]], "is_broadcast": true, "is_coalescing": false, "apus_copies": true}"#)
        let read = RequestMetadata.ForBroadcast(try JSONValue(parsing: metadata))
        #expect(read.targets.map { $0.uuid } == [EngineUUID("e")] && read.targets.map { $0.id } == [4])
        #expect(!read.isCoalescing && read.countsOnCopies && read.original == nil)
    }

    @Test("Members of the wrong kind count as left out, and numbers are kept within their bounds")
    func wrongKinds() throws {
        let metadata = ByteBuffer(
            string:
                #"{"after": 1, "timeout": "x", "targets": {}, "retries": -1, "apus_depth": -2, "apus_limit": 1e300, "label": [1, 2]}"#
        )
        let read = try RequestMetadata.ForScheduler(scanning: metadata)
        #expect(read.isLimited)
        #expect(read.after == nil && read.timeout == nil && read.targets.isEmpty && read.retries == 0 && read.depth == 0)
        #expect(try RequestMetadata.ForEngine(scanning: metadata).limit == 1e9)
        #expect(throws: WireError.self) { try RequestMetadata.ForScheduler(scanning: ByteBuffer(string: "[]")) }
        #expect(throws: WireError.self) {
            try RequestMetadata.ForScheduler(scanning: ByteBuffer(string: #"{"apus_results": [[1]]}"#))
        }
    }

    @Test("A reply says again what its request said, and each side reads its own of it")
    func reply() throws {
        let request = ByteBuffer(
            string: #"{"is_broadcast": true, "original_msg_id": "o", "label": "fit", "apus_quiet": true, "apus_limit": 2}"#)
        let reply = try RequestMetadata.ForEngine(scanning: request).reply(
            .ok, by: (3, EngineUUID("e")), started: WireDate(microseconds: 0), outputs: 5, work: 70, calls: 9)
        #expect(
            self.text(reply)
                == #"{"started": "1970-01-01T00:00:00.000000Z", "dependencies_met": true, "engine": "e", "is_broadcast": true, "#
                + #""is_coalescing": false, "original_msg_id": "o", "label": "fit", "status": "ok", "apus_outputs": 5, "#
                + #""apus_work": 70, "apus_calls": 9, "apus_limit": 2.0}"#)
        let controller = try ReplyMetadata.ForController(scanning: reply)
        #expect(controller.status == .ok && controller.dependenciesMet && controller.work == 70)
        let client = try ReplyMetadata.ForClient(scanning: reply)
        #expect(client.started == WireDate(microseconds: 0) && client.engine == EngineUUID("e") && client.label == "fit")
        #expect(client.calls == 9 && client.saysLimit)
        #expect(ReplyMetadata.outputCount(scanning: reply) == 5)
    }

    @Test("An error reply names its engine as ipyparallel's do")
    func errorReply() throws {
        let reply = try RequestMetadata.ForEngine(scanning: ByteBuffer(string: "{}")).reply(
            .error, by: (3, EngineUUID("e")), started: WireDate(microseconds: 0), meetsDependencies: false, outputs: 1, work: 2)
        #expect(
            self.text(reply)
                == #"{"started": "1970-01-01T00:00:00.000000Z", "dependencies_met": false, "engine": "e", "is_broadcast": false, "#
                + #""is_coalescing": false, "original_msg_id": "", "label": null, "status": "error", "#
                + #""engine_info": {"engine_uuid": "e", "engine_id": 3}}"#)
        #expect(try ReplyMetadata.ForController(scanning: reply).status == .error)
        #expect(ReplyMetadata.outputCount(scanning: reply) == nil)
    }

    @Test("The controller answers in an engine's place, of a broadcast too")
    func standIn() {
        #expect(ReplyMetadata.standIn(.aborted) == ["status": "aborted"])
        #expect(
            ReplyMetadata.standIn(.error, for: EngineUUID("e"), at: WireDate(microseconds: 0)).answering(
                broadcast: "o", isCoalescing: true, targets: [["e", 4]])
                == [
                    "status": "error", "engine": "e", "date": "1970-01-01T00:00:00.000000Z", "is_broadcast": true,
                    "is_coalescing": true, "original_msg_id": "o", "broadcast_targets": [["e", 4]],
                ])
    }
}
