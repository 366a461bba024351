package import NIOCore

/// The metadata of a reply (protocol article, "Reply metadata"), with a type for each reader.
package enum ReplyMetadata {
    /// How a request ended.
    package enum Status: String, Sendable { case ok, error, aborted }

    // MARK: The controller

    /// What the scheduler and the hub read of a reply.
    package struct ForController: Sendable {
        package var status: Status?
        package var dependenciesMet = true
        /// Microseconds that the engine worked on the request; nil if the engine does not count them.
        package private(set) var work: UInt32?

        package init(scanning metadata: ByteBuffer) throws(WireError) {
            try metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
                try cursor.readMembers { (key, cursor) throws(WireError) in
                    switch key {
                    case MetadataMember.status: self.status = try cursor.readStringOrSkip().flatMap { Status(rawValue: $0) }
                    case MetadataMember.dependenciesMet: self.dependenciesMet = try cursor.readValue().bool ?? true
                    case ApusMember.work: self.work = try cursor.readValue().int.map { UInt32(clamping: $0) }
                    default: try cursor.skipValue()
                    }
                }
            }
        }
    }

    // MARK: The client

    /// What a client shows of a task, read from its reply. The number of output messages is needed earlier, and is read by
    /// ``outputCount(scanning:)``.
    package struct ForClient: Sendable {
        /// When the engine began the request.
        package private(set) var started: WireDate?
        package private(set) var engine: EngineUUID?
        package private(set) var label: String?
        /// How many calls of a map were made; nil if all were.
        package private(set) var calls: Int?
        /// Whether the engine heeds the run limit of the request.
        package private(set) var saysLimit = false

        package init(scanning metadata: ByteBuffer) throws(WireError) {
            try metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
                try cursor.readMembers { (key, cursor) throws(WireError) in
                    switch key {
                    case MetadataMember.started: self.started = try cursor.readStringOrSkip().flatMap { WireDate($0) }
                    case MetadataMember.engine: self.engine = try cursor.readStringOrSkip().map { EngineUUID($0) }
                    case MetadataMember.label: self.label = try cursor.readStringOrSkip()
                    case ApusMember.calls: self.calls = try cursor.readValue().int
                    case ApusMember.limit:
                        self.saysLimit = true
                        try cursor.skipValue()
                    default: try cursor.skipValue()
                    }
                }
                try cursor.expectEnd()
            }
        }
    }

    /// How many output messages belong to the request; nil if the reply has no count, which our engines write for quiet requests.
    package static func outputCount(scanning metadata: ByteBuffer) -> Int? {
        let count = try? metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) -> Int? in
            guard try cursor.find(ApusMember.outputs) else { return nil }
            return try cursor.readValue().int
        }
        return count ?? nil
    }

    // MARK: Replies of the controller

    /// The metadata of a reply that the controller sends in place of an engine.
    package static func standIn(_ status: Status, for engine: EngineUUID? = nil, at date: WireDate? = nil) -> JSONObject {
        var metadata: JSONObject = [:]
        metadata[MetadataMember.status] = .string(status.rawValue)
        if let engine { metadata[MetadataMember.engine] = .string(engine.text) }
        if let date { metadata[MetadataMember.date] = .string(date.description) }
        return metadata
    }
}

extension JSONObject {
    /// Adds the members of a reply to a broadcast.
    ///
    /// - Parameters:
    ///   - original: The id that the client gave the broadcast, unchanged.
    ///   - targets: The engines whose replies were joined into this one; nil for a reply to a single copy.
    package func answering(broadcast original: JSONValue, isCoalescing: Bool, targets: JSONValue? = nil) -> JSONObject {
        var metadata = self
        metadata[MetadataMember.isBroadcast] = true
        metadata[MetadataMember.isCoalescing] = .bool(isCoalescing)
        metadata[MetadataMember.originalMessageID] = original
        if let targets { metadata[MetadataMember.broadcastTargets] = targets }
        return metadata
    }
}

// MARK: Replies of engines

extension RequestMetadata.ForEngine {
    /// The metadata of the engine's reply.
    ///
    /// - Parameters:
    ///   - started: When the request was begun; the time of the answer if it never was.
    ///   - outputs: How many output messages belong to the request. Written only for a quiet request, whose client waits for so
    ///     many and for no idle status.
    ///   - work: Microseconds spent on the request, for the scheduler; written only for a quiet request.
    ///   - calls: How many calls of a map were made; nil if all were.
    package func reply(
        _ status: ReplyMetadata.Status, by engine: (id: EngineID, uuid: EngineUUID), started: WireDate,
        meetsDependencies: Bool = true, outputs: Int, work: Int? = nil, calls: Int? = nil
    ) -> ByteBuffer {
        var json = ByteBufferAllocator().buffer(capacity: 320)
        json.writeFirstMember(MetadataMember.started)
        json.writeStaticString("\"")
        started.write(into: &json)
        json.writeStaticString("\"")
        json.writeMember(MetadataMember.dependenciesMet)
        json.writeStaticString(meetsDependencies ? "true" : "false")
        json.writeMember(MetadataMember.engine)
        json.writeQuoted(engine.uuid.text)
        json.writeMember(MetadataMember.isBroadcast)
        json.write(self.isBroadcast, or: "false")
        json.writeMember(MetadataMember.isCoalescing)
        json.write(self.isCoalescing, or: "false")
        json.writeMember(MetadataMember.originalMessageID)
        json.write(self.originalMessageID, or: "\"\"")
        json.writeMember(MetadataMember.label)
        json.write(self.label, or: "null")
        json.writeMember(MetadataMember.status)
        json.writeQuoted(status.rawValue)
        if status == .error {
            json.writeMember(MetadataMember.engineInfo)
            json.writeFirstMember(MetadataMember.engineUUID)
            json.writeQuoted(engine.uuid.text)
            json.writeMember(MetadataMember.engineID)
            json.writeDecimal(engine.id.number)
            json.writeStaticString("}")
        }
        if self.isQuiet {
            json.writeMember(ApusMember.outputs)
            json.writeDecimal(outputs)
            if let work {
                json.writeMember(ApusMember.work)
                json.writeDecimal(work)
            }
        }
        if let calls {
            json.writeMember(ApusMember.calls)
            json.writeDecimal(calls)
        }
        if let limit = self.limit {
            // Repeated, so that the client knows that the limit was heeded.
            json.writeMember(ApusMember.limit)
            JSONValue.double(limit).write(into: &json)
        }
        json.writeStaticString("}")
        return json
    }
}

extension ByteBuffer {
    /// Writes a text without characters to escape, in quotes.
    fileprivate mutating func writeQuoted(_ text: String) {
        self.writeStaticString("\"")
        self.writeString(text)
        self.writeStaticString("\"")
    }

    fileprivate mutating func write(_ json: ByteBuffer?, or standIn: StaticString) {
        if let json { self.writeImmutableBuffer(json) } else { self.writeStaticString(standIn) }
    }
}
