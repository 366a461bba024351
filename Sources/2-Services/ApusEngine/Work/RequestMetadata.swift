import ApusWire
import NIOCore

/// The members of a request's metadata that an engine reads, or copies into its reply.
///
/// Those with `apus_` in their names are what our own clients add; Python's do not send them, and Python's engines pass over
/// them.
struct RequestMetadata {
    /// The client needs no busy and idle status for this request.
    var isQuiet = false
    /// The arguments are sequences: call the function for each place and reply with the list of results.
    var maps = false
    /// Each call of a map has an outcome of its own: a call that fails does not end the map.
    var keepsOutcomes = false
    /// Microseconds after which a map begins no further call and gives the rest back; nil: it goes to its end.
    var slice: Int?
    /// How many arguments from the first on are what a closure captured.
    var captureCount = 0
    /// A limit of more seconds, some thirty years, is this one.
    private static let longestLimit = 1e9
    /// Seconds that a Python task may run before it is interrupted.
    var limit: Double?
    /// How many tasks it was submitted within.
    var depth = 0
    /// How often the task has been tried, this time among them.
    var attempt = 1
    /// The build that the function must be of.
    var build: String?
    /// Where the buffers are that did not come with the message (``SharedBuffers``).
    var shared: JSONValue?

    // Copied as they stand; nil where the request does not have them.
    private var label: ByteBuffer?
    private var isBroadcast: ByteBuffer?
    private var isCoalescing: ByteBuffer?
    private var originalMessageID: ByteBuffer?

    init(scanning bytes: ByteBuffer) throws(WireError) {
        try bytes.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
            try cursor.readMembers { (key, cursor) throws(WireError) in
                switch key {
                case "label": self.label = bytes.slice(try cursor.readRange())
                case "is_broadcast": self.isBroadcast = bytes.slice(try cursor.readRange())
                case "is_coalescing": self.isCoalescing = bytes.slice(try cursor.readRange())
                case "original_msg_id": self.originalMessageID = bytes.slice(try cursor.readRange())
                case ApusMember.quiet: self.isQuiet = try cursor.readValue().bool ?? false
                case ApusMember.map: self.maps = try cursor.readValue().bool ?? false
                case ApusMember.outcomes: self.keepsOutcomes = try cursor.readValue().bool ?? false
                case ApusMember.slice: self.slice = try cursor.readValue().int.map { max(0, $0) }
                case ApusMember.captures: self.captureCount = try cursor.readValue().int ?? 0
                case ApusMember.limit: self.limit = try cursor.readValue().double.map { min(max($0, 0), Self.longestLimit) }
                case ApusMember.depth: self.depth = max(0, try cursor.readValue().int ?? 0)
                case ApusMember.attempt: self.attempt = max(1, try cursor.readValue().int ?? 1)
                case ApusMember.build: self.build = try cursor.readStringOrSkip()
                case ApusMember.shared: self.shared = try cursor.readValue()
                default: try cursor.skipValue()
                }
            }
            try cursor.expectEnd()
        }
    }

    enum Status { case ok, error, aborted }

    /// The reply's metadata (protocol article, "Reply metadata").
    ///
    /// - Parameters:
    ///   - started: When the request was begun; nil for one that never was.
    ///   - outputs: How many output messages belong to the request. Only a quiet one's reply says so: its client waits for that
    ///     many and for no idle.
    ///   - work: Microseconds spent on the request, for the scheduler; said to quiet ones only, whose clients know the member.
    ///   - calls: How many calls of a map were made, where not all were.
    func reply(
        _ status: Status, by messages: EngineMessages, started: WireDate, meetsDependencies: Bool = true, outputs: Int,
        work: Int? = nil, calls: Int? = nil
    ) -> ByteBuffer {
        var json = ByteBufferAllocator().buffer(capacity: 320)
        json.writeStaticString("{\"started\": \"")
        started.write(into: &json)
        json.writeStaticString("\", \"dependencies_met\": ")
        json.writeStaticString(meetsDependencies ? "true" : "false")
        json.writeStaticString(", \"engine\": \"")
        json.writeString(messages.uuid.text)
        json.writeStaticString("\", \"is_broadcast\": ")
        json.write(self.isBroadcast, or: "false")
        json.writeStaticString(", \"is_coalescing\": ")
        json.write(self.isCoalescing, or: "false")
        json.writeStaticString(", \"original_msg_id\": ")
        json.write(self.originalMessageID, or: "\"\"")
        json.writeStaticString(", \"label\": ")
        json.write(self.label, or: "null")
        switch status {
        case .ok: json.writeStaticString(", \"status\": \"ok\"")
        case .aborted: json.writeStaticString(", \"status\": \"aborted\"")
        case .error:
            json.writeStaticString(", \"status\": \"error\", \"engine_info\": {\"engine_uuid\": \"")
            json.writeString(messages.uuid.text)
            json.writeStaticString("\", \"engine_id\": ")
            json.writeDecimal(messages.engineID.number)
            json.writeStaticString("}")
        }
        if self.isQuiet {
            json.writeMember(ApusMember.outputs)
            json.writeDecimal(outputs)
            if let work {
                json.writeMember(ApusMember.work)
                json.writeDecimal(work)
            }
        }
        if let calls {
            json.writeMember(ApusMember.calls)
            json.writeDecimal(calls)
        }
        if let limit = self.limit {
            // Said again, so that the client knows that it was heeded.
            json.writeMember(ApusMember.limit)
            JSONValue.double(limit).write(into: &json)
        }
        json.writeStaticString("}")
        return json
    }
}

extension ByteBuffer {
    fileprivate func slice(_ range: Range<Int>) -> ByteBuffer? {
        self.getSlice(at: self.readerIndex + range.lowerBound, length: range.count)
    }

    fileprivate mutating func write(_ json: ByteBuffer?, or standIn: StaticString) {
        if let json { self.writeImmutableBuffer(json) } else { self.writeStaticString(standIn) }
    }
}
