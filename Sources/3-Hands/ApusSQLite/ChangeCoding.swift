import ApusStore
import ApusWire
import NIOCore

/// A change to one task as a row of the journal keeps it.
struct JournaledChange {
    let task: TaskID
    /// Where the record stands among all of its store, if it begins with the change; nil for a change that begins none.
    let serial: Int64?
    let change: TaskChange
}

/// Changes to single tasks as bytes, and back.
///
/// Numbers are big-endian; a text, a part of a message or a buffer follows its size in bytes, four of them. Only ``JournalTable``
/// writes such bytes and reads them again; every size is checked all the same, because files get damaged.
enum ChangeCoding {
    private enum Kind: UInt8 {
        case submitted = 1
        case assigned, completed, output, resubmitted
    }

    // MARK: Writing

    /// Appends a change. Changes to many tasks at once, such as `dropCompleted`, are never journaled.
    static func write(_ journaled: JournaledChange, to bytes: inout ByteBuffer) {
        func begin(_ kind: Kind) {
            bytes.writeInteger(kind.rawValue)
            bytes.writeInteger(journaled.serial ?? 0)
            Self.write(journaled.task.text, to: &bytes)
        }
        switch journaled.change {
        case .submitted(_, let request, let client, let date, let queue, let engine):
            begin(.submitted)
            Self.write(client, to: &bytes)
            bytes.writeInteger(date?.microseconds ?? .min)
            Self.write(queue?.rawValue, to: &bytes)
            Self.write(engine?.text, to: &bytes)
            Self.write(request, to: &bytes)
        case .assigned(_, let engine, let failures):
            begin(.assigned)
            Self.write(engine?.text, to: &bytes)
            bytes.writeInteger(Int64(failures))
        case .completed(_, let reply, let received):
            begin(.completed)
            bytes.writeInteger(received.microseconds)
            Self.write(reply, to: &bytes)
        case .output(_, let output):
            begin(.output)
            Self.write(output.kind.rawValue, to: &bytes)
            Self.write(output.content, to: &bytes)
        case .resubmitted(_, let id):
            begin(.resubmitted)
            Self.write(id.text, to: &bytes)
        case .drop, .dropCompleted, .dropCompletedOf: preconditionFailure("a change to many tasks is not journaled")
        }
    }

    private static func write(_ text: String, to bytes: inout ByteBuffer) {
        bytes.writeInteger(UInt32(truncatingIfNeeded: text.utf8.count))
        bytes.writeString(text)
    }

    /// Nil is written as a text of the largest size, which no text has.
    private static func write(_ text: String?, to bytes: inout ByteBuffer) {
        guard let text else { return _ = bytes.writeInteger(UInt32.max) }
        Self.write(text, to: &bytes)
    }

    private static func write(_ part: ByteBuffer, to bytes: inout ByteBuffer) {
        bytes.writeInteger(UInt32(truncatingIfNeeded: part.readableBytes))
        bytes.writeImmutableBuffer(part)
    }

    private static func write(_ message: Message, to bytes: inout ByteBuffer) {
        Self.write(message.header, to: &bytes)
        Self.write(message.metadata, to: &bytes)
        Self.write(message.content, to: &bytes)
        let buffers = message.buffers
        bytes.writeInteger(UInt32(truncatingIfNeeded: buffers.count))
        for buffer in buffers { Self.write(buffer, to: &bytes) }
    }

    // MARK: Reading

    /// The changes in the bytes; nil when they were not made by ``write(_:to:)``.
    static func changes(in bytes: ByteBuffer) -> [JournaledChange]? {
        var bytes = bytes
        var changes: [JournaledChange] = []
        while bytes.readableBytes > 0 {
            guard let change = Self.readChange(&bytes) else { return nil }
            changes.append(change)
        }
        return changes
    }

    private static func readChange(_ bytes: inout ByteBuffer) -> JournaledChange? {
        guard let kind = bytes.readInteger(as: UInt8.self).flatMap({ Kind(rawValue: $0) }),
            let serial = bytes.readInteger(as: Int64.self), let task = Self.readText(&bytes).map({ TaskID($0) }),
            let change = Self.readChange(kind, of: task, &bytes)
        else { return nil }
        return JournaledChange(task: task, serial: change.begins ? serial : nil, change: change)
    }

    private static func readChange(_ kind: Kind, of task: TaskID, _ bytes: inout ByteBuffer) -> TaskChange? {
        switch kind {
        case .submitted:
            guard let client = Self.readText(&bytes), let date = bytes.readInteger(as: Int64.self),
                let queue = Self.readOptionalText(&bytes), let engine = Self.readOptionalText(&bytes),
                let request = Self.readMessage(&bytes)
            else { return nil }
            return .submitted(
                task, request: request, client: client, date: date == .min ? nil : WireDate(microseconds: date),
                queue: queue.flatMap { TaskQueue(rawValue: $0) }, engine: engine.map { EngineUUID($0) })
        case .assigned:
            guard let engine = Self.readOptionalText(&bytes), let failures = bytes.readInteger(as: Int64.self) else { return nil }
            return .assigned(task, to: engine.map { EngineUUID($0) }, failures: Int(failures))
        case .completed:
            guard let received = bytes.readInteger(as: Int64.self), let reply = Self.readMessage(&bytes) else { return nil }
            return .completed(task, reply: reply, received: WireDate(microseconds: received))
        case .output:
            guard let kind = Self.readText(&bytes).flatMap({ TaskOutput.Kind(rawValue: $0) }), let content = Self.readPart(&bytes)
            else { return nil }
            return .output(task, TaskOutput(kind, content: content))
        case .resubmitted: return Self.readText(&bytes).map { .resubmitted(task, as: TaskID($0)) }
        }
    }

    private static func readPart(_ bytes: inout ByteBuffer) -> ByteBuffer? {
        bytes.readInteger(as: UInt32.self).flatMap { bytes.readSlice(length: Int($0)) }
    }

    private static func readText(_ bytes: inout ByteBuffer) -> String? {
        bytes.readInteger(as: UInt32.self).flatMap { bytes.readString(length: Int($0)) }
    }

    /// The outer value is nil where the bytes end, the inner one where no text was written.
    private static func readOptionalText(_ bytes: inout ByteBuffer) -> String?? {
        guard let count = bytes.readInteger(as: UInt32.self) else { return nil }
        if count == .max { return .some(nil) }
        return bytes.readString(length: Int(count)).map { .some($0) }
    }

    private static func readMessage(_ bytes: inout ByteBuffer) -> Message? {
        guard let header = Self.readPart(&bytes), let metadata = Self.readPart(&bytes), let content = Self.readPart(&bytes),
            let count = bytes.readInteger(as: UInt32.self), count <= bytes.readableBytes / 4
        else { return nil }
        var buffers: [ByteBuffer] = []
        for _ in 0..<count {
            guard let buffer = Self.readPart(&bytes) else { return nil }
            buffers.append(buffer)
        }
        return Message(
            identities: [], signature: ByteBuffer(), parts: MessageParts(header: header, metadata: metadata, content: content),
            buffers: buffers)
    }
}
