/// An error of another task, which a function that waited for it passes on.
///
/// Its own task then ends with the error that the other ended with, and not with one that has it inside: after a hundred tasks within
/// each other the error is still one, and no longer than one.
package protocol RelayedError: Error {
    /// The error's type where it was raised first.
    var name: String { get }
    var value: String { get }
    /// Where it was raised, and through which tasks it came.
    var traceback: [String] { get }
    /// The error itself, where it was `Codable`.
    var travelling: TravellingError? { get }
    /// What it says besides its value; see ``ErrorTexts``.
    var texts: ErrorTexts { get }
}

/// What a localized error says besides its description.
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
