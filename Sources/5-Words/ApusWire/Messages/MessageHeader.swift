package import NIOCore

/// The fields of a message's header that Apus reads: who sent the message, when, and of which type.
package struct MessageHeader: Sendable, Hashable {
    package var id: MessageID
    package var type: MessageType
    package var session: String
    package var username: String
    package var date: WireDate?

    package init(id: MessageID, type: MessageType, session: String, username: String, date: WireDate?) {
        self.id = id
        self.type = type
        self.session = session
        self.username = username
        self.date = date
    }

    /// Reads the fields out of a packed header, passing over unknown ones.
    ///
    /// - Throws: ``WireError`` when the bytes are no JSON object, or `msg_id` or `msg_type` is missing.
    package init(scanning bytes: ByteBuffer) throws(WireError) {
        var id: String?
        var type: String?
        var session = ""
        var username = ""
        var date: String?
        try bytes.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
            try cursor.readMembers { (key, cursor) throws(WireError) in
                switch key {
                case "msg_id": id = try cursor.readStringOrSkip()
                case "msg_type": type = try cursor.readStringOrSkip()
                case "session": session = try cursor.readStringOrSkip() ?? ""
                case "username": username = try cursor.readStringOrSkip() ?? ""
                case "date": date = try cursor.readStringOrSkip()
                default: try cursor.skipValue()
                }
            }
            try cursor.expectEnd()
        }
        guard let id, let type else { throw WireError("a header has no \(id == nil ? "msg_id" : "msg_type")") }
        self.init(
            id: MessageID(id), type: MessageType(rawValue: type), session: session, username: username,
            date: date.flatMap { WireDate($0) })
    }

    /// The `msg_id` of a packed header or parent header, or nil when it is `{}` or no header at all.
    package static func messageID(scanning bytes: ByteBuffer) -> MessageID? {
        bytes.textMember("msg_id").map { MessageID($0) }
    }
}

extension ByteBuffer {
    /// The text of that name in the packed object, or nil when there is none, it is no text or this is no object.
    package func textMember(_ name: StaticString) -> String? {
        let text = try? self.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) -> String? in
            guard try cursor.find(name) else { return nil }
            return try cursor.readStringOrSkip()
        }
        return text ?? nil
    }
}
