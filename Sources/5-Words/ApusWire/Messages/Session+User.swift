#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

extension Session {
    /// The name that this process's user goes by, for the header's `username`.
    package static let currentUser: String = {
        for variable in ["USER", "LOGNAME"] {
            if let name = getenv(variable).map({ String(cString: $0) }), !name.isEmpty { return name }
        }
        return "user"
    }()
}
