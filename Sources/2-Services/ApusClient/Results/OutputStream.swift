public import ApusWire

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// A piece of text that a task printed.
public struct PrintedText: Sendable, Hashable {
    /// The stream that a task printed to.
    public enum Stream: String, Sendable {
        /// Standard output.
        case stdout
        /// Standard error.
        case stderr
    }

    /// The engine that printed the text; nil for text that was printed before anyone listened.
    public let engineID: EngineID?
    /// The task that printed the text.
    public let task: TaskID
    /// The stream that the task printed to.
    public let stream: Stream
    /// The text as it came: a piece of a line, or several.
    public let text: String

    package init(engineID: EngineID?, task: TaskID, stream: Stream, text: String) {
        self.engineID = engineID
        self.task = task
        self.stream = stream
        self.text = text
    }
}

extension AsyncResult {
    /// Gives the text that the tasks print, as they print it, until all have ended. Text that was printed earlier is given first.
    public func streamOutput() -> AsyncStream<PrintedText> {
        let (stream, continuation) = AsyncStream.makeStream(of: PrintedText.self)
        let tasks = self.tasks
        if let map = self.map {
            map.whenSent { $0.whenPrinted { continuation.yield($0) } }
            map.whenFinished { continuation.finish() }
        } else if tasks.isEmpty {
            continuation.finish()
        } else {
            let remaining = Countdown(tasks.count)
            for task in tasks {
                task.whenPrinted { continuation.yield($0) }
                task.whenDone { if remaining.countDown() { continuation.finish() } }
            }
        }
        return givingUpTurn(in: stream)
    }

    /// Waits until every task has ended, and meanwhile prints the tasks' output line by line.
    ///
    /// Each line begins with the engine's id: `[3] hello`. Lines that a task printed to standard error go to standard error.
    /// Where standard output is a terminal, the ids have colours.
    public func printOutput() async throws {
        var lines = OutputLines(isColoured: isatty(STDOUT_FILENO) == 1)
        for await printed in self.streamOutput() { lines.write(lines.take(printed)) }
        lines.write(lines.rest)
        try Task.checkCancellation()
    }
}

extension AsyncMapResult {
    /// Gives the text that the tasks print, as they print it, until all have ended. Text that was printed earlier is given first.
    public func streamOutput() -> AsyncStream<PrintedText> { self.whole.streamOutput() }

    /// Waits until every task has ended, and meanwhile prints the tasks' output; see ``AsyncResult/printOutput()``.
    public func printOutput() async throws { try await self.whole.printOutput() }
}

/// Makes whole lines, each with its engine's id, from text that many engines print at once.
package struct OutputLines {
    struct Source: Hashable {
        let engine: EngineID?
        let stream: PrintedText.Stream
    }

    let isColoured: Bool
    /// Text whose end of line has not come yet, by its source.
    private var partial: [Source: String] = [:]

    package init(isColoured: Bool) { self.isColoured = isColoured }

    /// Takes a piece of text and gives the lines that are whole now.
    package mutating func take(_ printed: PrintedText) -> [(stream: PrintedText.Stream, line: String)] {
        let source = Source(engine: printed.engineID, stream: printed.stream)
        let text = self.partial[source, default: ""] + printed.text
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        self.partial[source] = lines.popLast().map { String($0) } ?? ""
        return lines.map { (source.stream, self.line($0, from: source)) }
    }

    /// The text that ended without an end of line.
    package var rest: [(stream: PrintedText.Stream, line: String)] {
        self.partial.filter { !$0.value.isEmpty }.sorted { ($0.key.engine?.number ?? -1) < ($1.key.engine?.number ?? -1) }.map {
            ($0.key.stream, self.line($0.value[...], from: $0.key))
        }
    }

    /// Colours that can be read on black and on white, one after the other.
    private static let colours = [36, 33, 35, 32, 34, 31]

    private func line(_ text: Substring, from source: Source) -> String {
        let name = source.engine.map { "[\($0)]" } ?? "[?]"
        guard self.isColoured, let engine = source.engine else { return "\(name) \(text)\n" }
        return "\u{1B}[\(Self.colours[engine.number % Self.colours.count])m\(name)\u{1B}[0m \(text)\n"
    }

    func write(_ lines: [(stream: PrintedText.Stream, line: String)]) {
        for (stream, line) in lines {
            if stream == .stdout { print(line, terminator: "") } else { ProgressLine.write(line) }
        }
    }
}
