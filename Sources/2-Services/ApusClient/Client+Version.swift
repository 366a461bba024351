import ApusWire

extension Client {
    /// The version of this library, as numbers and as text.
    public static let versionInfo = ApusVersion.numbers
    /// The version of this library as text, its numbers with points between them.
    public static let version = ApusVersion.text
}
