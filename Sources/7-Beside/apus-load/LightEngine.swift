import ApusTransport
import ApusWire
import NIOCore

/// An engine that runs nothing: it registers, lives, and answers every request at once.
///
/// The engine has all sockets of a real one, so that it costs a controller as much as a real engine.
struct LightEngine {
    let uuid: EngineUUID
    var registrar: (any TransportSocket)?
    var shell: [Channel: any TransportSocket] = [:]
    var pong: (any TransportSocket)?
    /// Kept so that the connections stay.
    var silent: [any TransportSocket] = []
    /// The packed metadata of every reply but a broadcast's.
    let metadata: ByteBuffer

    /// The channels by which requests come.
    enum Channel: Hashable, Sendable { case mux, task, broadcast, control }

    private static let nothingToGive = ByteBuffer(string: #"{"status": "ok", "msg_ids": []}"#)
    static let content = ByteBuffer(string: #"{"status": "ok"}"#)
    /// Python's None, pickled: the result of a function that does nothing.
    static let result = ByteBuffer(bytes: [0x80, 0x04, 0x4e, 0x2e])

    init(uuid: EngineUUID) {
        self.uuid = uuid
        var metadata = ReplyMetadata.standIn(.ok, for: uuid)
        metadata[MetadataMember.dependenciesMet] = true
        metadata[MetadataMember.started] = .string(WireDate.now.description)
        metadata[ApusMember.work] = 10
        self.metadata = JSONValue.object(metadata).packed
    }

    /// The content of the registration request. The engine answers at once and never queues tasks, so it can promise to give back
    /// those that have not started: a controller then lets more than one task queue there.
    static func registration(_ uuid: EngineUUID) -> JSONObject { ["uuid": .string(uuid.text), "apus": ["recall": true]] }

    /// The answer to a request, with the members that a controller and a client need.
    func reply(to request: Message, from session: inout Session, on channel: Channel) -> Message? {
        guard let type = request.header.textMember("msg_type") else { return nil }
        if type == MessageType.recallRequest.rawValue {
            return session.message(
                .recallReply, id: session.nextMessageID(), identities: Array(request.identities), parent: request.header,
                content: Self.nothingToGive)
        }
        var metadata = self.metadata
        if channel == .broadcast, let asked = try? JSONValue(parsing: request.metadata) {
            metadata =
                JSONValue.object(
                    ReplyMetadata.standIn(.ok, for: self.uuid).answering(
                        broadcast: asked[MetadataMember.originalMessageID] ?? "",
                        isCoalescing: asked[MetadataMember.isCoalescing]?.bool ?? false)
                ).packed
        }
        return session.message(
            MessageType(rawValue: type).reply, id: session.nextMessageID(), identities: Array(request.identities),
            parent: request.header, metadata: metadata, content: Self.content, buffers: [Self.result])
    }
}
