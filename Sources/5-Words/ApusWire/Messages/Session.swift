package import NIOCore

/// Makes the messages of one participant, under its identity on the wire.
package struct Session: Sendable {
    /// The session id: for an engine its uuid and socket identity.
    package let id: String
    package let username: String
    package let signer: Signer
    /// The start of every message id; a counter follows. The first two billion ids have fifteen bytes at most, which Swift stores
    /// without allocating.
    private let prefix: String
    private var count: UInt64 = 0

    package init(id: String = Session.newID(), username: String = Session.currentUser, signer: Signer) {
        self.id = id
        self.username = username
        self.signer = signer
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".utf8)
        self.prefix = String(decoding: (0..<8).map { _ in letters.randomElement() ?? 65 }, as: UTF8.self) + "_"
    }

    /// Sixteen random bytes as text, with a dash after the first eight digits, as Python's sessions have it.
    package static func newID() -> String {
        func digits(_ count: Int) -> String {
            (0..<count).map { _ in String(UInt8.random(in: 0..<16), radix: 16) }.joined()
        }
        return digits(8) + "-" + digits(24)
    }

    package mutating func nextMessageID() -> MessageID {
        self.count += 1
        return self.messageID(number: self.count)
    }

    /// The id of this session's message of that number, for a caller that counts messages itself.
    package func messageID(number: UInt64) -> MessageID { MessageID(self.prefix + String(number, radix: 36)) }

    /// A new signed message.
    ///
    /// - Parameter parent: The packed header of the message that this one answers, byte for byte as it came.
    package func message(
        _ type: MessageType, id: MessageID, identities: [ByteBuffer] = [], parent: ByteBuffer = MessageParts.emptyObject,
        metadata: ByteBuffer = MessageParts.emptyObject, content: ByteBuffer = MessageParts.emptyObject,
        buffers: [ByteBuffer] = [],
        date: WireDate = .now
    ) -> Message {
        var header = ByteBufferAllocator().buffer(capacity: 320)
        self.writeHeader(id: id, type: type, date: date, into: &header)
        return self.signed(
            MessageParts(header: header, parent: parent, metadata: metadata, content: content), identities: identities,
            buffers: buffers)
    }

    /// A new signed message under this session's next id.
    package mutating func message(
        _ type: MessageType, identities: [ByteBuffer] = [], parent: ByteBuffer = MessageParts.emptyObject,
        metadata: ByteBuffer = MessageParts.emptyObject, content: ByteBuffer, buffers: [ByteBuffer] = [], date: WireDate = .now
    ) -> Message {
        self.message(
            type, id: self.nextMessageID(), identities: identities, parent: parent, metadata: metadata, content: content,
            buffers: buffers,
            date: date)
    }

    /// A new signed message whose parts are JSON values.
    package mutating func message(
        _ type: MessageType, identities: [ByteBuffer] = [], parent: ByteBuffer = MessageParts.emptyObject,
        metadata: JSONObject = [:], content: JSONObject, buffers: [ByteBuffer] = []
    ) -> Message {
        self.message(
            type, id: self.nextMessageID(), identities: identities, parent: parent, metadata: JSONValue.object(metadata).packed,
            content: JSONValue.object(content).packed, buffers: buffers)
    }

    package func signed(_ parts: MessageParts, identities: [ByteBuffer], buffers: [ByteBuffer]) -> Message {
        Message(identities: identities, signature: self.signer.signature(of: parts), parts: parts, buffers: buffers)
    }

    package func writeHeader(id: MessageID, type: MessageType, date: WireDate, into header: inout ByteBuffer) {
        header.writeStaticString("{\"msg_id\": \"")
        header.writeString(id.text)
        header.writeStaticString("\", \"msg_type\": \"")
        header.writeString(type.rawValue)
        header.writeStaticString("\", \"username\": ")
        header.writeJSONString(self.username)
        header.writeStaticString(", \"session\": \"")
        header.writeString(self.id)
        header.writeStaticString("\", \"date\": \"")
        date.write(into: &header)
        header.writeStaticString("\", \"version\": \"5.4\"}")
    }
}
