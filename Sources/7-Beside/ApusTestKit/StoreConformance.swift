package import ApusStore
package import ApusWire
import NIOCore

/// The rules that every task store must keep, wherever it keeps its records.
///
/// Each rule is a sentence of the manual and a transcript that shows it. A store's test target runs all rules on fresh,
/// empty stores without limits:
///
///     @Test("A task store", arguments: StoreConformance.rules)
///     func conforms(rule: StoreConformance.Rule) async throws { try await rule.check(MemoryTaskStore()) }
package enum StoreConformance {
    package struct Rule: Sendable, CustomStringConvertible {
        package let description: String
        /// Throws a ``Violation`` when the store breaks the rule.
        package let check: @Sendable (any TaskStore) async throws -> Void

        init(_ description: String, _ check: @escaping @Sendable (any TaskStore) async throws -> Void) {
            self.description = description
            self.check = check
        }
    }

    package struct Violation: Error, CustomStringConvertible {
        package let description: String
    }

    package static let rules = Self.recordRules + Self.outputRules + Self.dropRules + Self.queryRules + Self.answerRules

    static func expect<Value: Equatable>(
        _ value: Value, _ expected: Value, file: StaticString = #fileID, line: UInt = #line
    ) throws {
        if value != expected { throw Violation(description: "\(file):\(line): \(value) where \(expected) is expected") }
    }

    /// Expects the body to throw an error of that name, and gives its message.
    @discardableResult
    static func expectError(
        _ name: String, file: StaticString = #fileID, line: UInt = #line, _ body: () async throws -> Void
    ) async throws -> String {
        do { try await body() } catch let error as TaskStoreError {
            try self.expect(error.name.rawValue, name, file: file, line: line)
            return error.message
        }
        throw Violation(description: "\(file):\(line): no error where \(name) is expected")
    }
}

// MARK: - Records

extension StoreConformance {
    static let recordRules = [
        Rule("A store that was told nothing knows nothing") { store in
            try expect(try await store.states(of: ["a"]), [.unknown])
            try expect(try await store.history(), [])
            try expect(try await store.ids("{}"), [])
            try expect(try await store.counts().finished, 0)
        },
        Rule("A task is unfinished from its submission to its reply") { store in
            store.apply([.example("a")])
            try expect(try await store.states(of: ["a", "b"]), [.unfinished, .unknown])
            store.apply([.assigned("a", to: "engine-0")])
            store.apply([.exampleReply("a", engine: "engine-0")])
            try expect(try await store.states(of: ["a"]), [.finished])
            let counts = try await store.counts()
            try expect([counts.unfinished, counts.finished, counts.stubs], [0, 1, 0])
        },
        Rule("A task that has failed and waits for an engine has its failures and no engine") { store in
            store.apply([.example("a"), .assigned("a", to: "engine-0"), .assigned("a", to: nil, failures: 1)])
            var record = try await store.unfinished().first
            try expect([record?.assignedEngine?.text, record.map { "\($0.failures)" }], [nil, "1"])
            store.apply([.assigned("a", to: EngineUUID("engine-1"), failures: 1), .assigned("a", to: nil, failures: 2)])
            record = try await store.unfinished().first
            try expect([record?.assignedEngine?.text, record.map { "\($0.failures)" }], [nil, "2"])
        },
        Rule("A record has every field of the protocol") { store in
            store.apply([
                .example("a", at: 10, client: "client-0", metadata: ["label": "mine", "retries": 1], buffers: ["x", "yz"]),
                .assigned("a", to: "engine-0"), .exampleReply("a", engine: "engine-0", at: 20, buffers: ["result"]),
                .resubmitted("a", as: "a2"),
            ])
            let record = try await store.record("a")
            let fields = Dictionary(uniqueKeysWithValues: TaskField.allCases.map { ($0.rawValue, record.json($0)) })
            try expect(
                fields,
                [
                    "msg_id": "a", "header": .object(exampleHeader("a", "apply_request", session: "client-0", at: 10)),
                    "metadata": ["label": "mine", "retries": 1], "content": ["k": 1], "buffers": [1, 2],
                    "submitted": "1970-01-01T00:00:10.000000Z", "client_uuid": "client-0", "engine_uuid": "engine-0",
                    "queue": "task", "label": "mine", "started": "1970-01-01T00:00:19.500000Z",
                    "completed": "1970-01-01T00:00:20.000000Z", "received": "1970-01-01T00:00:20.250000Z",
                    "resubmitted": "a2",
                    "result_header": .object(exampleHeader("a-reply", "apply_reply", session: "engine-0", at: 20)),
                    "result_metadata": ["engine": "engine-0", "status": "ok", "started": "1970-01-01T00:00:19.500000Z"],
                    "result_content": ["status": "ok"], "result_buffers": [6], "execute_input": nil, "execute_result": nil,
                    "error": nil, "stdout": "", "stderr": "", "display_data": nil, "outputs": [],
                ])
            try expect(record.request?.buffers.map { String(buffer: $0) }, ["x", "yz"])
            try expect(record.reply?.buffers.map { String(buffer: $0) }, ["result"])
        },
        Rule("What is not known of a task is null") { store in
            store.apply([
                .submitted(
                    "a", request: exampleMessage(header: exampleHeader("a", "apply_request", session: "c", at: nil)), client: "c",
                    date: nil, queue: nil, engine: nil)
            ])
            let record = try await store.record("a")
            for field in [
                TaskField.submitted, .engine, .queue, .label, .started, .completed, .received, .resubmitted, .resultHeader,
                .resultMetadata, .resultContent, .resultBuffers,
            ] { try expect(record.json(field), .null) }
            try expect(record.json(.buffers), [])
        },
        Rule("Buffers come back byte for byte, also empty and large ones") { store in
            let large = String(repeating: "large ", count: 500_000)
            store.apply([
                .example("a", buffers: ["", large, ""]), .exampleReply("a", engine: "e", buffers: [large, ""]),
            ])
            let record = try await store.record("a")
            try expect(record.request?.buffers.map { String(buffer: $0) } == ["", large, ""], true)
            try expect(record.reply?.buffers.map { String(buffer: $0) } == [large, ""], true)
        },
        Rule("Of two requests or two replies under one id, the first is kept") { store in
            store.apply([.example("a", client: "first")])
            store.apply([.example("a", client: "second"), .exampleReply("a", engine: "e1")])
            store.apply([.exampleReply("a", engine: "e2")])
            store.apply([.example("a", client: "third")])
            let record = try await store.record("a")
            try expect([record.json(.client), record.json(.engine)], ["first", "e1"])
        },
        Rule("A reply to nothing that is known changes nothing") { store in
            store.apply([.exampleReply("a", engine: "e"), .assigned("b", to: "e"), .resubmitted("c", as: "d")])
            try expect(try await store.states(of: ["a", "b", "c", "d"]), [.unknown, .unknown, .unknown, .unknown])
        },
        Rule("A task stranded on a dead engine ended with an EngineError") { store in
            store.apply([
                .example("a", queue: .direct, engine: "engine-0"),
                .stranded("a", on: EngineUUID("engine-0"), at: date(30)),
            ])
            let record = try await store.record("a")
            try expect(record.isFinished, true)
            try expect(record.json(.completed), "1970-01-01T00:00:30.000000Z")
            try expect(record.json(.engine), "engine-0")
            try expect(record.json(.resultMetadata), ["engine": "engine-0", "status": "error"])
            try expect(record.json(.resultContent)["ename"], "EngineError")
            try expect(record.json(.resultBuffers), [])
        },
        Rule("History is by the date of submission, not by arrival") { store in
            store.apply([.example("late", at: 30), .example("early", at: 10)])
            store.apply([.example("middle", at: 20), .example("also early", at: 10)])
            try expect(try await store.history(), ["early", "also early", "middle", "late"])
        },
        Rule("Records are given in the order asked for, without those that there are not") { store in
            store.apply([.example("a"), .example("b"), .example("c")])
            let records = try await store.records(of: ["c", "x", "a"], fields: TaskField.all)
            try expect(records.map { $0.id }, ["c", "a"])
        },
        Rule("A look-up sees every change applied before it") { store in
            for number in 0..<200 {
                let id = TaskID("t\(number)")
                store.apply([.example(id)])
                if number % 3 > 0 { store.apply([.exampleReply(id, engine: "e")]) }
                try expect(try await store.states(of: [id]), [number % 3 > 0 ? .finished : .unfinished])
            }
            let counts = try await store.counts()
            try expect([counts.unfinished, counts.finished], [67, 133])
        },
    ]
}

// MARK: - Output and forgetting

extension StoreConformance {
    static let outputRules = [
        Rule("Output gathers in its record") { store in
            store.apply([.example("a"), .stream("a", "stdout", "one "), .stream("a", "stderr", "oh ")])
            store.apply([.stream("a", "stdout", "two"), .exampleReply("a", engine: "e"), .stream("a", "stdout", " three")])
            store.apply([
                .shown("a", .executeInput, ["code": "1 + 1", "execution_count": 1]),
                .shown("a", .executeResult, ["data": ["text/plain": "2"], "metadata": [:], "execution_count": 1]),
                .shown("a", .displayData, ["data": ["text/plain": "first"]]),
                .shown("a", .displayData, ["data": ["text/plain": "second"]]),
                .shown("a", .error, ["ename": "ZeroDivisionError"]),
            ])
            let record = try await store.record("a")
            try expect(record.json(.stdout), "one two three")
            try expect(record.json(.stderr), "oh ")
            try expect(record.json(.executeInput), "1 + 1")
            try expect(record.json(.executeResult)["data"], ["text/plain": "2"])
            try expect(record.json(.displayData), ["data": ["text/plain": "second"]])
            try expect(record.json(.outputs), [["data": ["text/plain": "first"]], ["data": ["text/plain": "second"]]])
            try expect(record.json(.error), ["ename": "ZeroDivisionError"])
        },
        Rule("Output that arrives before its request is kept for it") { store in
            store.apply([.stream("a", "stdout", "early")])
            try expect(try await store.states(of: ["a"]), [.stub])
            try expect(try await store.history(), [])
            try expect(try await store.counts().stubs, 1)
            store.apply([.example("a", at: 10, client: "c")])
            try expect(try await store.states(of: ["a"]), [.unfinished])
            store.apply([.exampleReply("a", engine: "e")])
            let record = try await store.record("a")
            try expect([record.json(.stdout), record.json(.client)], ["early", "c"])
            try expect(try await store.history(), ["a"])
            try expect(try await store.counts().stubs, 0)
        },
        Rule("A stub is found by what is known of it") { store in
            store.apply([.stream("a", "stdout", "x"), .example("b", at: 10)])
            try expect(try await store.ids("{\"submitted\": null}"), ["a"])
            try expect(try await store.ids("{\"submitted\": {\"$lt\": \"2020-01-01T00:00:00Z\"}}"), ["b"])
            try expect(try await store.ids("{\"client_uuid\": null}"), ["a"])
        },
        Rule("A task that prints without end keeps its first 16 MB") { store in
            store.apply([.example("a")])
            let megabyte = String(repeating: "x", count: 1 << 20)
            for _ in 0..<20 { store.apply([.stream("a", "stdout", megabyte)]) }
            let record = try await store.record("a")
            try expect(record.text(of: "stdout").utf8.count, 16 << 20)
            try expect(record.text(of: "stderr").contains("16 MB"), true)
        },
    ]

    static let dropRules = [
        Rule("What is dropped is forgotten, whatever its state") { store in
            store.apply([
                .example("a"), .example("b"), .exampleReply("b", engine: "e"), .stream("c", "stdout", "x"), .example("d"),
            ])
            store.apply([.drop(["a", "b", "c", "never"])])
            try expect(try await store.states(of: ["a", "b", "c", "d"]), [.unknown, .unknown, .unknown, .unfinished])
            store.apply([.example("a", client: "again")])
            let record = try await store.record("a")
            try expect([record.json(.client), record.json(.stdout)], ["again", ""])
        },
        Rule("Dropping all completed tasks leaves the others") { store in
            store.apply([.example("a"), .example("b"), .exampleReply("b", engine: "e"), .stream("c", "stdout", "x")])
            store.apply([.dropCompleted])
            try expect(try await store.states(of: ["a", "b", "c"]), [.unfinished, .unknown, .stub])
        },
        Rule("Dropping an engine's completed tasks leaves those of others") { store in
            store.apply([.example("a"), .example("b"), .example("c"), .assigned("c", to: "e1")])
            store.apply([.exampleReply("a", engine: "e1")])
            store.apply([.exampleReply("b", engine: "e2"), .dropCompletedOf(EngineUUID("e1"))])
            try expect(try await store.states(of: ["a", "b", "c"]), [.unknown, .finished, .unfinished])
        },
        Rule("Changes of one batch take effect in order") { store in
            store.apply([
                .example("a", client: "first"), .exampleReply("a", engine: "e"), .dropCompleted, .example("a", client: "second"),
                .drop(["b"]), .example("b"),
            ])
            try expect(try await store.states(of: ["a", "b"]), [.unfinished, .unfinished])
            try expect(try await store.record("a").json(.client), "second")
        },
    ]
}

// MARK: - Examples

func date(_ seconds: Double) -> WireDate { WireDate(microseconds: Int64(seconds * 1_000_000)) }

func exampleHeader(_ id: String, _ type: String, session: String, at seconds: Double?) -> JSONObject {
    var header: JSONObject = [
        "msg_id": .string(id), "msg_type": .string(type), "username": "tester", "session": .string(session), "version": "5.4",
    ]
    header["date"] = seconds.map { .string(date($0).description) }
    return header
}

func exampleMessage(
    header: JSONObject, metadata: JSONObject = [:], content: JSONObject = [:], buffers: [String] = []
) -> Message {
    let parts = MessageParts(
        header: JSONValue.object(header).packed, metadata: JSONValue.object(metadata).packed,
        content: JSONValue.object(content).packed)
    return Message(
        identities: [ByteBuffer(string: "peer")], signature: ByteBuffer(string: "signed"), parts: parts,
        buffers: buffers.map { ByteBuffer(string: $0) })
}

extension TaskChange {
    /// A client's request.
    package static func example(
        _ id: TaskID, at seconds: Double = 10, client: String = "client", queue: TaskQueue = .balanced, engine: String? = nil,
        metadata: JSONObject = [:], content: JSONObject = ["k": 1], buffers: [String] = []
    ) -> TaskChange {
        let header = exampleHeader(id.text, "apply_request", session: client, at: seconds)
        return .submitted(
            id, request: exampleMessage(header: header, metadata: metadata, content: content, buffers: buffers), client: client,
            date: date(seconds), queue: queue, engine: engine.map { EngineUUID($0) })
    }

    /// An engine's reply to a task that began half a second before its end; received a quarter of a second after the end.
    package static func exampleReply(
        _ id: TaskID, engine: String, at seconds: Double = 20, content: JSONObject = ["status": "ok"], buffers: [String] = []
    ) -> TaskChange {
        let header = exampleHeader(id.text + "-reply", "apply_reply", session: engine, at: seconds)
        let metadata: JSONObject = [
            "engine": .string(engine), "status": content["status"] ?? .null, "started": .string(date(seconds - 0.5).description),
        ]
        return .completed(
            id, reply: exampleMessage(header: header, metadata: metadata, content: content, buffers: buffers),
            received: date(seconds + 0.25))
    }

    package static func assigned(_ id: TaskID, to engine: String) -> TaskChange { .assigned(id, to: EngineUUID(engine)) }

    static func stream(_ id: TaskID, _ name: String, _ text: String) -> TaskChange {
        .shown(id, .stream, ["name": .string(name), "text": .string(text)])
    }

    static func shown(_ id: TaskID, _ kind: TaskOutput.Kind, _ content: JSONObject) -> TaskChange {
        .output(id, TaskOutput(kind, content: JSONValue.object(content).packed))
    }
}

extension TaskStore {
    func record(_ id: TaskID) async throws -> TaskRecord {
        guard let record = try await self.records(of: [id], fields: TaskField.all).first else {
            throw StoreConformance.Violation(description: "no record \(id)")
        }
        return record
    }

    /// The ids of the records that match a query, which is given as JSON text.
    func ids(_ query: String) async throws -> [TaskID] {
        try await self.records(matching: try TaskQuery(JSONValue(parsing: query)), fields: [.id]).map { $0.id }
    }
}
