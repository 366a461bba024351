import ApusStore
import ApusWire
import NIOCore

extension FuzzTarget {
    /// A query for task records, asked of the store and of each record by itself.
    static let queries = FuzzTarget(
        "queries", of: ["ApusStore", "ApusWire"], longestInput: 200,
        seeds: [
            #"{"msg_id": "a"}"#, #"{"msg_id": {"$in": ["a", "c"]}}"#,
            #"{"completed": {"$gte": "2026-01-02T03:04:05Z"}, "queue": "task"}"#,
            #"{"$or": [{"engine_uuid": "e"}, {"$not": {"stdout": {"$regex": "^o+"}}}]}"#,
            #"{"header.msg_type": {"$glob": "apply*"}}"#,
            #"{"content.k": {"$mod": [2, 1]}, "label": {"$exists": true}}"#, #"{"metadata.list": {"$all": [1, 2]}}"#,
            #"{"resubmitted": null, "content": {"$ne": {"k": 1.0}}}"#, #"{"metadata.list.0": {"$lt": 3, "$gt": -1e300}}"#,
            #"{"$and": [{"msg_id": {"$nin": ["a"]}}, {"started": {"$not": {"$lte": 5}}}]}"#,
        ].map { ByteBuffer(string: $0) },
        words: [
            "$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$all", "$mod", "$exists", "$regex", "$glob", "$not",
            "$and", "$or",
            "msg_id", "header", "metadata", "content", "buffers", "submitted", "client_uuid", "engine_uuid", "queue", "label",
            "started",
            "completed", "received", "result_header", "result_content", "stdout", "outputs", "9223372036854775807", "0.5",
            "1e300",
        ]
    ) { input in
        guard let json = try? JSONValue(parsing: input) else { return }
        _ = try? TaskField.keys(json)
        let query: TaskQuery
        do throws(TaskStoreError) { query = try TaskQuery(json) } catch {
            try require(!error.message.isEmpty, "a query that is none is told why")
            return
        }
        let matches = records.filter { query.matches($0) }.map(\.id)
        let found = MemoryTasks.records(matching: query, among: tasks.candidates(for: query)).map(\.id)
        try require(found == matches, "the store finds what matches")
        let opposite = try TaskQuery(["$not": json])
        try require(
            records.filter { opposite.matches($0) }.count + matches.count == records.count,
            "a record matches a query or its opposite")
        _ = query.fields
    }

    /// A regular expression or shell pattern, a line feed, and a text. An expression in brackets, or given twice as a choice, means what
    /// it meant; a shell pattern fits what a simple matcher fits.
    static let textPatterns = FuzzTarget(
        "text-patterns", of: ["ApusStore"], longestInput: 80,
        seeds: [
            "(?i)^a+b*(c|d)?$\nAAbc", "[^a-c\\d]{2,3}\nxyz", "\\bw\\w+\\s\\S\\Z\nwo r", "(?:x|)y\\x41\\u00e9\nyA", "a{x}|\\.\na",
            "*.[ch]\nmain.c",
            "[!a-z]?*\nX1", "(?P<n>a)*?.\nab", "((a*)*)*b\naaaa", "(a|b|ab)*c\nababc", "(?ms)^.$\na\nb", "[]a-]\n-",
        ].map { ByteBuffer(string: $0) },
        words: [
            "(?i)", "(?s)", "(?m)", "(?:", "(?P<", "{1,3}", "{,2}", "\\b", "\\B", "\\A", "\\Z", "\\d", "\\W", "[^", "\\u00df",
            "){9}",
        ]
    ) { input in
        let parts = String(buffer: input).split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false).map {
            String($0)
        }
        let (pattern, text) = (parts[0], parts.count > 1 ? parts[1] : "")
        if let expression = try? TextPattern(expression: pattern) {
            let fits = expression.matches(text)
            if !pattern.hasPrefix("(?") {
                if let inBrackets = try? TextPattern(expression: "(?:\(pattern))") {
                    try require(inBrackets.matches(text) == fits, "brackets change nothing")
                }
                if let twice = try? TextPattern(expression: "\(pattern)|\(pattern)") {
                    try require(twice.matches(text) == fits, "a choice of one and the same is that one")
                }
            }
        }
        if let glob = try? TextPattern(glob: pattern), !pattern.contains("[") {
            let fits = simplyFits(Array(pattern.unicodeScalars)[...], Array(text.unicodeScalars)[...])
            try require(glob.matches(text) == fits, "a shell pattern fits what it says")
        }
    }
}

private let tasks: MemoryTasks = {
    var tasks = MemoryTasks()
    for (number, id) in ["a", "b", "c"].enumerated() {
        let request = message(
            #"{"msg_id": "\#(id)", "msg_type": "apply_request", "session": "s", "date": "2026-01-02T03:04:0\#(number)Z"}"#,
            #"{"label": "l\#(number)", "list": [1, 2, {"x": 1.5}], "k": null}"#,
            #"{"k": \#(number), "text": "2026-01-02T03:04:05Z"}"#)
        tasks.apply(
            .submitted(
                TaskID(id), request: request, client: "ann", date: WireDate(microseconds: Int64(number)),
                queue: number == 1 ? .direct : .balanced,
                engine: number == 1 ? EngineUUID("e") : nil))
    }
    tasks.apply(.assigned(TaskID("a"), to: EngineUUID("e")))
    let reply = message(
        #"{"msg_id": "r", "msg_type": "apply_reply", "date": "2026-01-02T03:04:05Z"}"#,
        #"{"engine": "e", "status": "ok", "started": "2026-01-02T03:04:04.5Z"}"#, #"{"status": "ok"}"#)
    tasks.apply(.completed(TaskID("a"), reply: reply, received: WireDate(microseconds: 9)))
    tasks.apply(.output(TaskID("a"), TaskOutput(.stream, content: ByteBuffer(string: #"{"name": "stdout", "text": "ooh"}"#))))
    tasks.apply(.output(TaskID("d"), TaskOutput(.displayData, content: ByteBuffer(string: #"{"data": {"text/plain": "7"}}"#))))
    return tasks
}()

private let records = ["a", "b", "c", "d"].compactMap { tasks.record(TaskID($0)) }

private func message(_ header: String, _ metadata: String, _ content: String) -> Message {
    Message(
        identities: [], signature: ByteBuffer(),
        parts: MessageParts(
            header: ByteBuffer(string: header), metadata: ByteBuffer(string: metadata), content: ByteBuffer(string: content)),
        buffers: [ByteBuffer(string: "buffer")])
}

/// Matches shell patterns without sets in the simplest way.
private func simplyFits(_ pattern: ArraySlice<Unicode.Scalar>, _ text: ArraySlice<Unicode.Scalar>) -> Bool {
    // Which beginnings of the text fit the pattern so far, by their lengths: a row of the table for each letter of the pattern.
    var reached = [true] + Array(repeating: false, count: text.count)
    for letter in pattern {
        var next = Array(repeating: false, count: text.count + 1)
        if letter == "*" {
            var isReached = false
            for place in 0...text.count {
                isReached = isReached || reached[place]
                next[place] = isReached
            }
        } else {
            for (place, other) in text.enumerated() where reached[place] && (letter == "?" || letter == other) {
                next[place + 1] = true
            }
        }
        reached = next
    }
    return reached[text.count]
}
