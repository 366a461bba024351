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
        self.metadata =
            JSONValue.object([
                "status": "ok", "engine": .string(uuid.text), "dependencies_met": true,
                "started": .string(WireDate.now.description), ApusMember.work.description: 10,
            ]).packed
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
                JSONValue.object([
                    "status": "ok", "engine": .string(self.uuid.text), "is_broadcast": true,
                    "is_coalescing": asked["is_coalescing"] ?? false, "original_msg_id": asked["original_msg_id"] ?? "",
                ]).packed
        }
        return session.message(
            MessageType(rawValue: type).reply, id: session.nextMessageID(), identities: Array(request.identities),
            parent: request.header, metadata: metadata, content: Self.content, buffers: [Self.result])
    }
}
