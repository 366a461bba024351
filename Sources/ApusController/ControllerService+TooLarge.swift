import ApusTransport
import ApusWire
import NIOCore

// What becomes of messages that are larger than is taken, of peers that have the key: whoever waits for an answer gets an error, so
// that nobody waits for what was passed over.
extension ControllerService {
    /// - Parameter frames: What came of the message: where it is the buffers that are too large, all that is signed.
    func refuseTooLarge(_ frames: [ByteBuffer], limit: Int, at socket: ControllerSocket) {
        let error = ErrorContent(.valueError, MessageSize.refusal(limit: limit))
        switch socket {
        case .registration, .muxClient, .controlClient, .taskClient, .broadcastClient:
            guard let request = self.gate.request(frames, at: socket) else { return }
            if socket == .broadcastClient { return self.refuseBroadcast(request, error) }
            let identities = Array(request.message.identities)
            let reply = self.session.message(
                request.header.type.reply, identities: identities, parent: request.message.header, metadata: ["status": "error"],
                content: error.json)
            self.send(reply.frames, on: socket)
        case .muxEngine, .controlEngine, .taskEngine, .broadcastEngine:
            guard let reply = self.gate.message(frames, at: socket) else { return }
            self.take(self.gate.failed(reply, error), at: socket)
        case .iopubEngine, .heartbeatPong, .notification, .heartbeatPing, .iopubClient:
            self.dropped(MessageSize.refusal(limit: limit), at: socket)
        }
        self.flushSockets()
        self.scheduleFlush()
    }
}
