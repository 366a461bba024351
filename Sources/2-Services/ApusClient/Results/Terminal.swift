#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Whether this process prints to a terminal, and text without a terminal's escape sequences.
package enum Terminal {
    /// Whether text may have colours wherever it is printed: standard output and standard error are both terminals, and
    /// `NO_COLOR` is not set.
    static let showsColours = isatty(STDOUT_FILENO) == 1 && isatty(STDERR_FILENO) == 1 && getenv("NO_COLOR") == nil

    /// The text without the escape sequences that tell a terminal about colours, links and cursor positions.
    package static func plain(_ text: String) -> String {
        guard text.utf8.contains(0x1b) else { return text }
        var result: [UInt8] = []
        var bytes = text.utf8[...]
        while let byte = bytes.popFirst() {
            guard byte == 0x1b else {
                result.append(byte)
                continue
            }
            switch bytes.popFirst() {
            case UInt8(ascii: "["):
                // Parameters, up to the letter that ends the sequence.
                while let next = bytes.first, !(0x40...0x7e).contains(next), next >= 0x20, next < 0x80 { bytes.removeFirst() }
                if let last = bytes.first, (0x40...0x7e).contains(last) { bytes.removeFirst() }
            case UInt8(ascii: "]"):
                // An operating system command: up to a bell, or an escape and a backslash.
                while let next = bytes.popFirst(), next != 0x07 {
                    if next == 0x1b {
                        _ = bytes.popFirst()
                        break
                    }
                }
            default: break
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
