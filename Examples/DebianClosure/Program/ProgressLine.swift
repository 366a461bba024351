import DebianClosure
import Glibc

/// Shows how far the work is: on a terminal by a line that is redrawn, elsewhere only at the end.
struct ProgressLine {
    private let title: String
    private let total: Int
    private let clock = ContinuousClock()
    private let started: ContinuousClock.Instant
    private let isTerminal = isatty(STDOUT_FILENO) == 1
    private var lastDrawn: ContinuousClock.Instant?

    init(_ title: String, total: Int) {
        self.title = title
        self.total = total
        self.started = self.clock.now
    }

    mutating func show(_ done: Int) {
        let now = self.clock.now
        // At most ten times a second, which is as fast as people read.
        guard self.isTerminal, done == self.total || self.lastDrawn.map({ now - $0 > .milliseconds(100) }) ?? true else { return }
        self.lastDrawn = now
        let width = 30
        let filled = width * done / max(1, self.total)
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
        write("\r\u{1B}[K\(self.title)  [\(bar)]  \(done.grouped) of \(self.total.grouped)  \((now - self.started).inSeconds)")
    }

    /// Ends the line, and gives how long the work took.
    func finish() -> Duration {
        let elapsed = self.clock.now - self.started
        write("\(self.isTerminal ? "\r\u{1B}[K" : "")\(self.title)  \(self.total.grouped) packages in \(elapsed.inSeconds)\n")
        return elapsed
    }
}

/// Writes a text at once; `print` would wait for the end of the line.
func write(_ text: String) {
    var text = text
    text.withUTF8 { bytes in _ = Glibc.write(STDOUT_FILENO, bytes.baseAddress, bytes.count) }
}
