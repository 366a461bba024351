import NIOCore

/// The 64 bytes each side sends first (ZMTP 3.1, section 3.1).
///
///     0xFF  8 padding bytes  0x7F | major minor | mechanism, 20 bytes, zero padded | as-server | 31 filler bytes
struct Greeting: Sendable, Equatable {
    static let size = 64

    var majorVersion: UInt8 = 3
    var minorVersion: UInt8 = 1
    var mechanism = "NULL"

    func encoded() -> ByteBuffer {
        var bytes = ByteBufferAllocator().buffer(capacity: Self.size)
        bytes.writeInteger(UInt8(0xFF))
        bytes.writeInteger(UInt64(0))
        bytes.writeInteger(UInt8(0x7F))
        bytes.writeInteger(self.majorVersion)
        bytes.writeInteger(self.minorVersion)
        bytes.writeString(self.mechanism)
        bytes.writeRepeatingByte(0, count: Self.size - bytes.readableBytes)
        return bytes
    }

    /// Checks the first bytes of a peer as they come, so that a program that does not speak ZMTP is refused without waiting for
    /// more.
    ///
    /// - Returns: `nil` while bytes are missing and those present are valid.
    static func parse(_ bytes: ByteBuffer) throws(ProtocolViolation) -> Greeting? {
        let view = bytes.readableBytesView
        func byte(_ index: Int) -> UInt8? {
            index < view.count ? view[view.startIndex + index] : nil
        }
        if let first = byte(0), first != 0xFF { throw .notZMTP }
        if let tenth = byte(9), tenth != 0x7F { throw .notZMTP }
        if let major = byte(10), major < 3 {
            // Version 2.0 announces itself as revision 1.
            throw .unsupportedVersion(major: major == 0 ? 1 : 2)
        }
        guard view.count >= Self.size else { return nil }
        let name = view.dropFirst(12).prefix(20).prefix { $0 != 0 }
        let greeting = Greeting(
            majorVersion: byte(10)!, minorVersion: byte(11)!, mechanism: String(decoding: name, as: UTF8.self))
        guard greeting.mechanism == "NULL" else { throw .unsupportedMechanism(greeting.mechanism) }
        return greeting
    }
}
