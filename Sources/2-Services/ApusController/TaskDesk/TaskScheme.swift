import ApusCore

/// How the controller places tasks: by a scheme of the scheduler, on engines in turn, or not at all.
enum TaskScheme: Sendable, Equatable {
    case choosing(TaskScheduler.Scheme)
    /// Engines in turn, without a limit of tasks; dependencies, targets and retries are ignored (`pure`).
    case pure
    /// No task scheduler (`none`).
    case none

    init(_ name: String) {
        switch name {
        case "pure": self = .pure
        case "none": self = .none
        default: self = .choosing(TaskScheduler.Scheme(rawValue: name) ?? .leastload)
        }
    }

    /// - Parameter hasRecords: Whether the ends of tasks of earlier controllers are on record.
    func configuration(_ options: ControllerOptions, hasRecords: Bool) -> TaskScheduler.Configuration {
        var configuration = TaskScheduler.Configuration(
            highWaterMark: options.highWaterMark, seed: UInt64.random(in: 0 ... .max), engineTimeout: options.engineTimeout,
            dependencyInterval: options.dependencyInterval, hasRecords: hasRecords)
        switch self {
        case .choosing(let scheme): configuration.scheme = scheme
        case .pure: (configuration.scheme, configuration.highWaterMark) = (.lru, 0)
        case .none: break
        }
        return configuration
    }
}
