#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// This process, as the system knows it.
enum ProcessIdentity {
    static var current: Int32 { getpid() }

    static func raise(_ signal: Int32) { kill(getpid(), signal) }
}
