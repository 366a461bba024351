import ApusWire
import NIOCore
public import Pickle

/// The printed and displayed output of a task.
public struct TaskOutput: Sendable {
    /// Text that the task printed to standard output.
    public internal(set) var stdout = ""
    /// Text that the task printed to standard error.
    public internal(set) var stderr = ""
    /// Rich displays, in the order in which they came.
    public internal(set) var outputs: [DisplayedOutput] = []
    /// The value of the last expression of a cell, as the engine shows it.
    public internal(set) var result: DisplayedOutput?
    /// The source text that was run, as the engine published it.
    public internal(set) var input: String?
    /// Objects that the task published while it ran, by name.
    public internal(set) var data: [String: PickleValue] = [:]

    mutating func take(_ type: MessageType, _ message: Message) {
        guard let content = try? JSONValue(parsing: message.content) else { return }
        switch type {
        case .stream:
            let text = content["text"]?.string ?? ""
            if content["name"]?.string == "stderr" { self.stderr += text } else { self.stdout += text }
        case .executeInput: self.input = content["code"]?.string
        case .executeResult: self.result = DisplayedOutput(content)
        case .displayData: self.outputs.append(DisplayedOutput(content))
        default: break
        }
    }
}

/// A value as an engine displays it.
public struct DisplayedOutput: Sendable, CustomStringConvertible {
    /// The representations by MIME type; images are base64 text.
    public let data: [String: String]

    init(_ content: JSONValue) {
        var data: [String: String] = [:]
        for (type, value) in content["data"]?.object ?? [:] { data[type] = value.string ?? value.description }
        self.data = data
    }

    /// The plain text, where there is one; else the names of the MIME types.
    public var description: String { self.data["text/plain"] ?? "<\(self.data.keys.sorted().joined(separator: ", "))>" }
}
