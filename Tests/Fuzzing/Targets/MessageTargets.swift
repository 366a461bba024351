import ApusCore
import ApusWire
import NIOCore

@testable import ApusController
@testable import ApusEngine

extension FuzzTarget {
    /// One JSON text.
    static let json = FuzzTarget(
        "json", of: ["ApusWire"], longestInput: 200,
        seeds: [
            #"{"a": [1, -2.5e3, true, false, null], "b": {"c": "\u00e9\n\"\\"}}"#, #""\ud83d\ude00 \/ \b\f\t\r""#, "[[[]], {}]",
            "1e308",
            "-9223372036854775808", "123456789012345678901234567890", "  [ 1 , 2 ]  ", #"{"a": 1, "a": 2, "\u0061": 3}"#,
        ].map { ByteBuffer(string: $0) },
        words: ["\\u", "\\ud83d\\ude00", "true", "false", "null", "\": ", "e+", "-0.0", "{\"", "\"}", "[[", "]]"]
    ) { input in
        var read: JSONValue?
        do throws(WireError) { read = try JSONValue(parsing: input) } catch {
            try require(!error.description.isEmpty, "what is no JSON is told why")
        }
        guard let read else { return }
        try require(try JSONValue(parsing: read.packed) == read, "what is packed is read as it was")
        try require(try JSONValue(parsing: read.indentedText) == read, "what is indented is read as it was")
        try input.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
            try cursor.skipValue()
            try cursor.expectEnd()
        }
        guard let members = read.object, let text = members["a"]?.string else { return }
        // Of repeated members the first is found and the last is read; only a malicious sender repeats members.
        try require(input.textMember("a") != nil || input.readableBytesView.split(separator: UInt8(ascii: "a")).count > 2, text)
    }

    /// A message as its frames, which a byte 255 separates, for no JSON text has it. Every reader of such parts reads all of its
    /// parts.
    static let messages = FuzzTarget(
        "messages", of: ["ApusWire", "ApusController", "ApusEngine"], longestInput: 500,
        seeds: [
            [
                "peer", "<IDS|MSG>", "",
                #"{"msg_id": "a", "msg_type": "apply_request", "session": "s", "date": "2026-01-02T03:04:05.678901Z"}"#,
                "{}", #"{"after": ["t1"], "follow": {"dependencies": ["t2"], "all": false}, "timeout": 1.5, "retries": 3}"#, "{}",
                "buffer",
            ],
            [
                "<IDS|MSG>", "0123456789abcdef0123456789abcdef",
                #"{"msg_id": "b", "msg_type": "abort_request", "username": "u"}"#, "{}",
                #"{"apus_limit": 2.0, "apus_depth": 1, "apus_results": [[2, "t1"]], "apus_quiet": true, "label": "x"}"#,
                #"{"msg_ids": ["a"], "apus_running": true}"#,
            ],
            [
                "<IDS|MSG>", "", #"{"msg_id": "c", "msg_type": "signal_request"}"#, #"{"msg_id": "a"}"#,
                #"{"apus_resources": {"gpu": 1}, "apus_retry": {"pause": 1, "errors": ["E"]}, "apus_build": "b", "targets": ["e"]}"#,
                #"{"sig": 9, "ename": "E", "evalue": "v", "traceback": ["l"], "engine_info": {"engine_id": 0}}"#,
            ],
            [
                "<IDS|MSG>", "", #"{"msg_id": "d", "msg_type": "shutdown_request"}"#, "{}",
                #"{"status": "ok", "dependencies_met": false, "apus_work": 12, "started": "2026-01-02T03:04:05Z", "engine": "e"}"#,
                #"{"restart": true}"#,
            ],
        ].map { (frames: [String]) in ByteBuffer(bytes: frames.map { Array($0.utf8) }.joined(separator: [0xff])) },
        words: [
            "<IDS|MSG>", "msg_id", "msg_type", "session", "username", "date", "after", "follow", "dependencies", "timeout",
            "retries",
            "apus_limit", "apus_depth", "apus_results", "apus_resources", "apus_retry", "apus_build", "apus_priority", "targets",
            "label",
            "is_broadcast", "is_coalescing", "original_msg_id", "apus_captures", "apus_map", "apus_shared", "signal_request",
            "abort_request", "shutdown_request", "1e300", "-1", "9223372036854775807", "2026-01-02T03:04:05.678901+02:00",
        ]
    ) { input in
        guard let message = try? Message(frames: input.split(at: 0xff)) else { return }
        try require(
            message.identities.count + 6 + message.buffers.count == message.frames.count, "every frame of a message has its place"
        )
        try require(
            message.readdressed(to: []).frames.count == message.frames.count - message.identities.count, "identities can go")
        try require(!signer.accepts(message.signature, for: message.parts), "nobody guesses a signature")
        var seen = ReplayMemory(limit: 2)
        _ = seen.remember(message.signature)
        try checkHeader(message)
        try checkMetadata(message.metadata)
        guard let content = try? JSONValue(parsing: message.content) else { return }
        let error = ErrorContent(content)
        try require(ErrorContent(.object(error.json)) == error, "an error's content that is written is read as it was")
        for type in ["abort_request", "signal_request", "shutdown_request", "apus_recall_request"] {
            _ = ControlRequest(MessageType(rawValue: type), content: content)
        }
        if message.buffers.count > 0 { _ = try? message.mapping(content) }
    }
}

private let signer = try? Signer(key: "a key that no input has")
private let engineMessages = EngineMessages(engineID: 0, uuid: EngineUUID("e"), signer: .unsigned)

extension Signer? {
    fileprivate func accepts(_ signature: ByteBuffer, for parts: MessageParts) -> Bool {
        self?.accepts(signature, for: parts) ?? true
    }
}

private func checkHeader(_ message: Message) throws {
    guard let header = try? MessageHeader(scanning: message.header) else { return }
    if let read = try? JSONValue(parsing: message.header) {
        try require(read["msg_id"]?.string == header.id.text, "a header that is scanned has the id of one that is read")
        try require(read["msg_type"]?.string == header.type.rawValue, "a header that is scanned has the type of one that is read")
    }
    _ = MessageHeader.messageID(scanning: message.parent)
    guard let date = header.date else { return }
    // Years of four digits are written as they are read.
    try require(
        WireDate(date.description) == date || date.microseconds < -62_100_000_000_000_000,
        "a date that is written is read as it was")
}

private func checkMetadata(_ metadata: ByteBuffer) throws {
    if let request = try? RequestMetadata.ForScheduler(scanning: metadata) {
        try require(request.retries >= 0 && request.depth ?? 0 >= 0, "counts of a request are no debts")
        try require(request.timeout ?? .zero <= Duration.seconds(1e9), "a request's time is one that can be waited for")
    }
    _ = try? ReplyMetadata.ForController(scanning: metadata)
    guard let request = try? RequestMetadata.ForEngine(scanning: metadata), (try? JSONValue(parsing: metadata)) != nil else {
        return
    }
    let reply = request.reply(.error, by: engineMessages.engine, started: WireDate(microseconds: 0), outputs: 1, work: 1)
    try require((try? JSONValue(parsing: reply)) != nil, "the metadata of a reply is JSON when its request's was")
}
