import ApusCore
import ApusWire
import Logging
import NIOCore

/// Checks every message that comes to the client, and is the only maker of verified messages.
///
/// A message that passes is whole, is signed with the cluster's key, and was never here before. Any other is counted and dropped.
struct Gate {
    /// A message whose shape, signature and freshness the gate has checked.
    struct VerifiedMessage: Sendable {
        let message: Message
        fileprivate init(_ message: Message) { self.message = message }
    }

    /// A reply that the gate has checked in the same way, with the event that the session is given.
    struct VerifiedReply: Sendable {
        let event: ClientSession.Event
        let message: Message

        /// - Parameter limit: How large replies may be, where the message is the first part of a reply that is larger.
        fileprivate init?(_ message: Message, from channel: ClientSession.Channel, tooLargeFor limit: Int? = nil) {
            guard let request = MessageHeader.messageID(scanning: message.parent) else { return nil }
            self.message = message
            var reply = ClientSession.Reply(to: request)
            if channel.takesTasks {
                reply.outputs = ReplyMetadata.outputCount(scanning: message.metadata)
                if reply.outputs == nil { reply.isSynthetic = message.isSynthetic }
            }
            switch channel {
            case .broadcast: reply.original = message.metadata.textMember(MetadataMember.originalMessageID).map { MessageID($0) }
            case .query: reply.hub = message.header.textMember("session")
            default: break
            }
            self.event = limit.map { .replyWasTooLarge(reply, limit: $0) } ?? .replied(reply)
        }
    }

    private let signer: Signer
    private let logger: Logger
    private var memory = ReplayMemory(lanes: Lane.allCases.count)
    /// How many messages did not pass.
    private var dropped = 0

    /// Groups of messages; the signatures of one group are forgotten together.
    private enum Lane: Int, CaseIterable { case answers, published }

    init(signer: Signer, logger: Logger) {
        self.signer = signer
        self.logger = logger
    }

    /// The replies that came by the channel, without replies that did not pass, or that answer nothing.
    mutating func replies(_ messages: [[ByteBuffer]], from channel: ClientSession.Channel) -> [VerifiedReply] {
        var replies: [VerifiedReply] = []
        replies.reserveCapacity(messages.count)
        for frames in messages {
            guard let message = self.signed(frames), let reply = VerifiedReply(message, from: channel),
                self.memory.remember(message.signature, lane: Lane.answers.rawValue)
            else { continue }
            replies.append(reply)
        }
        return replies
    }

    /// A message that the controller published; nil when the message did not pass.
    mutating func published(_ frames: [ByteBuffer]) -> VerifiedMessage? {
        guard let message = self.signed(frames), self.memory.remember(message.signature, lane: Lane.published.rawValue) else {
            return nil
        }
        return VerifiedMessage(message)
    }

    /// A reply whose last frames were not taken: its signature covers the frames that were taken, and the whole never comes.
    mutating func truncated(_ frames: [ByteBuffer], from channel: ClientSession.Channel, limit: Int) -> VerifiedReply? {
        self.signed(frames).flatMap { VerifiedReply($0, from: channel, tooLargeFor: limit) }
    }

    /// The message, or nil when it is malformed or not the controller's: then it is counted, logged and dropped.
    private mutating func signed(_ frames: [ByteBuffer]) -> Message? {
        do {
            let message = try Message(frames: frames)
            guard self.signer.accepts(message.signature, for: message.parts) else { throw WireError("a signature is wrong") }
            return message
        } catch {
            self.dropped += 1
            if self.dropped == 1 { self.logger.warning("a message from the controller was dropped: \(error)") }
            return nil
        }
    }
}

extension Message {
    /// Whether no user code made the reply: a dead engine, an impossible dependency, an abort.
    fileprivate var isSynthetic: Bool {
        // Nearly all replies have this content, and are recognised without a look at the rest.
        if self.content.textMember("status") == "ok" { return false }
        guard let content = try? JSONValue(parsing: self.content) else { return true }
        switch content["status"]?.string {
        case "aborted": return true
        case "error": return content[MetadataMember.engineInfo]?.object?.isEmpty ?? true
        default: return false
        }
    }
}
