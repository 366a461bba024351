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
}
