import Apus
import Dispatch
import Foundation

/// Writes a line to standard error.
func standardError(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

/// Waits until one of the signals arrives, and gives its number; 0 when the wait was cancelled.
func waitForSignal(_ signals: [Int32] = [SIGINT, SIGTERM]) async -> Int32 {
    let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
    let sources = signals.map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number)
        source.setEventHandler { continuation.yield(number) }
        source.resume()
        return source
    }
    defer { for source in sources { source.cancel() } }
    var iterator = stream.makeAsyncIterator()
    return await iterator.next(isolation: nil) ?? 0
}

/// Formats rows as aligned columns under their titles.
func table(_ titles: [String], _ rows: [[String]]) -> String {
    let widths = titles.indices.map { column in ([titles] + rows).map { $0[column].count }.max() ?? 0 }
    return ([titles] + rows).map { row in
        zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined(separator: "  ")
            .replacing(/\s+$/, with: "")
    }.joined(separator: "\n")
}
