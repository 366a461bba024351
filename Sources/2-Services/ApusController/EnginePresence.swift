package import ApusCore
package import ApusWire

/// An engine has come or gone, as those who launched it are told.
package enum EnginePresence: Sendable, Equatable {
    case joined(EngineUUID, EngineID)
    /// - Parameter hadWork: Whether it had requests that it had not answered.
    case left(EngineUUID, EngineRegistry.Departure, hadWork: Bool)
}
