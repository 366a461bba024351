import ApusCore
import ApusWire
import NIOCore

extension TaskRequest {
    /// Reads what scheduling needs out of a request's packed metadata (protocol article, "Request metadata").
    ///
    /// - Throws: ``WireError`` when the metadata is no object; fields of the wrong kind count as left out.
    init(_ id: TaskID, client: Int, scanning metadata: ByteBuffer) throws(WireError) {
        var request = TaskRequest(id, client: client)
        try metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
            try cursor.readMembers { (key, cursor) throws(WireError) in
                switch key {
                case "after": request.after = TaskDependency(try cursor.readValue())
                case "follow": request.follow = TaskDependency(try cursor.readValue())
                case "timeout":
                    if let seconds = try cursor.readValue().double, seconds > 0 { request.timeout = .seconds(min(seconds, 1e9)) }
                case "targets":
                    request.targets = (try cursor.readValue().array ?? []).compactMap { $0.string.map { EngineUUID($0) } }
                case "retries": request.retries = max(0, try cursor.readValue().int ?? 0)
                case ApusMember.priority: request.priority = try cursor.readValue().int ?? 0
                case ApusMember.depth: request.depth = max(0, try cursor.readValue().int ?? 0)
                case ApusMember.resources:
                    request.resources = ResourceAmounts.reading(try cursor.readValue())
                case ApusMember.retry: request.retryRule = RetryRule(try cursor.readValue())
                case ApusMember.engineTimeout:
                    if let seconds = try cursor.readValue().double, seconds >= 0 {
                        request.engineTimeout = .seconds(min(seconds, 1e9))
                    }
                case ApusMember.results:
                    request.inputs = Set(try ResultPlaces(try cursor.readValue()).results.values).sorted { $0.text < $1.text }
                case ApusMember.build: request.need = try cursor.readStringOrSkip().map { .build($0) }
                case ApusMember.limit: request.isLimited = try cursor.readValue().double != nil
                default: try cursor.skipValue()
                }
            }
        }
        self = request
    }
}

/// Amounts of resources, as engines own and tasks ask for them.
enum ResourceAmounts {
    /// Nobody owns more of anything, and sums of so much are exact.
    private static let most = 1e15

    /// Negative amounts are none: whoever asked for less than nothing would leave an engine with more than it has.
    static func reading(_ json: JSONValue) -> [String: Double] {
        (json.object ?? [:]).compactMapValues { $0.double.map { min(max($0, 0), Self.most) } }
    }
}

/// What the scheduler and the hub read of a reply's metadata.
struct ReplyMetadata {
    var status: TaskReply.Status?
    var dependenciesMet = true
    /// Microseconds of work, from engines that count them.
    var work: UInt32?

    init(scanning metadata: ByteBuffer) throws(WireError) {
        var status: String?
        var met = true
        var work: UInt32?
        try metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
            try cursor.readMembers { (key, cursor) throws(WireError) in
                switch key {
                case "status": status = try cursor.readStringOrSkip()
                case "dependencies_met": met = try cursor.readValue().bool ?? true
                case ApusMember.work: work = try cursor.readValue().int.map { UInt32(clamping: $0) }
                default: try cursor.skipValue()
                }
            }
        }
        self.work = work
        switch status {
        case "ok": self.status = .ok
        case "error": self.status = .error
        case "aborted": self.status = .aborted
        default: self.status = nil
        }
        self.dependenciesMet = met
    }
}
