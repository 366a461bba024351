/// Why a kernel ended, or why a request got no answer from Python.
package enum KernelEnd: Sendable, Equatable {
    /// The system started no process, for this reason.
    case notStarted(String)
    /// The process ended before it was up.
    case endedBeforeReady(how: String)
    /// The process ended by itself.
    case died(how: String)
    /// The process sent bytes that are no frame.
    case torn
    /// A client wanted another kernel.
    case replaced
    /// A request passed its limit, was interrupted, and went on running. Both times are in seconds.
    case ignoredInterrupt(limit: Double, grace: Double)
    /// User code ended the interpreter: `exit()` in a cell.
    case left
    /// The engine ends.
    case stopped
}

extension KernelEnd: CustomStringConvertible {
    /// A text to follow a colon.
    package var description: String {
        switch self {
        case .notStarted(let why): why
        case .endedBeforeReady(let how): "Python ended before it was ready: \(how). Its own words are above"
        case .died(let how): "its Python kernel died: \(how)"
        case .torn:
            "its Python kernel sent what cannot be understood, as when user code writes to its descriptor 3, and was ended"
        case .replaced: "a client restarted its kernel"
        case .ignoredInterrupt(let limit, let grace):
            "it did not stop within \(Self.text(grace)) s of the interrupt at its limit of \(Self.text(limit)) s, so its kernel was killed"
        case .left: "user code ended the interpreter"
        case .stopped: "the engine was stopped"
        }
    }

    private static func text(_ seconds: Double) -> String {
        seconds == seconds.rounded() ? String(Int(seconds)) : String(seconds)
    }
}
