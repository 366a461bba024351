private import Foundation

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// How a process ended, and the last lines of its log.
package struct ProcessExit: Sendable, Hashable, CustomStringConvertible {
    package enum Cause: Sendable, Hashable {
        case code(Int32)
        case signal(Int32)
        /// The system does not say: the process is gone, or hangs in the kernel in spite of SIGKILL.
        case unknown
    }

    package let cause: Cause
    /// The end of its log, oldest line first; empty when its output went elsewhere.
    package let lastLines: [String]

    package init(_ cause: Cause, lastLines: [String] = []) {
        self.cause = cause
        self.lastLines = lastLines
    }

    package var isSuccess: Bool { self.cause == .code(0) }

    /// A text to follow a name: "ended with signal 11 (Segmentation fault); last lines: …".
    package var description: String {
        self.lastLines.isEmpty ? "\(self.cause)" : "\(self.cause); last lines:" + self.lastLines.map { "\n    " + $0 }.joined()
    }
}

extension ProcessExit.Cause: CustomStringConvertible {
    /// A text to follow a name: "ended with signal 11 (Segmentation fault)".
    package var description: String {
        switch self {
        case .code(let code): "ended with code \(code)"
        case .signal(let number): "ended with signal \(number) (\(String(cString: strsignal(number))))"
        case .unknown: "ended, nobody knows how"
        }
    }
}

/// The end of a log file, for error messages.
enum LogTail {
    static func lines(of path: String, from start: UInt64 = 0, limit: Int = 12) -> [String] {
        guard let file = FileHandle(forReadingAtPath: path) else { return [] }
        defer { try? file.close() }
        // Room for a dozen lines of any sensible length; the window is cut at the start of a line.
        let window: UInt64 = 8192
        guard let end = try? file.seekToEnd(), end > start else { return [] }
        let first = max(start, end > window ? end - window : 0)
        guard (try? file.seek(toOffset: first)) != nil, let data = try? file.readToEnd() else { return [] }
        var lines = String(decoding: data, as: UTF8.self).split(separator: "\n").map(String.init)
        if first > start && lines.count > 1 { lines.removeFirst() }
        return Array(lines.suffix(limit))
    }

    /// The file's size now, which is where the next process's lines begin.
    static func end(of path: String) -> UInt64 {
        guard let file = FileHandle(forReadingAtPath: path) else { return 0 }
        defer { try? file.close() }
        return (try? file.seekToEnd()) ?? 0
    }
}
