import ApusWire
import Logging
import NIOCore

/// Checks every message that comes to the controller. Only the gate can make the verified messages that the controller's desks
/// take.
///
/// A message that passes is whole, is signed with the cluster's key, is of a kind that its port admits, was not signed by this
/// controller itself, and has never come before, at any port. A message that does not pass is counted, logged and dropped, and
/// never answered.
///
/// A message can be used at one port only, because of its kind and because all ports share one memory of signatures: a request
/// that was taken at one port is dropped at another, and so is a copy of it that the controller signed anew for an engine.
final class Gate {
    /// A message whose shape, signature, port and freshness the gate has checked.
    struct VerifiedMessage: Sendable {
        let message: Message
        fileprivate init(_ message: Message) { self.message = message }
    }

    /// A checked request of a client or an engine, with its header, which has the request's type.
    struct VerifiedRequest: Sendable {
        let message: Message
        let header: MessageHeader
        fileprivate init(_ message: Message, _ header: MessageHeader) { (self.message, self.header) = (message, header) }
    }

    private let signer: Signer
    private let logger: Logger
    /// The session of the controller's own messages, as a header has it.
    private let ownSession: [UInt8]
    private var memory = ReplayMemory(lanes: Lane.allCases.count)
    /// How many messages did not pass.
    private(set) var dropped = 0

    /// The kinds of messages whose signatures are remembered, and forgotten, apart from the others'.
    private enum Lane: Int, CaseIterable { case requests, replies, output }

    init(session: Session, logger: Logger) {
        self.signer = session.signer
        self.ownSession = Array(session.id.utf8)
        self.logger = logger
    }

    // MARK: Passing

    /// Checks a request that came to the hub or to a port of clients; nil when it does not pass.
    func request(_ frames: [ByteBuffer], at port: ControllerSocket) -> VerifiedRequest? {
        do {
            let message = try self.signed(frames, at: port)
            let header = try MessageHeader(scanning: message.header)
            guard port.admits(request: header.type) else {
                throw WireError("a message of type '\(header.type)' has no business there")
            }
            guard !header.session.utf8.elementsEqual(self.ownSession) else { throw Self.ownMessage }
            try self.remember(message, .requests)
            return VerifiedRequest(message, header)
        } catch {
            self.drop("\(error)", at: port)
            return nil
        }
    }

    /// Checks a reply, a notice or output that came to a port of engines; nil when it does not pass.
    func message(_ frames: [ByteBuffer], at port: ControllerSocket) -> VerifiedMessage? {
        do {
            let message = try self.signed(frames, at: port)
            // Most messages of a busy controller come this way, so no strings are made of members that are only compared.
            let (kind, isOwn) = try message.header.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
                var (kind, isOwn) = (MessageKind?.none, false)
                try cursor.readMembers { (key, cursor) throws(WireError) in
                    switch key {
                    case "msg_type": kind = try cursor.readPlainTextOrSkip().map { MessageKind($0) }
                    case "session": isOwn = try cursor.readPlainTextOrSkip()?.elementsEqual(self.ownSession) ?? false
                    default: try cursor.skipValue()
                    }
                }
                return (kind, isOwn)
            }
            guard let kind, port.admits(kind) else { throw WireError("a message of its type has no business there") }
            guard !isOwn else { throw Self.ownMessage }
            try self.remember(message, port == .iopubEngine ? .output : .replies)
            return VerifiedMessage(message)
        } catch {
            self.drop("\(error)", at: port)
            return nil
        }
    }

    private func signed(_ frames: [ByteBuffer], at port: ControllerSocket) throws(WireError) -> Message {
        let message = try Message(frames: frames)
        guard message.identities.count >= port.identityCount else {
            throw WireError("it names \(message.identities.count) peers, and \(port.identityCount) are needed")
        }
        guard self.signer.accepts(message.signature, for: message.parts) else { throw WireError("its signature is wrong") }
        return message
    }

    private func remember(_ message: Message, _ lane: Lane) throws(WireError) {
        guard self.memory.remember(message.signature, lane: lane.rawValue) else { throw WireError("it was played again") }
    }

    private static let ownMessage = WireError("it is a message of this controller's own")

    /// Whether the frames of a message, or as many of them as have come, show that their sender has the key. A message that came
    /// before does not show it, because anyone may have copied it.
    func areKnown(_ frames: [ByteBuffer]) -> Bool {
        guard let message = try? Message(frames: frames) else { return false }
        return self.signer.accepts(message.signature, for: message.parts) && !self.memory.contains(message.signature)
    }

    /// Makes an error to take the place of a reply whose buffers were too large.
    func failed(_ reply: VerifiedMessage, _ error: ErrorContent) -> VerifiedMessage {
        var parts = reply.message.parts
        var metadata = (try? JSONValue(parsing: parts.metadata))?.object ?? [:]
        metadata[MetadataMember.status] = .string(ReplyMetadata.Status.error.rawValue)
        parts.metadata = JSONValue.object(metadata).packed
        parts.content = JSONValue.object(error.json).packed
        return VerifiedMessage(
            Message(
                identities: Array(reply.message.identities), signature: self.signer.signature(of: parts), parts: parts,
                buffers: []))
    }

    // MARK: Requests that are signed here

    /// Remembers a request that the controller has signed for an engine in its client's name, so that a reader of the network
    /// cannot replay it to the controller.
    func remember(own message: Message) { _ = self.memory.remember(message.signature, lane: Lane.requests.rawValue) }

    // MARK: Dropping

    /// Counts a dropped message, and logs the first, the second, the fourth and so on.
    func drop(_ reason: String, at port: ControllerSocket) {
        self.dropped += 1
        // At powers of two only: a peer without the key must not be able to fill the log.
        if self.dropped.nonzeroBitCount == 1 {
            self.logger.warning("dropped a message: \(reason)", metadata: ["socket": "\(port)", "dropped": "\(self.dropped)"])
        }
    }
}

typealias VerifiedMessage = Gate.VerifiedMessage
typealias VerifiedRequest = Gate.VerifiedRequest

/// The kind of a message, read from the bytes of its type.
enum MessageKind {
    case request, reply, shutdownReply, notice, other

    /// The types of messages that engines send about themselves, by the task port.
    private static let notices: [MessageType] = [.waitNotice, .engineEnded]

    init(_ type: UnsafeRawBufferPointer) {
        // The word `_request` alone is the type of each reply of ipyparallel's nanny.
        if type.ends(with: "_request"), type.count > "_request".utf8.count {
            self = .request
        } else if type.ends(with: "_reply") {
            self = type.elementsEqual("shutdown_reply".utf8) ? .shutdownReply : .reply
        } else {
            self = Self.notices.contains { type.elementsEqual($0.rawValue.utf8) } ? .notice : .other
        }
    }
}

extension UnsafeRawBufferPointer {
    fileprivate func ends(with word: StaticString) -> Bool {
        guard self.count >= word.utf8CodeUnitCount else { return false }
        return self.suffix(word.utf8CodeUnitCount).elementsEqual(
            UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount))
    }
}

extension ControllerSocket {
    /// How many peers a message names before its delimiter: its sender and, on direct ports, its receiver.
    fileprivate var identityCount: Int {
        switch self {
        case .muxClient, .controlClient, .muxEngine, .controlEngine: 2
        case .iopubEngine: 0
        default: 1
        }
    }

    /// Whether requests of that type may come here.
    fileprivate func admits(request type: MessageType) -> Bool {
        switch self {
        // The hub answers unknown requests with an error, except those that are for engines.
        case .registration: !type.isForEngines && !type.rawValue.hasSuffix("_reply")
        case .controlClient: type.isRequest && !type.isForHub
        case .muxClient, .taskClient, .broadcastClient: type.isRequest && !type.isForHub && type != .shutdownRequest
        default: false
        }
    }

    /// Whether engines send messages of that kind here.
    fileprivate func admits(_ kind: MessageKind) -> Bool {
        switch self {
        case .taskEngine: kind != .request
        case .muxEngine, .controlEngine, .broadcastEngine: kind != .request && kind != .notice
        case .iopubEngine: kind == .other || kind == .shutdownReply
        default: false
        }
    }
}

extension MessageType {
    /// Whether a client sends it to an engine: a request, or a message of a widget.
    fileprivate var isRequest: Bool { self.rawValue.hasSuffix("_request") || self.rawValue.hasPrefix("comm_") }

    fileprivate var isForHub: Bool {
        switch self {
        // Nearly all requests are of these types.
        case .applyRequest, .executeRequest: false
        case .registrationRequest, .unregistrationRequest, .functionsRequest, .connectionRequest, .queueRequest, .loadRequest,
            .uptimeRequest, .resultRequest, .historyRequest, .databaseRequest, .purgeRequest, .resubmitRequest,
            .becomeDaskRequest,
            .stopDistributedRequest:
            true
        // Only the controller itself sends these.
        case .recallRequest, .registerAgainRequest: true
        default: false
        }
    }

    fileprivate var isForEngines: Bool {
        switch self {
        case .applyRequest, .executeRequest, .abortRequest, .clearRequest, .signalRequest, .interruptRequest, .recallRequest,
            .registerAgainRequest:
            true
        default: false
        }
    }
}
