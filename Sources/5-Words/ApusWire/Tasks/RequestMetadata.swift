package import NIOCore

/// The metadata of a request (protocol article, "Request metadata"), with a type for each reader.
///
/// A client writes members for every reader; each reader reads its own, and ignores the rest. Members of the wrong type count as
/// left out.
package enum RequestMetadata {
    /// The longest time in seconds that is read, some thirty years, so that sums of such times do not overflow.
    private static let longestTime = 1e9

    // MARK: The task scheduler

    /// What a request asks of the task scheduler.
    package struct ForScheduler: Sendable, Equatable {
        /// Tasks that must have ended before the task runs.
        package var after: TaskDependency?
        /// Tasks on whose engine the task runs.
        package var follow: TaskDependency?
        /// How long the task may wait until it has an engine; nil: for ever.
        package var timeout: Duration?
        /// The engines to choose among; empty for all.
        package var targets: [EngineUUID] = []
        /// How often the task is tried again.
        package var retries = 0
        /// When the task is tried again, and after which errors; nil: at once and after any.
        package var retryRule: RetryRule?
        /// The amounts that an engine must own.
        package var resources: [String: Double] = [:]
        /// How long the task may wait while no engine is registered; zero: for ever; nil: as long as the controller's setting.
        package var engineTimeout: Duration?
        /// How long the client may be gone before the task is aborted, if it waits then; nil: for ever.
        package var abandonedAfter: Duration?
        /// How many nested tasks the task was submitted within; nil if the client did not write the member. The engine reads it
        /// too.
        package var depth: Int?
        /// Tasks of a higher priority go first.
        package var priority = 0
        /// The arguments that are results of other tasks.
        package var results = ResultPlaces()
        /// The build that the function must come from. Read only: ``ForEngine`` writes it.
        package private(set) var build: String?
        /// Whether the run time has a limit. Read only: ``ForEngine`` writes the limit.
        package private(set) var isLimited = false

        package init() {}

        /// - Throws: ``WireError`` when the metadata is no object, or its results are no list of buffers and tasks.
        package init(scanning metadata: ByteBuffer) throws(WireError) {
            try metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
                try cursor.readMembers { (key, cursor) throws(WireError) in
                    switch key {
                    case MetadataMember.after: self.after = TaskDependency(try cursor.readValue())
                    case MetadataMember.follow: self.follow = TaskDependency(try cursor.readValue())
                    case MetadataMember.timeout:
                        if let seconds = try cursor.readValue().double, seconds > 0 {
                            self.timeout = .seconds(min(seconds, RequestMetadata.longestTime))
                        }
                    case MetadataMember.targets:
                        self.targets = (try cursor.readValue().array ?? []).compactMap { $0.string.map { EngineUUID($0) } }
                    case MetadataMember.retries: self.retries = max(0, try cursor.readValue().int ?? 0)
                    case ApusMember.priority: self.priority = try cursor.readValue().int ?? 0
                    case ApusMember.depth: self.depth = max(0, try cursor.readValue().int ?? 0)
                    case ApusMember.resources: self.resources = ResourceAmounts.reading(try cursor.readValue())
                    case ApusMember.retry: self.retryRule = RetryRule(try cursor.readValue())
                    case ApusMember.engineTimeout:
                        if let seconds = try cursor.readValue().double, seconds >= 0 {
                            self.engineTimeout = .seconds(min(seconds, RequestMetadata.longestTime))
                        }
                    case ApusMember.abandonedAfter:
                        if let seconds = try cursor.readValue().double, seconds >= 0 {
                            self.abandonedAfter = .seconds(min(seconds, RequestMetadata.longestTime))
                        }
                    case ApusMember.results: self.results = try ResultPlaces(try cursor.readValue())
                    case ApusMember.build: self.build = try cursor.readStringOrSkip()
                    case ApusMember.limit: self.isLimited = try cursor.readValue().double != nil
                    default: try cursor.skipValue()
                    }
                }
            }
        }

        /// Begins the object with these members. Python's schedulers require each of their members, even without a value.
        package func begin(_ metadata: inout ByteBuffer) {
            metadata.writeFirstMember(MetadataMember.after)
            (self.after?.json ?? []).write(into: &metadata)
            metadata.writeMember(MetadataMember.follow)
            (self.follow?.json ?? []).write(into: &metadata)
            metadata.writeMember(MetadataMember.timeout)
            JSONValue.double(self.timeout.map { $0 / .seconds(1) } ?? 0).write(into: &metadata)
            metadata.writeMember(MetadataMember.targets)
            JSONValue(self.targets.map { $0.text }).write(into: &metadata)
            metadata.writeMember(MetadataMember.retries)
            metadata.writeDecimal(self.retries)
            if !self.resources.isEmpty {
                metadata.writeMember(ApusMember.resources)
                JSONValue.object(self.resources.mapValues { .double($0) }).write(into: &metadata)
            }
            if let engineTimeout {
                metadata.writeMember(ApusMember.engineTimeout)
                JSONValue.double(max(0, engineTimeout / .seconds(1))).write(into: &metadata)
            }
            if let abandonedAfter {
                metadata.writeMember(ApusMember.abandonedAfter)
                JSONValue.double(max(0, abandonedAfter / .seconds(1))).write(into: &metadata)
            }
            if let retryRule {
                metadata.writeMember(ApusMember.retry)
                retryRule.json.write(into: &metadata)
            }
            if let depth {
                metadata.writeMember(ApusMember.depth)
                metadata.writeDecimal(depth)
            }
            if self.priority != 0 {
                metadata.writeMember(ApusMember.priority)
                metadata.writeDecimal(self.priority)
            }
            if !self.results.isEmpty {
                metadata.writeMember(ApusMember.results)
                self.results.json.write(into: &metadata)
            }
        }
    }

    // MARK: The broadcast scheduler

    /// What a request asks of the broadcast scheduler.
    package struct ForBroadcast: Sendable {
        package typealias Target = (uuid: EngineUUID, id: EngineID)

        package var targets: [Target]
        /// Whether the replies are joined into one.
        package var isCoalescing: Bool
        /// Whether the client waits for the replies to the copies, and for none to the request itself.
        package var countsOnCopies: Bool
        /// The id that the client gave the broadcast; nil: the id of the message.
        package private(set) var original: MessageID?

        /// Makes a broadcast as our clients send it.
        package init(to targets: [Target], isCoalescing: Bool) {
            self.targets = targets
            self.isCoalescing = isCoalescing
            self.countsOnCopies = !isCoalescing
        }

        /// Reads a broadcast. A target without an id gets the id -1, which no engine has.
        package init(_ metadata: JSONValue) {
            self.targets = (metadata[MetadataMember.targets]?.array ?? []).compactMap { pair in
                guard let uuid = pair.array?.first?.string ?? pair.string else { return nil }
                return (EngineUUID(uuid), EngineID(pair.array?.last?.int ?? -1))
            }
            self.isCoalescing = metadata[MetadataMember.isCoalescing]?.bool ?? false
            self.countsOnCopies = metadata[ApusMember.copies]?.bool ?? false
            self.original = metadata[MetadataMember.originalMessageID]?.string.flatMap { $0.isEmpty ? nil : MessageID($0) }
        }

        /// Begins the object with these members.
        package func begin(_ metadata: inout ByteBuffer) {
            metadata.writeFirstMember(MetadataMember.targets)
            Self.json(self.targets).write(into: &metadata)
            metadata.writeFlag(MetadataMember.isBroadcast)
            metadata.writeMember(MetadataMember.isCoalescing)
            metadata.writeStaticString(self.isCoalescing ? "true" : "false")
            if self.countsOnCopies { metadata.writeFlag(ApusMember.copies) }
        }

        /// Begins the object of a request that is not a broadcast.
        package static func beginNone(_ metadata: inout ByteBuffer) {
            metadata.writeFirstMember(MetadataMember.isBroadcast)
            metadata.writeStaticString("false")
        }

        package static func json(_ targets: [Target]) -> JSONValue {
            .array(targets.map { [.string($0.uuid.text), .int($0.id.number)] })
        }
    }

    // MARK: The engine

    /// What a request asks of its engine, and the members that the engine repeats in its reply.
    package struct ForEngine: Sendable {
        /// Whether the client needs no busy and idle status for the request.
        package var isQuiet = false
        /// Whether the arguments are sequences: the function is called for each place, and the reply has the list of results.
        package var maps = false
        /// Whether each call of a map has an outcome of its own, so that a call that fails does not end the map.
        package var keepsOutcomes = false
        /// Microseconds after which a map begins no further call and gives the rest back; nil: it makes all calls.
        package var slice: Int?
        /// How many arguments, from the first on, are a closure's captured values.
        package var captureCount = 0
        /// Seconds that the task may run; nil: no limit.
        package var limit: Double?
        /// The build that the function must come from; nil: any.
        package var build: String?
        /// How many nested tasks the task was submitted within. Read only: ``ForScheduler`` writes it.
        package private(set) var depth = 0
        /// How often the task has been tried, this time included. Read only: the controller writes it.
        package private(set) var attempt = 1
        /// Where the buffers are that did not come with the message. Read only: ``SharedBuffers`` writes it.
        package private(set) var shared: JSONValue?

        // The members that the reply repeats, as they came; nil if the request does not have them.
        private(set) var label: ByteBuffer?
        private(set) var isBroadcast: ByteBuffer?
        private(set) var isCoalescing: ByteBuffer?
        private(set) var originalMessageID: ByteBuffer?

        package init() {}

        package init(scanning metadata: ByteBuffer) throws(WireError) {
            try metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
                try cursor.readMembers { (key, cursor) throws(WireError) in
                    switch key {
                    case MetadataMember.label: self.label = metadata.slice(try cursor.readRange())
                    case MetadataMember.isBroadcast: self.isBroadcast = metadata.slice(try cursor.readRange())
                    case MetadataMember.isCoalescing: self.isCoalescing = metadata.slice(try cursor.readRange())
                    case MetadataMember.originalMessageID: self.originalMessageID = metadata.slice(try cursor.readRange())
                    case ApusMember.quiet: self.isQuiet = try cursor.readValue().bool ?? false
                    case ApusMember.map: self.maps = try cursor.readValue().bool ?? false
                    case ApusMember.outcomes: self.keepsOutcomes = try cursor.readValue().bool ?? false
                    case ApusMember.slice: self.slice = try cursor.readValue().int.map { max(0, $0) }
                    case ApusMember.captures: self.captureCount = try cursor.readValue().int ?? 0
                    case ApusMember.limit:
                        self.limit = try cursor.readValue().double.map { min(max($0, 0), RequestMetadata.longestTime) }
                    case ApusMember.depth: self.depth = max(0, try cursor.readValue().int ?? 0)
                    case ApusMember.attempt: self.attempt = max(1, try cursor.readValue().int ?? 1)
                    case ApusMember.build: self.build = try cursor.readStringOrSkip()
                    case ApusMember.shared: self.shared = try cursor.readValue()
                    default: try cursor.skipValue()
                    }
                }
                try cursor.expectEnd()
            }
        }

        /// Writes these members into an object that has others before them. Engines of ipyparallel read only the label.
        package func write(label: String?, into metadata: inout ByteBuffer) {
            metadata.writeMember(MetadataMember.label)
            if let label { metadata.writeJSONString(label) } else { metadata.writeStaticString("null") }
            if let limit {
                metadata.writeMember(ApusMember.limit)
                JSONValue.double(limit).write(into: &metadata)
            }
            if self.isQuiet { metadata.writeFlag(ApusMember.quiet) }
            if self.maps { metadata.writeFlag(ApusMember.map) }
            if self.keepsOutcomes { metadata.writeFlag(ApusMember.outcomes) }
            if let slice {
                metadata.writeMember(ApusMember.slice)
                metadata.writeDecimal(slice)
            }
            if self.captureCount > 0 {
                metadata.writeMember(ApusMember.captures)
                metadata.writeDecimal(self.captureCount)
            }
            if let build {
                metadata.writeMember(ApusMember.build)
                metadata.writeJSONString(build)
            }
        }
    }
}

/// Amounts of resources, as engines own and tasks ask for them.
package enum ResourceAmounts {
    /// The largest amount that is read; sums of such amounts are exact.
    private static let most = 1e15

    /// Reads amounts; a negative one counts as zero.
    package static func reading(_ json: JSONValue) -> [String: Double] {
        (json.object ?? [:]).compactMapValues { $0.double.map { min(max($0, 0), Self.most) } }
    }
}

/// The results of other tasks that are arguments of a request, in its metadata: `"apus_results": [[2, "<msg_id>"], …]`.
package struct ResultPlaces: Sendable, Equatable {
    /// The task that gives each result, by the index of the buffer that the result replaces.
    package private(set) var results: [Int: TaskID] = [:]

    package var isEmpty: Bool { self.results.isEmpty }

    /// - Parameter results: The results, at most one for each place.
    package init(_ results: [(place: Int, task: TaskID)] = []) {
        self.results = Dictionary(uniqueKeysWithValues: results.lazy.map { ($0.place, $0.task) })
    }

    package init(scanning metadata: ByteBuffer) throws(WireError) {
        let found = try metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) -> JSONValue? in
            guard try cursor.find(ApusMember.results) else { return nil }
            return try cursor.readValue()
        }
        try self.init(found ?? [])
    }

    package init(_ json: JSONValue) throws(WireError) {
        for pair in json.array ?? [] {
            guard let parts = pair.array, parts.count == 2, let place = parts[0].int, let task = parts[1].string,
                self.results.updateValue(TaskID(task), forKey: place) == nil
            else { throw WireError("'\(ApusMember.results)' is \(json), no list of buffers and tasks") }
        }
    }

    package var json: JSONValue {
        .array(self.results.sorted { $0.key < $1.key }.map { [.int($0.key), .string($0.value.text)] })
    }
}

extension ByteBuffer {
    fileprivate func slice(_ range: Range<Int>) -> ByteBuffer? {
        self.getSlice(at: self.readerIndex + range.lowerBound, length: range.count)
    }
}
