package import ApusCore
package import ApusWire

/// The news that an engine has come or gone, for the code that launched it.
package enum EnginePresence: Sendable, Equatable {
    case joined(EngineUUID, EngineID)
    /// - Parameter hadWork: Whether the engine had requests that it had not answered.
    case left(EngineUUID, EngineRegistry.Departure, hadWork: Bool)
}
