/// The version of Apus, as programs and controllers tell it.
package enum ApusVersion {
    package static let numbers = (major: 0, minor: 1, patch: 0)
    /// The numbers with points between them.
    package static let text = "\(numbers.major).\(numbers.minor).\(numbers.patch)"
}
