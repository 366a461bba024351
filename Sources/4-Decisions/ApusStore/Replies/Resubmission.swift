package import ApusWire
package import NIOCore

/// A recorded task made ready to run again under a new id (protocol article, "resubmit").
///
/// The hub signs `parts`, sends them with the buffers to the task scheduler without identities, and applies ``changes(request:)``.
package struct Resubmission: Sendable {
    package let original: TaskID
    package let id: TaskID
    /// The session of the client that asked first; it stays the owner.
    package let client: String
    package let date: WireDate
    package let parts: MessageParts
    package let buffers: [ByteBuffer]

    /// Whether the new request keeps the old one's metadata: its dependencies, targets, retries and label.
    package enum Metadata: Sendable {
        /// As in ipyparallel: the task runs anywhere, at once, and is not retried. Only members that Apus's engines need for the
        /// call stay.
        case empty
        case original
    }

    /// - Returns: Nil when the record has no request.
    package init?(of record: TaskRecord, as id: TaskID, at date: WireDate, metadata: Metadata = .empty) {
        guard let request = record.request, var header = record.json(.header).object else { return nil }
        header["msg_id"] = .string(id.text)
        header["date"] = .string(date.description)
        self.original = record.id
        self.id = id
        self.client = record.client
        self.date = date
        self.parts = MessageParts(
            header: JSONValue.object(header).packed,
            metadata: metadata == .original ? request.metadata : Self.howToCall(record), content: request.content)
        self.buffers = Array(request.buffers)
    }

    private static func howToCall(_ record: TaskRecord) -> ByteBuffer {
        let members = record.json(.metadata).object ?? [:]
        let kept = Set(
            [ApusMember.map, ApusMember.captures, ApusMember.build, ApusMember.results, ApusMember.shared].map(\.description))
        return JSONValue.object(members.filter { kept.contains($0.key) }).packed
    }

    /// The changes for the store: the new task, and its id in the old task's record.
    package func changes(request: Message) -> [TaskChange] {
        [
            .submitted(self.id, request: request, client: self.client, date: self.date, queue: .balanced, engine: nil),
            .resubmitted(self.original, as: self.id),
        ]
    }
}

extension HubAnswers {
    /// The first half of `resubmit_request`: the tasks that are to run again.
    ///
    /// - Throws: A `KeyError` if one of the records is missing; then no task runs again.
    package nonisolated(nonsending) func tasksToResubmit(_ content: JSONValue) async throws(TaskStoreError) -> [TaskRecord] {
        var seen: Set<TaskID> = []
        let ids = try Self.ids(content).filter { seen.insert($0).inserted }
        let records = try await self.store.records(of: ids, fields: [.id, .header, .metadata, .content, .buffers, .client])
        let found = Set(records.lazy.filter { !$0.isStub }.map { $0.id })
        let missing = ids.filter { !found.contains($0) }
        guard missing.isEmpty else {
            throw TaskStoreError(.keyError, "No such msg(s): [\(missing.map { "'\($0)'" }.joined(separator: ", "))]")
        }
        if let record = records.first(where: \.lacksRequest) {
            throw TaskStoreError(
                .valueError,
                "task '\(record.id)' cannot be run again: its request was lost with a controller that was killed, and only the "
                    + "answer is known")
        }
        if let record = records.first(where: { $0.lacksRequestBuffers }) {
            throw TaskStoreError(
                .valueError,
                "task '\(record.id)' cannot be run again: its arguments were too large to be kept when it had ended "
                    + "(DictDB.size_limit, or --sqlitedb)")
        }
        return records
    }

    /// The second half of `resubmit_request`: the answer, once the new requests are sent.
    package static func resubmitted(_ tasks: [Resubmission]) -> HubAnswer {
        var ids: JSONObject = [:]
        for task in tasks { ids[task.original.text] = .string(task.id.text) }
        return HubAnswer(content: ["status": "ok", "resubmitted": .object(ids)])
    }
}
