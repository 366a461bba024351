package import ApusWire
package import NIOCore

/// The hub's record of one task: its request, its engine, its reply, and its output (protocol article, "Task record").
///
/// Messages stay the frames they came as, so making and completing a record decodes nothing. Fields that routing does not need
/// (`started`, `completed`, `label`, the contents) are read out of the frames when they are asked for.
///
/// A record can begin as a stub: output that arrived before its request, or whose request is not recorded at all (broadcasts).
package struct TaskRecord: Sendable {
    package let id: TaskID
    /// Where the record stands among those of its store: later ones have larger numbers.
    package let serial: Int64

    /// The request, or nil in a stub. Its identities and signature are not kept.
    package internal(set) var request: Message?
    /// Whether the request had buffers that were too large to be kept once the task had ended. It cannot be run again.
    package internal(set) var lacksRequestBuffers = false
    /// The session id of the client that asked (`client_uuid`), empty in a stub.
    package internal(set) var client = ""
    /// The date in the request's header.
    package internal(set) var submitted: WireDate?
    package internal(set) var queue: TaskQueue?
    /// The engine the task was last sent to.
    package internal(set) var assignedEngine: EngineUUID?
    /// How often the task had failed when it was last sent.
    package internal(set) var failures = 0

    /// The one reply that ended the task, made by an engine, a scheduler or the hub.
    package internal(set) var reply: Message?
    /// When the hub received the reply, by its own clock.
    package internal(set) var received: WireDate?

    /// The id under which the task was last run again.
    package internal(set) var resubmittedAs: TaskID?
    /// The task's output, in order of arrival.
    package internal(set) var outputs: [TaskOutput] = []
    /// Bytes that the outputs occupy, also when the outputs were not loaded.
    package internal(set) var outputByteCount = 0

    package init(id: TaskID, serial: Int64) {
        self.id = id
        self.serial = serial
    }
}

/// Which path a task takes to its engine.
package enum TaskQueue: String, Sendable {
    /// To an engine that the client named.
    case direct = "mux"
    /// To an engine that the task scheduler chooses.
    case balanced = "task"
}

extension TaskRecord {
    package var isFinished: Bool { self.reply != nil }
    /// Whether only output is known, because no request came under this id.
    package var isStub: Bool { self.request == nil }

    /// The date in the reply's header; the time of its arrival where the header has none. Nil until the task has ended.
    package var completed: WireDate? {
        guard let reply = self.reply else { return nil }
        return reply.header.text(ofMember: "date").flatMap { WireDate($0) } ?? self.received
    }

    /// When the engine began, as the reply's metadata says.
    package var started: WireDate? { self.reply?.metadata.text(ofMember: MetadataMember.started).flatMap { WireDate($0) } }

    /// The engine that the reply names, else the one the task was last sent to.
    package var engine: EngineUUID? {
        self.reply?.metadata.text(ofMember: MetadataMember.engine).map { EngineUUID($0) } ?? self.assignedEngine
    }

    /// Whether the request was lost with its controller, so that only its header is known, from the answer. The task cannot be run
    /// again. Needs the field `content`.
    package var lacksRequest: Bool { self.request?.content.readableBytes == 0 }

    /// Drops the buffers of the request, which cannot be run again after that.
    mutating func leaveOutRequestBuffers() {
        guard let request = self.request else { return }
        self.request = Message(identities: [], signature: request.signature, parts: request.parts, buffers: [])
        self.lacksRequestBuffers = true
    }

    /// Bytes that this record keeps in memory, without the few hundred of the record itself.
    package var byteCount: Int { (self.request?.byteCount ?? 0) + (self.reply?.byteCount ?? 0) + self.outputByteCount }
}

extension ByteBuffer {
    /// The text of a member of a packed object; nil when there is no such text, or no object.
    package func text(ofMember name: StaticString) -> String? {
        var text: String?
        try? self.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
            try cursor.readMembers { (key, cursor) throws(WireError) in
                if name ~= key { text = try cursor.readStringOrSkip() } else { try cursor.skipValue() }
            }
        }
        return text
    }
}

extension Message {
    /// A request of which only the header is known, because the controller that had it was killed. Its content is empty, which no
    /// other request's is.
    package static func lost(header: ByteBuffer) -> Message {
        Message(
            identities: [], signature: Self.noSignature, parts: MessageParts(header: header, content: ByteBuffer()), buffers: [])
    }

    /// The message as a record keeps it: without identities, signature and parent header, and in memory of its own.
    ///
    /// A frame is a slice of the buffer that one read of a socket filled, and keeps that buffer in memory. A record that stays
    /// for hours must not, or a store would occupy many more bytes than it counts. So small slices of a large buffer are copied
    /// to memory of their own; large buffers stay where they are.
    package func forKeeping() -> Message {
        // Small frames share one new storage; a large buffer has, in all likelihood, been read into storage of its own.
        let smallLimit = 16384
        let (header, metadata, content, buffers) = (self.header, self.metadata, self.content, self.buffers)
        var count = header.readableBytes + metadata.readableBytes + content.readableBytes
        for buffer in buffers where buffer.readableBytes <= smallLimit { count += buffer.readableBytes }
        let isWasteful = header.storageCapacity > 2 * count + 512

        var storage = ByteBuffer()
        if isWasteful {
            // All writes come before the slices: a slice taken in between would make the next write copy the storage.
            storage = ByteBufferAllocator().buffer(capacity: count)
            storage.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { space in
                var position = 0
                func write(_ frame: ByteBuffer) {
                    frame.withUnsafeReadableBytes { bytes in
                        UnsafeMutableRawBufferPointer(rebasing: space[position...]).copyMemory(from: bytes)
                        position += bytes.count
                    }
                }
                write(header)
                write(metadata)
                write(content)
                for buffer in buffers where buffer.readableBytes <= smallLimit { write(buffer) }
                return position
            }
        }
        func kept(_ frame: ByteBuffer) -> ByteBuffer {
            isWasteful ? storage.readSlice(length: frame.readableBytes) ?? frame : frame
        }
        let parts = MessageParts(header: kept(header), metadata: kept(metadata), content: kept(content))
        var keptBuffers: [ByteBuffer] = []
        keptBuffers.reserveCapacity(buffers.count)
        for buffer in buffers {
            if buffer.readableBytes <= smallLimit {
                keptBuffers.append(kept(buffer))
            } else if buffer.storageCapacity > 2 * buffer.readableBytes {
                keptBuffers.append(ByteBuffer(bytes: buffer.readableBytesView))
            } else {
                keptBuffers.append(buffer)
            }
        }
        return Message(identities: [], signature: Self.noSignature, parts: parts, buffers: keptBuffers)
    }

    private static let noSignature = ByteBuffer()
}
