/// How an engine answers pings, as both sides tell each other at its registration (`apus`, `heart`); by default it repeats the
/// ping's text.
package enum HeartAnswer: String, Sendable {
    /// The text is followed by the engine's signature of it.
    case signed
}

/// What a controller of ours can do beyond ipyparallel's, as it tells clients that connect.
package enum ControllerFeature: String, Sendable, CaseIterable {
    case priority
    /// Retries after a pause, or of chosen errors only.
    case retryRule = "retry"
    case resources
    /// Results of tasks as arguments of others.
    case results
    /// Aborts of tasks that no engine has, also while there are no engines.
    case aborts
    /// Tells which engines keep run limits, and hands tasks with one to no other.
    case limits

    /// Tasks that end when they have waited long enough while no engine is registered.
    case engineTimeout = "engine_timeout"
    /// Says of chosen tasks why they wait.
    case reasons

    /// As messages name it.
    package var name: String {
        switch self {
        case .priority: "priorities"
        case .retryRule: "rules for retries"
        case .resources: "resources of engines"
        case .results: "results as arguments"
        case .aborts: "aborts without engines"
        case .limits: "run limits"
        case .engineTimeout: "engine time-outs"
        case .reasons: "reasons why a task waits"
        }
    }
}
