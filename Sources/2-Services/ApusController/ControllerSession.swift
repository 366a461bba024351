import ApusWire
import NIOCore

/// Makes the controller's own messages, and signs requests anew that it changes on their way to an engine. All desks share one
/// session, because no two messages may have the same id.
final class ControllerSession {
    /// The identity under which the controller's own control requests travel; a client's has five bytes and begins with zero.
    static let identity = ByteBuffer(string: "apus")

    private var session: Session
    private let gate: Gate

    init(_ session: Session, gate: Gate) {
        self.session = session
        self.gate = gate
    }

    var signer: Signer { self.session.signer }
    func nextMessageID() -> MessageID { self.session.nextMessageID() }

    /// A new signed message whose parts are JSON values.
    ///
    /// - Parameter parent: The packed header of the message that this one answers, byte for byte as it came.
    func message(
        _ type: MessageType, identities: [ByteBuffer] = [], parent: ByteBuffer = MessageParts.emptyObject,
        metadata: JSONObject = [:], content: JSONObject, buffers: [ByteBuffer] = []
    ) -> Message {
        self.session.message(
            type, identities: identities, parent: parent, metadata: metadata, content: content, buffers: buffers)
    }

    /// A reply that was made of others, signed for a client.
    func signed(_ parts: MessageParts, identities: [ByteBuffer], buffers: [ByteBuffer]) -> Message {
        self.session.signed(parts, identities: identities, buffers: buffers)
    }

    /// A recorded answer as the answer to this request, which its client has sent again.
    func repeating(_ answer: Message, to request: Message, identities: [ByteBuffer]) -> Message {
        var parts = answer.parts
        parts.parent = request.header
        return self.signed(parts, identities: identities, buffers: Array(answer.buffers))
    }

    /// A copy that signs requests on other threads, for ``remember(_:)``.
    var forSigning: Session { self.session }

    /// Has the gate remember the signature of a request that was signed with ``forSigning``, so that a copy of it is dropped.
    func remember(_ message: Message) { self.gate.remember(own: message) }

    /// A client's request, signed anew for an engine. The gate remembers the signature, so that a copy of it is dropped.
    func signedAgain(_ parts: MessageParts, identities: [ByteBuffer], buffers: [ByteBuffer]) -> Message {
        let message = self.session.signed(parts, identities: identities, buffers: buffers)
        self.gate.remember(own: message)
        return message
    }
}
