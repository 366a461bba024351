package import NIOCore

/// The metadata of a reply (protocol article, "Reply metadata"), by who reads it.
package enum ReplyMetadata {
    /// How a request ended.
    package enum Status: String, Sendable { case ok, error, aborted }

    // MARK: The controller

    /// What the scheduler and the hub read of a reply.
    package struct ForController: Sendable {
        package var status: Status?
        package var dependenciesMet = true
        /// Microseconds of work, from engines that count them.
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

    /// What a client tells of a task, as its reply has it. How many output messages there are comes first, and alone:
    /// ``outputCount(scanning:)``.
    package struct ForClient: Sendable {
        /// When the engine began.
        package private(set) var started: WireDate?
        package private(set) var engine: EngineUUID?
        package private(set) var label: String?
        /// How many calls of a map were made, where not all were.
        package private(set) var calls: Int?
        /// Whether the engine keeps the run limit that it was told.
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

    /// How many output messages belong to the request, which our engines say of quiet ones.
    package static func outputCount(scanning metadata: ByteBuffer) -> Int? {
        let count = try? metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) -> Int? in
            guard try cursor.find(ApusMember.outputs) else { return nil }
            return try cursor.readValue().int
        }
        return count ?? nil
    }

    // MARK: Replies of the controller

    /// The metadata of a reply that the controller gives in the place of an engine.
    package static func standIn(_ status: Status, for engine: EngineUUID? = nil, at date: WireDate? = nil) -> JSONObject {
        var metadata: JSONObject = [:]
        metadata[MetadataMember.status] = .string(status.rawValue)
        if let engine { metadata[MetadataMember.engine] = .string(engine.text) }
        if let date { metadata[MetadataMember.date] = .string(date.description) }
        return metadata
    }
}

extension JSONObject {
    /// Adds what a reply says of the broadcast that it answers.
    ///
    /// - Parameters:
    ///   - original: The id that the client gave the broadcast, as it stands.
    ///   - targets: The engines that a reply to all of them is for.
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
    ///   - started: When the request was begun; the time of the answer for one that never was.
    ///   - outputs: How many output messages belong to the request. Only a quiet one's reply says so: its client waits for that
    ///     many and for no idle.
    ///   - work: Microseconds spent on the request, for the scheduler; said to quiet ones only, whose clients know the member.
    ///   - calls: How many calls of a map were made, where not all were.
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
            // Said again, so that the client knows that it was heeded.
            json.writeMember(ApusMember.limit)
            JSONValue.double(limit).write(into: &json)
        }
        json.writeStaticString("}")
        return json
    }
}

extension ByteBuffer {
    /// Writes a text that has nothing to escape.
    fileprivate mutating func writeQuoted(_ text: String) {
        self.writeStaticString("\"")
        self.writeString(text)
        self.writeStaticString("\"")
    }

    fileprivate mutating func write(_ json: ByteBuffer?, or standIn: StaticString) {
        if let json { self.writeImmutableBuffer(json) } else { self.writeStaticString(standIn) }
    }
}
