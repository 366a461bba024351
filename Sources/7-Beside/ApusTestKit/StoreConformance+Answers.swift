import ApusStore
import ApusWire
import NIOCore

extension StoreConformance {
    private static func error(_ answer: HubAnswer) -> [JSONValue?] {
        [answer.content["status"], answer.content["ename"], answer.content["evalue"]]
    }

    private static func texts(_ buffers: [ByteBuffer]) -> [String] { buffers.map { String(buffer: $0) } }

    static let answerRules = [
        Rule("Results come sorted by id, their buffers one after the other") { store in
            store.apply([
                .example("b"), .example("a", metadata: ["label": "x"], buffers: ["argument"]), .example("c"),
                .exampleReply("b", engine: "e", buffers: ["b1", "b2"]), .exampleReply("a", engine: "e", buffers: ["a1"]),
                .stream("a", "stdout", "hello"),
            ])
            let answer = await HubAnswers(store: store).results(["msg_ids": ["c", "b", "a", "b"], "status_only": false])
            try expect(texts(answer.buffers), ["a1", "b1", "b2"])
            try expect(answer.content["completed"], ["a", "b"])
            try expect(answer.content["pending"], ["c"])
            try expect(Set(answer.content.keys), ["status", "completed", "pending", "a", "b"])
            try expect(
                answer.content["a"],
                [
                    "header": .object(exampleHeader("a", "apply_request", session: "client", at: 10)),
                    "metadata": ["label": "x"],
                    "result_metadata": ["engine": "e", "status": "ok", "started": "1970-01-01T00:00:19.500000Z"],
                    "result_header": .object(exampleHeader("a-reply", "apply_reply", session: "e", at: 20)),
                    "result_content": ["status": "ok"], "received": "1970-01-01T00:00:20.250000Z",
                    "io": [
                        "execute_input": nil, "execute_result": nil, "error": nil, "stdout": "hello", "stderr": "",
                        "outputs": [],
                    ],
                ])
        },
        Rule("Asked only for the status, it gives no results") { store in
            store.apply([.example("a"), .example("b"), .exampleReply("b", engine: "e", buffers: ["b1"])])
            let answer = await HubAnswers(store: store).results(["msg_ids": ["a", "b"], "status_only": true])
            try expect(answer, HubAnswer(content: ["status": "ok", "pending": ["a"], "completed": ["b"]]))
        },
        Rule("One unknown id makes the whole result an error") { store in
            store.apply([.example("a"), .stream("s", "stdout", "x")])
            let answers = HubAnswers(store: store)
            for statusOnly in [false, true] {
                let unknown = await answers.results(["msg_ids": ["a", "x"], "status_only": .bool(statusOnly)])
                try expect(error(unknown), ["error", "KeyError", "No such message: x"])
                let stub = await answers.results(["msg_ids": ["a", "s"], "status_only": .bool(statusOnly)])
                try expect(stub.content["ename"], "KeyError")
            }
            try expect(await answers.results([:]).content["ename"], "TypeError")
            try expect(await answers.results(["msg_ids": [1]]).content["ename"], "TypeError")
        },
        Rule("History is every id, by submission") { store in
            store.apply([.example("b", at: 2), .example("a", at: 1), .stream("s", "stdout", "x")])
            try expect(await HubAnswers(store: store).history().content, ["status": "ok", "history": ["a", "b"]])
        },
        Rule("A query gives the fields asked for, and always the id") { store in
            store.apply([.example("a", buffers: ["12", "3"]), .example("b"), .exampleReply("a", engine: "e", buffers: ["r"])])
            let answers = HubAnswers(store: store)
            try expect(
                await answers.query(["query": ["msg_id": "a"], "keys": ["submitted", "engine_uuid"]]),
                HubAnswer(content: [
                    "status": "ok",
                    "records": [["msg_id": "a", "submitted": "1970-01-01T00:00:10.000000Z", "engine_uuid": "e"]],
                    "buffer_lens": nil, "result_buffer_lens": nil,
                ]))
            let buffers = await answers.query(["query": [:], "keys": ["result_buffers", "buffers"]])
            try expect(buffers.content["records"], [["msg_id": "a"], ["msg_id": "b"]])
            try expect(buffers.content["buffer_lens"], [2, 0])
            try expect(buffers.content["result_buffer_lens"], [1, 0])
            try expect(texts(buffers.buffers), ["12", "3", "r"])
        },
        Rule("A query that names no keys gives everything but buffers") { store in
            store.apply([.example("a", buffers: ["12"]), .exampleReply("a", engine: "e")])
            let answer = await HubAnswers(store: store).query(["query": ["msg_id": ["$in": ["a"]]], "keys": nil])
            let expected = TaskField.allButBuffers.subtracting([.displayData]).map { $0.rawValue }
            try expect(Set(answer.content["records"]?.array?.first?.object.map { Array($0.keys) } ?? []), Set(expected))
            try expect(answer.buffers, [])
        },
        Rule("A query that cannot be understood is answered with an error") { store in
            let answers = HubAnswers(store: store)
            try expect(await answers.query(["query": ["a": ["$b": 1]]]).content["ename"], "KeyError")
            try expect(await answers.query(["query": [:], "keys": ["nosuchkey"]]).content["ename"], "KeyError")
        },
        Rule("Purging forgets what has ended, and refuses what has not") { store in
            store.apply([.example("a"), .example("b"), .example("c"), .example("d"), .example("e")])
            store.apply([
                .exampleReply("b", engine: "e0"), .exampleReply("c", engine: "e1"), .exampleReply("d", engine: "e0"),
                .exampleReply("e", engine: "e1"),
            ])
            let answers = HubAnswers(store: store)
            let engines: [EngineID: EngineUUID] = [0: EngineUUID("e0"), 1: EngineUUID("e1")]
            let pending = await answers.purge(["msg_ids": ["b", "a"], "engine_ids": []], engines: engines)
            try expect(error(pending), ["error", "IndexError", "msg pending: 'a'"])
            let unknown = await answers.purge(["msg_ids": ["b"], "engine_ids": [7]], engines: engines)
            try expect(error(unknown), ["error", "IndexError", "No such engine: 7"])
            try expect(try await store.ids("{}"), ["a", "b", "c", "d", "e"])

            let some = await answers.purge(["msg_ids": ["b"], "engine_ids": []], engines: engines)
            try expect(some.content, ["status": "ok"])
            try expect(try await store.ids("{}"), ["a", "c", "d", "e"])
            _ = await answers.purge(["msg_ids": [], "engine_ids": [0]], engines: engines)
            try expect(try await store.ids("{}"), ["a", "c", "e"])
            _ = await answers.purge(["msg_ids": "all"], engines: [:])
            try expect(try await store.ids("{}"), ["a"])
        },
        Rule("A task is run again under a new id and date, and stays its first client's") { store in
            store.apply([
                .example("a", client: "ann", metadata: ["label": "x"], content: ["code": "1"], buffers: ["b1", "b2"]),
                .exampleReply("a", engine: "e"), .stream("s", "stdout", "x"),
            ])
            let answers = HubAnswers(store: store)
            let message = try await expectError("KeyError") {
                _ = try await answers.tasksToResubmit(["msg_ids": ["a", "x", "s"]])
            }
            try expect(message, "No such msg(s): ['x', 's']")

            let records = try await answers.tasksToResubmit(["msg_ids": ["a"]])
            let tasks = records.compactMap { Resubmission(of: $0, as: "a2", at: date(99)) }
            guard let task = tasks.first else { throw Violation(description: "nothing to resubmit") }
            try expect(
                try JSONValue(parsing: task.parts.header),
                .object(exampleHeader("a2", "apply_request", session: "ann", at: 99)))
            try expect(String(buffer: task.parts.metadata), "{}")
            try expect(try JSONValue(parsing: task.parts.content), ["code": "1"])
            try expect(texts(task.buffers), ["b1", "b2"])
            try expect(HubAnswers.resubmitted(tasks).content, ["status": "ok", "resubmitted": ["a": "a2"]])

            store.apply(
                task.changes(
                    request: Message(
                        identities: [], signature: ByteBuffer(), parts: task.parts, buffers: task.buffers)))
            try expect(try await store.record("a").json(.resubmitted), "a2")
            try expect(try await store.states(of: ["a2"]), [.unfinished])
            try expect(try await store.record("a2").json(.client), "ann")
            let kept = records.compactMap { Resubmission(of: $0, as: "a3", at: date(99), metadata: .original) }
            try expect(try kept.map { try JSONValue(parsing: $0.parts.metadata) }, [["label": "x"]])
        },
    ]
}
