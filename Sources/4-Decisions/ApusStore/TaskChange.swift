package import ApusWire
import NIOCore

/// A change to a task, or to the records.
///
/// Changes to one task come in the order they happened, except output, which may come before the request.
package enum TaskChange: Sendable {
    /// A client asked for a task. If there is a stub of that id it becomes the task's record; a second request changes nothing.
    ///
    /// `engine` is known at once where the client named it.
    case submitted(
        TaskID, request: Message, client: String, date: WireDate?, queue: TaskQueue?, engine: EngineUUID?)
    /// The scheduler sent the task, which had failed so often, to this engine; nil: the task has failed and waits for an engine. Says
    /// nothing new once the task has ended.
    case assigned(TaskID, to: EngineUUID?, failures: Int = 0)
    /// The task ended. Of several endings the first is kept; one of an unknown task changes nothing.
    case completed(TaskID, reply: Message, received: WireDate)
    /// The task printed or showed something. If the task is unknown this begins a stub.
    case output(TaskID, TaskOutput)
    /// The task was run again under a new id, whose request comes as a change of its own.
    case resubmitted(TaskID, as: TaskID)
    /// Forget these tasks, whatever their state.
    case drop([TaskID])
    /// Forget all tasks that have ended.
    case dropCompleted
    /// Forget all tasks that have ended and that this engine ran.
    case dropCompletedOf(EngineUUID)
}

extension TaskChange {
    /// The task ended because its engine died, or for another reason that only the hub could report.
    ///
    /// Python's hub leaves the reply's metadata null here, which stops its clients from fetching the result; this has it.
    package static func lost(
        _ id: TaskID, on engine: EngineUUID?, error: ErrorContent, at date: WireDate
    ) -> TaskChange {
        let engineText: JSONValue = engine.map { .string($0.text) } ?? .null
        let parts = MessageParts(
            header: JSONValue.object(["engine": engineText, "date": .string(date.description)]).packed,
            metadata: JSONValue.object(
                ReplyMetadata.standIn(.error).merging([MetadataMember.engine.description: engineText]) { $1 }
            ).packed,
            content: JSONValue.object(error.json).packed)
        return .completed(
            id, reply: Message(identities: [], signature: ByteBuffer(), parts: parts, buffers: []), received: date)
    }

    /// The change that Python's hub records for direct tasks that were on an engine when it died.
    package static func stranded(_ id: TaskID, on engine: EngineUUID, at date: WireDate) -> TaskChange {
        .lost(
            id, on: engine, error: ErrorContent(.engineError, "Engine \(engine) died while running task '\(id)'"), at: date)
    }
}

extension TaskRecord {
    /// Takes a request into the record.
    package mutating func submit(
        request: Message, client: String, date: WireDate?, queue: TaskQueue?, engine: EngineUUID?
    ) {
        guard self.isStub else { return }
        self.request = request
        self.client = client
        self.submitted = date
        self.queue = queue
        // The engine that the scheduler reported is at least as recent as the one that the client named.
        if self.assignedEngine == nil { self.assignedEngine = engine }
    }

    package mutating func assign(to engine: EngineUUID?, failures: Int = 0) {
        guard !self.isFinished else { return }
        self.assignedEngine = engine
        self.failures = failures
    }

    package mutating func complete(reply: Message, received: WireDate) {
        guard !self.isFinished, !self.isStub else { return }
        self.reply = reply
        self.received = received
    }

    package mutating func resubmit(as id: TaskID) { self.resubmittedAs = id }

    /// Takes a change to this task; changes to many tasks change nothing.
    package mutating func take(_ change: TaskChange) {
        switch change {
        case .submitted(_, let request, let client, let date, let queue, let engine):
            self.submit(request: request, client: client, date: date, queue: queue, engine: engine)
        case .assigned(_, let engine, let failures): self.assign(to: engine, failures: failures)
        case .completed(_, let reply, let received): self.complete(reply: reply, received: received)
        case .output(_, let output): self.append(output)
        case .resubmitted(_, let newID): self.resubmit(as: newID)
        case .drop, .dropCompleted, .dropCompletedOf: break
        }
    }
}
