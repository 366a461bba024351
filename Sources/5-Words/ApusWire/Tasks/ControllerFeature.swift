/// How an engine answers pings, as both sides tell each other at its registration (`apus`, `heart`); by default it repeats the
/// ping's text.
package enum HeartAnswer: String, Sendable {
    /// The text is followed by the engine's signature of it.
    case signed
}

/// An ability of Apus's controller that ipyparallel's has not; the controller announces its features to clients that connect.
package enum ControllerFeature: String, Sendable, CaseIterable {
    case priority
    /// Retries after a pause, or of chosen errors only.
    case retryRule = "retry"
    case resources
    /// Results of tasks as arguments of others.
    case results
    /// Aborts of tasks that no engine has, also while there are no engines.
    case aborts
    /// Run limits: the controller says which engines keep them, and hands a task with a limit to no other engine.
    case limits

    /// Tasks that end when they have waited long enough while no engine is registered.
    case engineTimeout = "engine_timeout"
    /// Tasks that are aborted when their client has been gone for so long.
    case abandonedAfter = "abandoned_after"
    /// Says of chosen tasks why they wait.
    case reasons
    /// Took up the unfinished tasks of the controller before this one. A task that it does not know was never accepted.
    case restoration
    /// Says how long it has run.
    case uptime

    /// The feature's name in error messages.
    package var name: String {
        switch self {
        case .priority: "priorities"
        case .retryRule: "rules for retries"
        case .resources: "resources of engines"
        case .results: "results as arguments"
        case .aborts: "aborts without engines"
        case .limits: "run limits"
        case .engineTimeout: "engine time-outs"
        case .abandonedAfter: "tasks that end with their client"
        case .reasons: "reasons why a task waits"
        case .restoration: "tasks that outlive a controller"
        case .uptime: "uptime"
        }
    }
}
