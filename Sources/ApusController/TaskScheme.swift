import ApusCore

/// How the controller places tasks: by one of the scheduler's choices, in turn and without thought, or not at all.
enum TaskScheme: Sendable, Equatable {
    case choosing(TaskScheduler.Scheme)
    /// Engines in turn, as many tasks as come; dependencies, targets and retries are not looked at (`pure`).
    case pure
    /// There is no task scheduler (`none`).
    case none

    init(_ name: String) {
        switch name {
        case "pure": self = .pure
        case "none": self = .none
        default: self = .choosing(TaskScheduler.Scheme(rawValue: name) ?? .leastload)
        }
    }

    func configuration(highWaterMark: Int?) -> TaskScheduler.Configuration {
        let seed = UInt64.random(in: 0 ... .max)
        return switch self {
        case .choosing(let scheme): TaskScheduler.Configuration(scheme: scheme, highWaterMark: highWaterMark, seed: seed)
        case .pure: TaskScheduler.Configuration(scheme: .lru, highWaterMark: 0, seed: seed)
        case .none: TaskScheduler.Configuration(seed: seed)
        }
    }
}
