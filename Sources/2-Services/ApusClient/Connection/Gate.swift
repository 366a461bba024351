import ApusCore
import ApusWire
import Logging
import NIOCore

/// Checks every message that comes to the client, and is the only maker of those that the connection takes.
///
/// What passes is whole, is signed with the cluster's key, and was never here before. What does not pass is counted and dropped.
struct Gate {
    /// A message whose shape, signature and freshness the gate has checked.
    struct VerifiedMessage: Sendable {
        let message: Message
        fileprivate init(_ message: Message) { self.message = message }
    }

    /// The same for a reply, with what the session has to know of it.
    struct VerifiedReply: Sendable {
        let reply: ClientSession.Reply
        let message: Message

        fileprivate init?(_ message: Message, from channel: ClientSession.Channel) {
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
            self.reply = reply
        }
    }

    private let signer: Signer
    private let logger: Logger
    private var memory = ReplayMemory(lanes: Lane.allCases.count)
    /// Messages that did not pass.
    private var dropped = 0

    /// Whose signatures are forgotten together.
    private enum Lane: Int, CaseIterable { case answers, published }

    init(signer: Signer, logger: Logger) {
        self.signer = signer
        self.logger = logger
    }

    /// A reply that came by the channel; nil when it did not pass, or answers nothing.
    mutating func reply(_ frames: [ByteBuffer], from channel: ClientSession.Channel) -> VerifiedReply? {
        guard let message = self.signed(frames), let reply = VerifiedReply(message, from: channel),
            self.memory.remember(message.signature, lane: Lane.answers.rawValue)
        else { return nil }
        return reply
    }

    /// What the controller published; nil when it did not pass.
    mutating func published(_ frames: [ByteBuffer]) -> VerifiedMessage? {
        guard let message = self.signed(frames), self.memory.remember(message.signature, lane: Lane.published.rawValue) else {
            return nil
        }
        return VerifiedMessage(message)
    }

    /// A reply whose last frames were not taken. Its signature is for those that were, but the whole never comes.
    mutating func truncated(_ frames: [ByteBuffer], from channel: ClientSession.Channel) -> VerifiedReply? {
        self.signed(frames).flatMap { VerifiedReply($0, from: channel) }
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
        // Nearly all, and found without a look at the rest.
        if self.content.textMember("status") == "ok" { return false }
        guard let content = try? JSONValue(parsing: self.content) else { return true }
        switch content["status"]?.string {
        case "aborted": return true
        case "error": return content[MetadataMember.engineInfo]?.object?.isEmpty ?? true
        default: return false
        }
    }
}
