import NIOCore

/// The header of a frame: flags and a length of one byte, or of eight when LONG is set (ZMTP 3.1, section 3.2).
struct FrameHeader: Sendable, Equatable {
    struct Flags: OptionSet, Sendable {
        let rawValue: UInt8
        /// Another frame of the same message follows.
        static let more = Flags(rawValue: 0x01)
        /// The length takes eight bytes.
        static let long = Flags(rawValue: 0x02)
        /// The frame is a command.
        static let command = Flags(rawValue: 0x04)
        static let reserved = Flags(rawValue: 0xF8)
    }

    /// The most bytes a header takes.
    static let maximumSize = 9
    /// The longest body whose length fits one byte.
    static let maximumShortLength = 255

    var flags: Flags
    var length: Int

    /// How many bytes a header takes whose first byte is this one.
    @inline(__always)
    static func size(firstByte: UInt8) -> Int {
        firstByte & Flags.long.rawValue == 0 ? 2 : Self.maximumSize
    }

    /// How many bytes the header of a body this long takes.
    @inline(__always)
    static func size(bodyLength: Int) -> Int {
        bodyLength <= Self.maximumShortLength ? 2 : Self.maximumSize
    }

    init(flags: Flags, length: Int) {
        self.flags = length > Self.maximumShortLength ? flags.union(.long) : flags
        self.length = length
    }

    /// Takes a header off the front of the bytes, or nothing if it is not all there.
    init?(reading bytes: inout ByteBuffer) throws(ProtocolViolation) {
        let start = bytes.readerIndex
        guard let first = bytes.getInteger(at: start, as: UInt8.self) else { return nil }
        let flags = Flags(rawValue: first)
        guard flags.isDisjoint(with: .reserved), !flags.isSuperset(of: [.command, .more]) else { throw .invalidFlags(first) }
        if flags.contains(.long) {
            guard let length = bytes.getInteger(at: start + 1, as: UInt64.self) else { return nil }
            // A length beyond Int is beyond every limit too.
            self.length = Int(clamping: length)
        } else {
            guard let length = bytes.getInteger(at: start + 1, as: UInt8.self) else { return nil }
            self.length = Int(length)
        }
        self.flags = flags
        bytes.moveReaderIndex(forwardBy: Self.size(firstByte: first))
    }

    func write(to bytes: inout ByteBuffer) {
        bytes.writeInteger(self.flags.rawValue)
        if self.flags.contains(.long) {
            bytes.writeInteger(UInt64(self.length))
        } else {
            bytes.writeInteger(UInt8(self.length))
        }
    }
}
