public import ApusWire
import NIOCore

/// An engine's reply to source text that it ran.
public struct ExecuteReply: Sendable, CustomStringConvertible {
    /// The engine that ran the text.
    public let engineID: EngineID
    /// How many cells the engine had run.
    public let executionCount: Int
    /// The cell's printed and displayed output, and the value of its last expression unless the cell ran silently.
    public let output: TaskOutput

    /// Text that was printed to standard output.
    public var stdout: String { self.output.stdout }
    /// Text that was printed to standard error.
    public var stderr: String { self.output.stderr }
    /// The value of the last expression.
    public var result: DisplayedOutput? { self.output.result }

    init(_ message: Message, engineID: EngineID, output: TaskOutput) throws {
        self.engineID = engineID
        self.executionCount = (try? JSONValue(parsing: message.content))?["execution_count"]?.int ?? 0
        self.output = output
    }

    /// The printed text and the value, as a notebook shows them.
    public var description: String {
        var text = self.output.stdout + self.output.stderr
        if let result { text += "Out[\(self.engineID):\(self.executionCount)]: \(result)" }
        return text
    }
}
