import ApusWire
import NIOCore

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Shows the progress of a long wait on standard error: one line drawn again on a terminal, elsewhere a line every ten seconds.
struct ProgressLine {
    private let total: Int
    private let started = ContinuousClock.now
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private var lastPlain: ContinuousClock.Instant?
    private var lackedEngines = false

    private init(total: Int) { self.total = total }

    /// Waits, showing progress. False when the time is over first.
    ///
    /// - Parameters:
    ///   - done: How many of the total have ended.
    ///   - lacksEngines: Whether tasks wait because no engine is registered.
    ///   - end: Waits until all have ended.
    static func wait(
        total: Int, interval: Duration, timeout: Duration?, done: @Sendable () -> Int,
        lacksEngines: @Sendable () -> Bool, end: @escaping @Sendable () async throws -> Void
    ) async throws -> Bool {
        var line = ProgressLine(total: total)
        let deadline = timeout.map { ContinuousClock.now + $0 }
        while true {
            let done = done()
            let isOver = deadline.map { ContinuousClock.now >= $0 } ?? false
            line.show(done: done, lacksEngines: done < total && lacksEngines(), isLast: done == total || isOver)
            if done == total { return true }
            if isOver { return false }
            // The interval only sets how often the line is drawn.
            _ = try await withDeadline(interval) { try await end() }
        }
    }

    private mutating func show(done: Int, lacksEngines: Bool, isLast: Bool) {
        let now = ContinuousClock.now
        let text = Self.text(
            done: done, of: self.total, seconds: (now - self.started) / .seconds(1), lacksEngines: lacksEngines)
        // A line is written at once when engines begin or cease to be missing.
        if lacksEngines != self.lackedEngines { self.lastPlain = nil }
        self.lackedEngines = lacksEngines
        if self.isTerminal {
            Self.write("\r\u{1B}[K" + text + (isLast ? "\n" : ""))
        } else if isLast || self.lastPlain.map({ now - $0 >= .seconds(10) }) ?? true {
            self.lastPlain = now
            Self.write(text + "\n")
        }
    }

    /// "3/8 tasks, 1.5 s, 2.0 tasks/s, 2.5 s left".
    static func text(done: Int, of total: Int, seconds: Double, lacksEngines: Bool) -> String {
        let rate = seconds > 0 ? Double(done) / seconds : 0
        var text = "\(done)/\(total) tasks, \(Self.rounded(seconds)) s"
        if rate > 0 { text += ", \(Self.rounded(rate)) tasks/s" }
        if lacksEngines {
            text += ", \(NoEngineText.isRegistered)"
        } else if done < total, rate > 0 {
            text += ", \(Self.rounded(Double(total - done) / rate)) s left"
        }
        return text
    }

    private static func rounded(_ value: Double) -> String {
        value >= 100 ? String(Int(value.rounded())) : String(Double(Int((value * 10).rounded())) / 10)
    }

    /// Writes to standard error.
    static func write(_ text: String) {
        var text = text
        text.withUTF8 { bytes in _ = unistdWrite(STDERR_FILENO, bytes.baseAddress, bytes.count) }
    }
}

private func unistdWrite(_ file: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(file, bytes, count) }
