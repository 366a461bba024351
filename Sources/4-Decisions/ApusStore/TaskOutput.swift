package import ApusWire
package import NIOCore

/// One thing that a task printed, showed or raised while it ran: the content of an iopub message, packed as it came.
package struct TaskOutput: Sendable, Hashable {
    package enum Kind: String, Sendable, CaseIterable {
        case stream
        case executeInput = "execute_input"
        case executeResult = "execute_result"
        case displayData = "display_data"
        case error
    }

    package let kind: Kind
    /// The packed content.
    package let content: ByteBuffer

    package init(_ kind: Kind, content: ByteBuffer) {
        self.kind = kind
        self.content = content
    }

    /// Makes a copy of the content; nil for message types that are not kept, such as `status`.
    package init?(type: MessageType, content: ByteBuffer) {
        guard let kind = Kind(rawValue: type.rawValue) else { return nil }
        self.init(kind, content: ByteBuffer(bytes: content.readableBytesView))
    }

    /// Bytes of memory that the output takes, so that one letter printed a million times counts with all its overhead.
    package var byteCount: Int { self.content.readableBytes + 64 }

    /// How many bytes of each task's output are kept; later output is dropped, and a note says so.
    package static let byteLimit = 16 << 20

    /// The note in place of the output beyond ``byteLimit``.
    static let limitNote = TaskOutput(
        .stream,
        content: JSONValue.object([
            "name": "stderr", "text": .string("\n[the hub keeps 16 MB of a task's output; what followed is not here]\n"),
        ]).packed)
}

extension TaskRecord {
    /// Adds output, up to ``TaskOutput/byteLimit``.
    package mutating func append(_ output: TaskOutput) {
        guard self.outputByteCount < TaskOutput.byteLimit else { return }
        self.outputs.append(output)
        self.outputByteCount += output.byteCount
        if self.outputByteCount >= TaskOutput.byteLimit { self.outputs.append(.limitNote) }
    }

    /// All text printed to `stdout` or `stderr`.
    package func text(of stream: String) -> String {
        var text = ""
        for output in self.outputs where output.kind == .stream {
            guard let content = try? JSONValue(parsing: output.content), content["name"]?.string == stream else { continue }
            text += content["text"]?.string ?? ""
        }
        return text
    }

    /// The contents of that kind, oldest first.
    package func contents(of kind: TaskOutput.Kind) -> [JSONValue] {
        self.outputs.filter { $0.kind == kind }.compactMap { try? JSONValue(parsing: $0.content) }
    }
}
