extension Client {
    /// The version of this library, as numbers and as text.
    public static let versionInfo = (major: 0, minor: 1, patch: 0)
    public static let version = "\(versionInfo.major).\(versionInfo.minor).\(versionInfo.patch)"
}
