package import ApusWire
import NIOCore

/// The fields of a task record by their names on the wire (protocol article, "Task record").
package enum TaskField: String, Sendable, CaseIterable {
    case id = "msg_id"
    case header, metadata, content, buffers
    case submitted
    case client = "client_uuid"
    case engine = "engine_uuid"
    case queue, label
    case started, completed, received, resubmitted
    case resultHeader = "result_header"
    case resultMetadata = "result_metadata"
    case resultContent = "result_content"
    case resultBuffers = "result_buffers"
    case executeInput = "execute_input"
    case executeResult = "execute_result"
    case error, stdout, stderr
    /// The content last displayed; in Python's records only when there is one.
    case displayData = "display_data"
    /// Every content displayed, oldest first. Not in Python's records.
    case outputs

    /// All fields but the buffers: the answer to a query that names no keys.
    package static let allButBuffers = Set(Self.allCases).subtracting([.buffers, .resultBuffers])
    package static let all = Set(Self.allCases)
    /// The fields that are read out of a record's outputs.
    package static let ofOutputs: Set<TaskField> = [
        .executeInput, .executeResult, .error, .stdout, .stderr, .displayData, .outputs,
    ]
}

extension TaskRecord {
    /// The field as replies carry it: dates as text, buffers as a list of their sizes, null for an unknown value.
    package func json(_ field: TaskField) -> JSONValue {
        switch self.value(of: field) {
        case .date(let date): .string(date.description)
        case .json(let value): value
        }
    }

    /// The field as queries compare it.
    func value(of field: TaskField) -> FieldValue {
        switch field {
        case .id: .json(.string(self.id.text))
        case .header: Self.parsed(self.request?.header)
        case .metadata: Self.parsed(self.request?.metadata)
        case .content: Self.parsed(self.request?.content)
        case .buffers: Self.sizes(self.request?.buffers)
        case .submitted: FieldValue(self.submitted)
        case .client: self.isStub ? .null : .json(.string(self.client))
        case .engine: FieldValue(self.engine?.text)
        case .queue: FieldValue(self.queue?.rawValue)
        case .label:
            switch Self.parsed(self.request?.metadata) {
            case .json(let metadata): .json(metadata[MetadataMember.label] ?? .null)
            case .date: .null
            }
        case .started: FieldValue(self.started)
        case .completed: FieldValue(self.completed)
        case .received: FieldValue(self.received)
        case .resubmitted: FieldValue(self.resubmittedAs?.text)
        case .resultHeader: Self.parsed(self.reply?.header)
        case .resultMetadata: Self.parsed(self.reply?.metadata)
        case .resultContent: Self.parsed(self.reply?.content)
        case .resultBuffers: Self.sizes(self.reply?.buffers)
        case .executeInput: .json(self.contents(of: .executeInput).last?["code"] ?? .null)
        case .executeResult: .json(self.contents(of: .executeResult).last ?? .null)
        case .error: .json(self.contents(of: .error).last ?? .null)
        case .stdout: .json(.string(self.text(of: "stdout")))
        case .stderr: .json(.string(self.text(of: "stderr")))
        case .displayData: .json(self.contents(of: .displayData).last ?? .null)
        case .outputs: .json(.array(self.contents(of: .displayData)))
        }
    }

    private static func parsed(_ part: ByteBuffer?) -> FieldValue {
        guard let part, let value = try? JSONValue(parsing: part) else { return .null }
        return .json(value)
    }

    private static func sizes(_ buffers: ArraySlice<ByteBuffer>?) -> FieldValue {
        guard let buffers else { return .null }
        return .json(.array(buffers.map { .int($0.readableBytes) }))
    }
}

/// A field's value. The dates of a record are dates; a text that looks like a date is not.
enum FieldValue: Sendable {
    case json(JSONValue)
    case date(WireDate)

    static let null = FieldValue.json(.null)

    init(_ date: WireDate?) { self = date.map { .date($0) } ?? .null }
    init(_ text: String?) { self = .json(JSONValue(text)) }
}
