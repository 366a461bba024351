/// An error of another task, which a function that waited for it passes on.
///
/// The function's own task then ends with the other task's error itself, not with a new error around it, so that the error does
/// not grow with each task it passes through.
package protocol RelayedError: Error {
    /// The error's type where it was raised first.
    var name: String { get }
    var value: String { get }
    /// Where it was raised, and through which tasks it came.
    var traceback: [String] { get }
    /// The error itself, where it was `Codable`.
    var travelling: TravellingError? { get }
    /// The error's localized texts.
    var texts: ErrorTexts { get }
}

/// The texts of a localized error besides its description.
package struct ErrorTexts: Sendable, Hashable {
    package var failureReason: String?
    package var recoverySuggestion: String?
    package var helpAnchor: String?

    package init(failureReason: String? = nil, recoverySuggestion: String? = nil, helpAnchor: String? = nil) {
        self.failureReason = failureReason
        self.recoverySuggestion = recoverySuggestion
        self.helpAnchor = helpAnchor
    }
}
