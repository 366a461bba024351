/// When a task that failed is tried again, as long as it has ``LoadBalancedView/retries`` left, and after which errors.
///
/// ```swift
/// view.retries = 5
/// view.retryRule = RetryRule(pause: .seconds(1), errors: ["ConnectionError", "EngineError"])
/// ```
public struct RetryRule: Sendable, Hashable {
    /// How long a task waits before its first retry. Its engine is free meanwhile.
    public var pause: Duration
    /// By how much each further wait is longer than the one before.
    public var factor: Double
    /// No wait is longer than this.
    public var longest: Duration
    /// The errors worth another try, by name: a Swift type's, or a Python class's; empty for any. The death of an engine is an
    /// `EngineError`.
    public var errors: Set<String>

    /// A rule; by default a task is tried again at once, after any error.
    public init(
        pause: Duration = .zero, factor: Double = 2, longest: Duration = .seconds(60), errors: Set<String> = []
    ) {
        self.pause = pause
        self.factor = factor
        self.longest = longest
        self.errors = errors
    }

    /// Reads a rule from a message; nil if the value is no object.
    package init?(_ json: JSONValue) {
        guard json.object != nil else { return nil }
        func duration(_ key: String, _ standIn: Double) -> Duration {
            .seconds(min(max(json[key]?.double ?? standIn, 0), 1e9))
        }
        self.init(
            pause: duration("pause", 0), factor: min(max(json["factor"]?.double ?? 2, 1), 1e6),
            longest: duration("longest", 60), errors: Set((json["errors"]?.array ?? []).compactMap { $0.string }))
    }

    package var json: JSONValue {
        [
            "pause": .double(self.pause / .seconds(1)), "factor": .double(self.factor),
            "longest": .double(self.longest / .seconds(1)), "errors": .array(self.errors.sorted().map { .string($0) }),
        ]
    }
}
