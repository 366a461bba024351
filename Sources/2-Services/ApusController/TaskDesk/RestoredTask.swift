import ApusCore
import ApusStore
import ApusWire
import NIOCore

/// An unfinished request of the controller before this one, made from its record.
struct RestoredTask: Sendable {
    /// The request with its client's session as the client's identity, followed by the engine for a direct request.
    /// Signed anew, for a record keeps no signature.
    let message: Message
    let header: MessageHeader
    /// The engine that was given the task last; nil if the record has none.
    let engine: EngineUUID?
    let failures: Int
    /// When the client submitted the task.
    let submitted: WireDate?
    /// What the request of a load-balanced task asks of the scheduler; nothing for a direct request.
    let asked: RequestMetadata.ForScheduler

    /// - Throws: ``WireError`` when the record has no request, or its header or metadata cannot be read.
    init(_ record: TaskRecord, signing session: Session) throws(WireError) {
        guard let request = record.request, !record.lacksRequest else { throw WireError("task '\(record.id)' has no request") }
        self.header = try MessageHeader(scanning: request.header)
        var identities = [ByteBuffer(string: record.client)]
        if record.queue == .direct, let engine = record.assignedEngine { identities.append(ByteBuffer(string: engine.text)) }
        self.message = session.signed(request.parts, identities: identities, buffers: Array(request.buffers))
        self.engine = record.assignedEngine
        self.failures = record.failures
        self.submitted = record.submitted
        self.asked = record.queue == .balanced ? try RequestMetadata.ForScheduler(scanning: request.metadata) : .init()
    }

    /// The rest of a time-out that began when the task was submitted, at least a millisecond; nil or zero stay as they are.
    func remaining(of timeout: Duration?, at now: WireDate) -> Duration? {
        guard let timeout, timeout > .zero, let submitted else { return timeout }
        return max(.milliseconds(1), timeout - .microseconds(max(0, now.microseconds - submitted.microseconds)))
    }
}
