import ApusCore
public import ApusWire
import NIOCore

/// The hub's record of one task, with the fields that a query asked for.
public struct HubRecord: Sendable, CustomStringConvertible {
    /// The task's id.
    public let id: TaskID
    /// The fields by their names on the wire: `header`, `metadata`, `content`, `submitted`, `engine_uuid`, `result_content` and
    /// so on.
    public let fields: JSONObject
    /// Bytes of each buffer of the request; empty unless the query's keys name `buffers`.
    public let bufferSizes: [Int]
    /// Bytes of each buffer of the result; empty unless the query's keys name `result_buffers`.
    public let resultBufferSizes: [Int]

    /// When the client sent the task.
    public var submitted: WireDate? { self.date("submitted") }
    /// When the engine began the task.
    public var started: WireDate? { self.date("started") }
    /// When the engine finished the task.
    public var completed: WireDate? { self.date("completed") }
    /// When the result reached the hub.
    public var received: WireDate? { self.date("received") }
    /// The id under which the task was last run again.
    public var resubmitted: TaskID? { self.fields["resubmitted"]?.string.map { TaskID($0) } }
    /// The engine that ran the task, or has it; nil while no engine has it.
    public var engineUUID: EngineUUID? { self.fields["engine_uuid"]?.string.map { EngineUUID($0) } }
    /// The session of the client that sent the task.
    public var clientID: String? { self.fields["client_uuid"]?.string }
    /// The channel by which the task went: `mux` for a direct view, `task` for a load-balanced one.
    public var queue: String? { self.fields["queue"]?.string }
    /// The label of the view that the task was sent through.
    public var label: String? { self.fields["label"]?.string ?? self.fields["metadata"]?[MetadataMember.label]?.string }
    /// Text that the task printed to standard output.
    public var stdout: String { self.fields["stdout"]?.string ?? "" }
    /// Text that the task printed to standard error.
    public var stderr: String { self.fields["stderr"]?.string ?? "" }
    /// How the task ended; nil while it has not ended.
    public var status: TaskMetadata.Status? {
        self.fields["result_content"]?["status"]?.string.flatMap { TaskMetadata.Status(rawValue: $0) }
    }
    /// The error that the task ended with; nil where its status is not `error`.
    public var error: RemoteError? {
        guard self.status == .error, let content = self.fields["result_content"] else { return nil }
        return RemoteError(ErrorContent(content), engineID: nil, engineUUID: self.engineUUID)
    }

    private func date(_ field: String) -> WireDate? { self.fields[field]?.string.flatMap { WireDate($0) } }

    /// One line: `ab12_3f ok, engine 5a6b7c8d-…, label fit`.
    public var description: String {
        var text = "\(self.id) \(self.status.map { "\($0)" } ?? "unfinished")"
        if let engineUUID { text += ", engine \(engineUUID)" }
        if let label { text += ", label \(label)" }
        return text
    }
}

extension Client {
    /// The records of all tasks that match a query, in order of submission.
    ///
    /// ```swift
    /// let failed = try await client.dbQuery(["label": "fit", "result_content.status": ["$ne": "ok"]])
    /// let slow = try await client.dbQuery(["completed": ["$gt": .string(lastNight.description)]], keys: ["engine_uuid"])
    /// ```
    ///
    /// - Parameters:
    ///   - query: Conditions as in MongoDB: a field and a value, or an object of operators (`$lt`, `$in`, `$exists`, `$regex` …).
    ///   - keys: The fields wanted, besides the id; nil: everything but buffers.
    /// - Throws: ``ApusError`` with code `badArgument` for a query that the hub refuses.
    public func dbQuery(_ query: JSONObject, keys: [String]? = nil) async throws -> [HubRecord] {
        let wanted: JSONValue = keys.map { .array($0.map { .string($0) }) } ?? .null
        let reply: (content: JSONValue, buffers: [ByteBuffer])
        do {
            reply = try await self.connection.requestWithBuffers(
                .databaseRequest, content: ["query": .object(query), "keys": wanted], on: .query)
        } catch let error as RemoteError {
            throw ApusError(.badArgument, "the hub refuses the query: \(error.name): \(error.value)", cause: error)
        }
        var sizes = reply.buffers.map { $0.readableBytes }[...]
        func counts(_ key: String) -> [Int] { (reply.content[key]?.array ?? []).map { max(0, $0.int ?? 0) } }
        func take(_ count: Int) -> [Int] {
            defer { sizes = sizes.dropFirst(count) }
            return Array(sizes.prefix(count))
        }
        let (own, results) = (counts("buffer_lens"), counts("result_buffer_lens"))
        return (reply.content["records"]?.array ?? []).enumerated().compactMap { index, record in
            guard let fields = record.object, let id = fields["msg_id"]?.string else { return nil }
            let bufferSizes = index < own.count ? take(own[index]) : []
            return HubRecord(
                id: TaskID(id), fields: fields, bufferSizes: bufferSizes,
                resultBufferSizes: index < results.count ? take(results[index]) : [])
        }
    }
}
