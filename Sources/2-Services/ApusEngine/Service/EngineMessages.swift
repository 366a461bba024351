import ApusCore
import ApusWire
import NIOCore

/// One of the engine's sockets, by which requests come and messages about them go.
enum EngineChannel: Sendable, Hashable {
    case registration
    case mux
    case task
    case broadcast
    case control
    case iopub

    /// Whether requests come by the channel that run something.
    var takesTasks: Bool { self == .mux || self == .task || self == .broadcast }
}

/// A message on its way to a socket.
struct OutgoingMessage: Sendable {
    let channel: EngineChannel
    let message: Message
}

/// Makes the messages that an engine sends about its requests.
///
/// The event loop, the worker and the output reader have one each, of the same session: their message ids differ.
struct EngineMessages: Sendable {
    let engineID: EngineID
    let uuid: EngineUUID
    /// As replies name it.
    var engine: (id: EngineID, uuid: EngineUUID) { (self.engineID, self.uuid) }
    private var session: Session
    /// `{"engine": "<uuid>"}`, what Python's engines write into all messages but replies to tasks.
    private let metadata: ByteBuffer
    private let statusTopic: ByteBuffer
    private let errorTopic: ByteBuffer

    init(engineID: EngineID, uuid: EngineUUID, signer: Signer) {
        self.engineID = engineID
        self.uuid = uuid
        self.session = Session(id: uuid.text, signer: signer)
        self.metadata = JSONValue.object([MetadataMember.engine.description: .string(uuid.text)]).packed
        self.statusTopic = ByteBuffer(string: "engine.\(engineID).status")
        self.errorTopic = ByteBuffer(string: "engine.\(engineID).error")
    }

    // MARK: Output

    enum ExecutionState {
        case starting, busy, idle

        fileprivate var content: ByteBuffer {
            switch self {
            case .starting: Self.startingContent
            case .busy: Self.busyContent
            case .idle: Self.idleContent
            }
        }

        private static let startingContent = ByteBuffer(string: "{\"execution_state\": \"starting\"}")
        private static let busyContent = ByteBuffer(string: "{\"execution_state\": \"busy\"}")
        private static let idleContent = ByteBuffer(string: "{\"execution_state\": \"idle\"}")
    }

    mutating func status(_ state: ExecutionState, parent: ByteBuffer) -> OutgoingMessage {
        OutgoingMessage(
            channel: .iopub,
            message: self.make(
                .status, identities: [self.statusTopic], parent: parent, metadata: self.metadata, content: state.content))
    }

    mutating func error(_ error: ErrorContent, parent: ByteBuffer) -> OutgoingMessage {
        let content: JSONObject = [
            "ename": .string(error.name), "evalue": .string(error.value), "traceback": JSONValue(error.traceback),
        ]
        return OutgoingMessage(
            channel: .iopub,
            message: self.make(
                .error, identities: [self.errorTopic], parent: parent, metadata: self.metadata,
                content: JSONValue.object(content).packed))
    }

    mutating func stream(_ name: String, _ text: String, parent: ByteBuffer) -> OutgoingMessage {
        var content = ByteBufferAllocator().buffer(capacity: text.utf8.count + 64)
        content.writeString("{\"name\": \"\(name)\", \"text\": ")
        content.writeJSONString(text)
        content.writeStaticString("}")
        return OutgoingMessage(
            channel: .iopub,
            message: self.make(
                .stream, identities: [ByteBuffer(string: "engine.\(self.engineID).\(name)")], parent: parent, content: content))
    }

    /// A message that user code publishes.
    mutating func output(
        _ type: MessageType, topic: String, parent: ByteBuffer, metadata: ByteBuffer, content: ByteBuffer, buffers: [ByteBuffer]
    ) -> OutgoingMessage {
        OutgoingMessage(
            channel: .iopub,
            message: self.make(
                type, identities: [ByteBuffer(string: topic)], parent: parent, metadata: metadata, content: content,
                buffers: buffers))
    }

    mutating func shutdownOutput(restart: Bool, parent: ByteBuffer) -> OutgoingMessage {
        OutgoingMessage(
            channel: .iopub,
            message: self.make(
                .shutdownReply, identities: [ByteBuffer(string: "engine.\(self.engineID).shutdown")], parent: parent,
                content: JSONValue.object(["status": "ok", "restart": .bool(restart)]).packed))
    }

    // MARK: Notices

    /// Tells the scheduler that a task waits for others, or goes on.
    mutating func waitNotice(of task: MessageID, waits: Bool) -> OutgoingMessage {
        OutgoingMessage(
            channel: .task,
            message: self.make(
                .waitNotice, identities: [], parent: MessageParts.emptyObject,
                content: JSONValue.object(["msg_id": .string(task.text), "waits": .bool(waits)]).packed))
    }

    // MARK: Replies

    /// A reply to the request, on the channel by which the request came.
    mutating func reply(
        _ type: MessageType, to request: Message, on channel: EngineChannel, metadata: ByteBuffer? = nil, content: ByteBuffer,
        buffers: [ByteBuffer] = []
    ) -> OutgoingMessage {
        OutgoingMessage(
            channel: channel,
            message: self.make(
                type, identities: Array(request.identities), parent: request.header, metadata: metadata ?? self.metadata,
                content: content, buffers: buffers))
    }

    private mutating func make(
        _ type: MessageType, identities: [ByteBuffer], parent: ByteBuffer, metadata: ByteBuffer = MessageParts.emptyObject,
        content: ByteBuffer, buffers: [ByteBuffer] = []
    ) -> Message {
        let id = self.session.nextMessageID()
        return self.session.message(
            type, id: id, identities: identities, parent: parent, metadata: metadata, content: content, buffers: buffers)
    }
}
