import CFunctionSection

/// Which build the running executable is.
package enum BuildFingerprint {
    /// A short text that all processes of one executable share, and that another build does not.
    ///
    /// The text is the linker's build id where the executable has one, else a hash over all parts that get loaded, made at the
    /// first use in milliseconds. "unknown" where the system gives neither.
    package static let current: String = {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { buffer in
            let count = apus_copy_build_identity(buffer.baseAddress!, buffer.count)
            return count == 0 ? "unknown" : hexadecimal(buffer[..<count])
        }
    }()

    /// A hash over the loadable parts of the executable at `path`; `nil` if the file is no executable.
    package static func hash(ofExecutableAt path: String) -> String? {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { buffer in
            let count = apus_hash_executable(path, buffer.baseAddress!, buffer.count)
            return count == 0 ? nil : hexadecimal(buffer[..<count])
        }
    }

    private static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
