import ApusStore
import ApusWire

extension StoreConformance {
    /// Tasks that differ in everything that queries compare.
    private static let examples: [TaskChange] = [
        .example("a1", at: 10, client: "ann", metadata: ["label": "first", "retries": 3, "after": ["x", "y"]]),
        .example("a2", at: 20, client: "ann", metadata: ["label": "second", "retries": 4.5, "after": ["x"]]),
        .example("b1", at: 30, client: "bob", queue: .direct, engine: "e1", metadata: ["label": nil, "retries": 10]),
        .example("b2", at: 40, client: "bob", metadata: ["label": "with * and ?"], buffers: ["12345"]),
        .assigned("a1", to: "e1"), .assigned("a2", to: "e2"),
        .exampleReply("a1", engine: "e1", at: 50),
        .exampleReply("a2", engine: "e2", at: 60, content: ["status": "error", "ename": "ValueError"]),
        .stream("a1", "stdout", "hello\nworld\n"), .stream("s", "stdout", "stub"),
    ]

    /// Queries, each with the ids of the examples that match.
    private static let questions: [(query: String, answer: [TaskID])] = [
        ("{}", ["a1", "a2", "b1", "b2", "s"]),
        ("{\"msg_id\": \"a2\"}", ["a2"]),
        ("{\"msg_id\": {\"$in\": [\"b1\", \"a1\", \"zz\", null]}}", ["a1", "b1"]),
        ("{\"msg_id\": {\"$nin\": [\"b1\", \"a1\"]}}", ["a2", "b2", "s"]),
        ("{\"msg_id\": {\"$ne\": \"\"}}", ["a1", "a2", "b1", "b2", "s"]),
        ("{\"msg_id\": {\"$glob\": \"a*\"}}", ["a1", "a2"]),
        ("{\"msg_id\": {\"$glob\": \"[!a]?\"}}", ["b1", "b2"]),
        ("{\"msg_id\": {\"$regex\": \"^[ab]2$\"}}", ["a2", "b2"]),
        ("{\"msg_id\": 7}", []),
        // Several fields, several operators.
        ("{\"client_uuid\": \"ann\", \"engine_uuid\": \"e1\"}", ["a1"]),
        ("{\"client_uuid\": \"bob\", \"queue\": \"task\"}", ["b2"]),
        ("{\"msg_id\": {\"$gt\": \"a1\", \"$lt\": \"b2\"}}", ["a2", "b1"]),
        ("{\"msg_id\": {\"$gte\": \"a2\", \"$lte\": \"b1\"}}", ["a2", "b1"]),
        // Dates compare as dates, in any spelling; null is neither before nor after a date.
        ("{\"submitted\": {\"$lt\": \"1970-01-01T00:00:30Z\"}}", ["a1", "a2"]),
        ("{\"submitted\": {\"$gt\": \"1970-01-01T00:00:20.000000Z\"}}", ["b1", "b2"]),
        ("{\"submitted\": {\"$gte\": \"1970-01-01T01:00:20+01:00\"}}", ["a2", "b1", "b2"]),
        ("{\"submitted\": \"1970-01-01T01:00:20+01:00\"}", ["a2"]),
        ("{\"submitted\": {\"$in\": [\"1970-01-01T00:00:30Z\", \"1970-01-01T00:00:40Z\"]}}", ["b1", "b2"]),
        ("{\"completed\": {\"$lte\": \"1970-01-01T00:00:50Z\"}}", ["a1"]),
        ("{\"completed\": {\"$lt\": \"later\"}}", []),
        ("{\"completed\": {\"$gt\": null}}", []),
        ("{\"completed\": {\"$lte\": null}}", []),
        ("{\"completed\": {\"$gt\": 5}}", []),
        ("{\"started\": {\"$lt\": \"1970-01-01T00:00:50Z\"}}", ["a1"]),
        ("{\"received\": {\"$gt\": \"1970-01-01T00:01:00Z\"}}", ["a2"]),
        ("{\"header.date\": {\"$lt\": \"1970-01-01T01:00:30+01:00\"}}", ["a1", "a2"]),
        // Null.
        ("{\"completed\": null}", ["b1", "b2", "s"]),
        ("{\"completed\": {\"$ne\": null}}", ["a1", "a2"]),
        ("{\"completed\": {\"$exists\": true}}", ["a1", "a2"]),
        ("{\"completed\": {\"$exists\": false}}", ["b1", "b2", "s"]),
        ("{\"engine_uuid\": null}", ["b2", "s"]),
        ("{\"engine_uuid\": {\"$ne\": \"e1\"}}", ["a2", "b2", "s"]),
        ("{\"engine_uuid\": {\"$in\": [null, \"e2\"]}}", ["a2", "b2", "s"]),
        ("{\"engine_uuid\": {\"$nin\": [null, \"e2\"]}}", ["a1", "b1"]),
        ("{\"engine_uuid\": {\"$glob\": \"*\"}}", ["a1", "a2", "b1"]),
        ("{\"queue\": {\"$exists\": 0}}", ["s"]),
        ("{\"label\": null}", ["b1", "s"]),
        // A name no record has is null everywhere.
        ("{\"nonsense\": null}", ["a1", "a2", "b1", "b2", "s"]),
        ("{\"nonsense\": {\"$gt\": 1}}", []),
        ("{\"header.nonsense.deep\": {\"$ne\": 1}}", ["a1", "a2", "b1", "b2", "s"]),
        // Members inside fields.
        ("{\"header.session\": \"bob\"}", ["b1", "b2"]),
        ("{\"metadata.retries\": {\"$gt\": 3}}", ["a2", "b1"]),
        ("{\"metadata.retries\": {\"$gte\": 3.0, \"$lt\": 10}}", ["a1", "a2"]),
        ("{\"metadata.retries\": {\"$mod\": [7, 3]}}", ["a1", "b1"]),
        ("{\"metadata.after\": {\"$all\": [\"x\", \"y\"]}}", ["a1"]),
        ("{\"metadata.after\": {\"$all\": [\"x\"]}}", ["a1", "a2"]),
        ("{\"metadata.after\": {\"$eq\": [\"x\"]}}", ["a2"]),
        ("{\"metadata.after.1\": \"y\"}", ["a1"]),
        ("{\"msg_id\": {\"$all\": [[\"a1\", \"b1\"], [\"a1\"]]}}", ["a1"]),
        ("{\"result_content.status\": \"error\"}", ["a2"]),
        ("{\"result_content\": {\"$eq\": {\"status\": \"ok\"}}}", ["a1"]),
        ("{\"buffers\": [5]}", ["b2"]),
        // Texts.
        ("{\"label\": {\"$glob\": \"*[*]*[?]\"}}", ["b2"]),
        ("{\"label\": {\"$regex\": \"(?i)^FIRST|second$\"}}", ["a1", "a2"]),
        ("{\"stdout\": {\"$regex\": \"lo\\nw\"}}", ["a1"]),
        ("{\"stdout\": \"stub\"}", ["s"]),
        ("{\"stdout\": {\"$gt\": \"\"}}", ["a1", "s"]),
        // Combinations.
        ("{\"$or\": [{\"msg_id\": \"a1\"}, {\"client_uuid\": \"bob\", \"queue\": \"task\"}]}", ["a1", "b2"]),
        ("{\"$and\": [{\"client_uuid\": \"ann\"}, {\"msg_id\": {\"$ne\": \"a1\"}}]}", ["a2"]),
        ("{\"$not\": {\"client_uuid\": \"ann\"}}", ["b1", "b2", "s"]),
        ("{\"submitted\": {\"$not\": {\"$lt\": \"1970-01-01T00:00:30Z\"}}}", ["b1", "b2", "s"]),
        ("{\"$or\": [{\"submitted\": null}, {\"$not\": {\"completed\": null}}], \"msg_id\": {\"$ne\": \"a2\"}}", ["a1", "s"]),
    ]

    private static let refusals: [(query: String, name: String, part: String)] = [
        ("[]", "TypeError", "a query is an object"),
        ("{\"msg_id\": {\"$near\": 1}}", "KeyError", "$near"),
        ("{\"msg_id\": {\"lt\": 1}}", "KeyError", "lt"),
        ("{\"$nor\": []}", "KeyError", "$nor"),
        ("{\"msg_id\": {\"$in\": \"a\"}}", "TypeError", "$in needs a list"),
        ("{\"msg_id\": {\"$mod\": [0, 1]}}", "ValueError", "$mod"),
        ("{\"msg_id\": {\"$glob\": 1}}", "TypeError", "$glob needs a text"),
        ("{\"msg_id\": {\"$regex\": \"(\"}}", "ValueError", "$regex"),
        ("{\"msg_id\": {\"$regex\": \"(a)\\\\1\"}}", "ValueError", "back"),
        ("{\"$or\": {}}", "TypeError", "$or needs a list"),
        ("{\"$and\": [1]}", "TypeError", "$and needs a list"),
        ("{\"$not\": 1}", "TypeError", "$not"),
    ]

    static let queryRules =
        questions.map { question in
            Rule("The query \(question.query) finds \(question.answer.map { $0.text })") { store in
                store.apply(examples)
                try expect(try await store.ids(question.query), question.answer)
            }
        } + [
            Rule("Fields that were not asked for are not needed to answer") { store in
                store.apply(examples)
                let query = try TaskQuery(["stdout": ["$regex": "hello"], "result_content.status": "ok"])
                let records = try await store.records(matching: query, fields: [.submitted])
                try expect(records.map { [$0.json(.id), $0.json(.submitted)] }, [["a1", "1970-01-01T00:00:10.000000Z"]])
            },
            Rule("What cannot be understood is refused, by Python's names") { store in
                for refusal in refusals {
                    let message = try await expectError(refusal.name) { _ = try await store.ids(refusal.query) }
                    if !message.contains(refusal.part) { throw Violation(description: "\(refusal.query): \(message)") }
                }
                try await expectError("KeyError") { _ = try TaskField.keys(["submitted", "nonsense"]) }
                try expect(try TaskField.keys(["submitted"]), [.id, .submitted])
            },
        ]
}
