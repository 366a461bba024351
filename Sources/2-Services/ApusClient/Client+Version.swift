extension Client {
    /// The version of this library, as numbers and as text.
    public static let versionInfo = (major: 0, minor: 1, patch: 0)
    /// The version of this library as text, its numbers with points between them.
    public static let version = "\(versionInfo.major).\(versionInfo.minor).\(versionInfo.patch)"
}
