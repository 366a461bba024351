import ApusCore
import ApusTransport
import ApusWire
import Logging
import NIOCore
import Locks

// Messages, from the sockets to events; on the event loop.
extension ClientConnection {
    func handle(_ event: SocketEvent, on channel: Channel) {
        switch event {
        case .received(let messages):
            switch channel {
            case .iopub: for message in self.published(messages) { self.takeOutput(message) }
            case .notification: for message in self.published(messages) { self.takeNotification(message) }
            default: self.takeReplies(messages, from: channel)
            }
        case .tooLarge(let frames, let limit):
            guard channel.takesRequests else {
                return self.logger.warning("\(MessageSize.refusal(limit: limit))", metadata: ["socket": "\(channel)"])
            }
            guard let reply = self.gate.withLock({ $0.truncated(frames, from: channel, limit: limit) }) else { return }
            self.handle(reply.event)
        case .peerConnected: self.handle(.connected(channel))
        case .peerDisconnected:
            self.logger.debug("connection lost", metadata: ["socket": "\(channel)"])
            self.handle(.disconnected(channel))
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "\(channel)"])
        }
    }

    /// All that one read brought is decided under one lock.
    private func takeReplies(_ messages: [[ByteBuffer]], from channel: Channel) {
        let replies = self.gate.withLock { $0.replies(messages, from: channel) }
        if replies.isEmpty { return }
        let (now, received) = (MonotonicTime.now, WireDate.now)
        let deeds = self.state.withLock { state in
            var deeds: [Deed] = []
            deeds.reserveCapacity(replies.count)
            for reply in replies {
                self.decide(reply.event, with: .reply(reply.message, received: received), at: now, &state, &deeds)
            }
            return deeds
        }
        self.perform(deeds)
    }

    private func published(_ messages: [[ByteBuffer]]) -> [Message] {
        self.gate.withLock { gate in messages.compactMap { gate.published($0)?.message } }
    }

    private func takeOutput(_ message: Message) {
        guard let task = MessageHeader.messageID(scanning: message.parent),
            let header = try? MessageHeader(scanning: message.header)
        else { return }
        guard header.type == .status else {
            return self.handle(.outputCame(of: task), with: .output(header.type, message))
        }
        if message.content.textMember("execution_state") == "idle" { self.handle(.idled(after: task)) }
    }

    private func takeNotification(_ message: Message) {
        guard let header = try? MessageHeader(scanning: message.header), let content = try? JSONValue(parsing: message.content)
        else { return }
        switch header.type {
        case .registrationNotification:
            guard let id = content["id"]?.int, let uuid = content["uuid"]?.string else { return }
            self.handle(.engineNews(.added(EngineID(id), EngineUUID(uuid), content)))
        case .unregistrationNotification:
            guard let id = content["id"]?.int, let uuid = content["uuid"]?.string else { return }
            self.handle(.engineNews(.removed(EngineID(id), EngineUUID(uuid))))
        case .shutdownNotification: self.handle(.shutdownAnnounced)
        default: break
        }
    }
}
