/// The texts of errors that say that no engine is registered.
package enum NoEngineText {
    package static let isRegistered = "no engine is registered"
    /// What a user can do about the error.
    package static let remedy = "start some ('apus start -n 4', 'apus engine') or wait for them (waitForEngines)"
}
