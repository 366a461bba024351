import ApusCore
import ApusTransport
import ApusWire
import Logging
import NIOCore

// Passes each message that comes in through the gate to its desk.
extension ControllerService {
    // MARK: Events of sockets

    func handle(_ event: SocketEvent, at socket: ControllerSocket) {
        switch event {
        case .received(let messages): for frames in messages { self.take(frames, at: socket) }
        case .tooLarge(let frames, let limit): self.refuseTooLarge(frames, limit: limit, at: socket)
        case .peerConnected where socket == .notification: self.hub.subscriberConnected()
        case .peerConnected(let identity) where socket == .taskClient: self.tasks.clientConnected(identity)
        case .peerConnected(let identity) where socket == .muxClient: self.direct.clientConnected(identity)
        case .peerConnected(let identity) where socket == .broadcastClient:
            self.direct.returningToBroadcasts.connected(identity)
        case .peerConnected(let identity):
            if socket.isForEachEngine { self.outlets[socket]?.note(.connected(identity)) }
            if let line = socket.line { self.hub.connected(identity, by: line) }
        case .peerDisconnected(let identity):
            if socket == .taskClient, let number = self.tasks.clientLeft(identity) {
                self.logger.debug("a client left", metadata: ["client": "\(number)"])
            }
            if self.tasks.watchesClients { self.tasks.disconnected(.init(socket: socket, identity: identity)) }
            if socket == .muxClient { self.direct.clientLeft(identity) }
            if socket == .broadcastClient { self.direct.returningToBroadcasts.disconnected(identity) }
            if socket.isForEachEngine { self.outlets[socket]?.note(.disconnected(identity)) }
            if let line = socket.line { self.hub.disconnected(identity, by: line) }
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "\(socket)"])
        }
        self.settle()
    }

    func handle(_ event: SocketEvent, atLeaf leaf: Int) {
        switch event {
        case .received(let messages): for frames in messages { self.take(frames, at: .broadcastEngine) }
        case .tooLarge(let frames, let limit): self.refuseTooLarge(frames, limit: limit, at: .broadcastEngine)
        case .peerConnected(let identity): self.broadcasts.connected(identity, at: leaf)
        case .peerDisconnected(let identity): self.broadcasts.disconnected(identity)
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "broadcast \(leaf)"])
        }
        self.settle()
    }

    /// Sends the messages of an event that has been handled, at once and not at the end of the loop's turn.
    func settle() {
        self.outlets.flush()
        self.recorder.settle()
    }

    // MARK: Messages

    /// Passes a message that the gate lets in to its desk.
    private func take(_ frames: [ByteBuffer], at socket: ControllerSocket) {
        switch socket {
        case .heartbeatPong: self.hub.takePong(frames)
        case .registration, .muxClient, .controlClient, .taskClient, .broadcastClient:
            guard let request = self.gate.request(frames, at: socket) else { return }
            if self.tasks.watchesClients, let identity = request.message.identities.first {
                self.tasks.heard(request.header.session, by: .init(socket: socket, identity: identity))
            }
            switch socket {
            case .registration: self.hub.take(request)
            case .muxClient: self.direct.relayMux(request)
            case .controlClient:
                if request.header.type == .abortRequest { self.tasks.abortWaiting(request) }
                self.direct.relayControl(request)
            case .taskClient: self.tasks.take(request)
            default: self.broadcasts.take(request)
            }
        case .muxEngine, .controlEngine, .taskEngine, .iopubEngine, .broadcastEngine:
            guard let message = self.gate.message(frames, at: socket) else { return }
            self.take(message, at: socket)
        case .notification, .heartbeatPing, .iopubClient: break
        }
    }

    /// Passes an engine's message to its desk.
    private func take(_ message: VerifiedMessage, at socket: ControllerSocket) {
        switch socket {
        case .taskEngine:
            // Replies name their client; notices do not.
            if message.message.identities.count == 1 { self.takeNotice(message.message) } else { self.tasks.takeReply(message) }
        case .muxEngine:
            if let ending = self.direct.relayMuxReply(message) { self.tasks.directRequestEnded(ending) }
        case .controlEngine: self.takeControlReply(message)
        case .iopubEngine:
            if let ending = self.direct.relayOutput(message) { self.hub.engineSaidGoodbye(ending) }
        default: self.broadcasts.takeReply(message)
        }
    }

    /// Passes on a notice, which an engine sends about itself: `[engine, delimiter, …]`.
    private func takeNotice(_ notice: Message) {
        let engine = EngineUUID(String(buffer: notice.identities[0]))
        switch try? MessageHeader(scanning: notice.header).type {
        case .engineEnded: self.hub.takeLastWords(notice, from: engine)
        default: self.tasks.takeWaitNotice(notice, from: engine)
        }
    }

    /// Passes on a control reply, `[engine, client, delimiter, …]`, where the client may be the controller itself.
    private func takeControlReply(_ reply: VerifiedMessage) {
        let message = reply.message
        let engine = EngineUUID(String(buffer: message.identities[0]))
        if message.identities[1] == ControllerSession.identity {
            let isReport = (try? MessageHeader(scanning: message.header))?.type == .reportReply
            return isReport ? self.hub.takeReport(message, from: engine) : self.tasks.takeRecallReply(message, from: engine)
        }
        guard self.hub.isTimely(message, from: engine) else { return }
        self.hub.look(at: message, from: engine)
        self.direct.relayControlReply(reply)
        self.tasks.engineTouched(engine)
    }

    // MARK: Messages that are too large

    /// Answers a message that is too large, from a peer that has the key, with an error, so that no client waits for a message
    /// that was not taken.
    ///
    /// - Parameter frames: The frames that were taken; all that are signed, where only the buffers are too large.
    private func refuseTooLarge(_ frames: [ByteBuffer], limit: Int, at socket: ControllerSocket) {
        let error = ErrorContent(.valueError, MessageSize.refusal(limit: limit))
        switch socket {
        case .registration, .muxClient, .controlClient, .taskClient, .broadcastClient:
            guard let request = self.gate.request(frames, at: socket) else { return }
            if socket == .broadcastClient { return self.broadcasts.refuse(request, error) }
            let identities = Array(request.message.identities)
            let reply = self.session.message(
                request.header.type.reply, identities: identities, parent: request.message.header,
                metadata: ReplyMetadata.standIn(.error),
                content: error.json)
            self.outlets[socket]?.send(reply.frames)
        case .muxEngine, .controlEngine, .taskEngine, .broadcastEngine:
            guard let reply = self.gate.message(frames, at: socket) else { return }
            self.take(self.gate.failed(reply, error), at: socket)
        case .iopubEngine, .heartbeatPong, .notification, .heartbeatPing, .iopubClient:
            self.gate.drop(MessageSize.refusal(limit: limit), at: socket)
        }
    }
}

extension ControllerSocket {
    /// Which of an engine's connections a connection to this socket is; nil for none that the hub watches.
    fileprivate var line: EngineConnections.Line? {
        switch self {
        case .muxEngine: .mux
        case .taskEngine: .task
        case .heartbeatPong: .heart
        default: nil
        }
    }

    /// Whether it is one of ``Outlets/engineSide``.
    fileprivate var isForEachEngine: Bool { self == .taskEngine || self == .muxEngine || self == .controlEngine }
}
