public import Foundation

extension PickleError: LocalizedError {
    /// The message, with the place.
    public var errorDescription: String? { self.description }
}
