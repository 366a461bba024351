/// The words for the want of an engine, the same wherever a user meets them.
package enum NoEngineText {
    package static let isRegistered = "no engine is registered"
    /// What to do about it.
    package static let remedy = "start some ('apus start -n 4', 'apus engine') or wait for them (waitForEngines)"
}
