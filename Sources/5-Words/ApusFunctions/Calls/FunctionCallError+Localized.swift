public import Foundation

extension FunctionCallError: LocalizedError {
    /// The message.
    public var errorDescription: String? { self.description }
}
