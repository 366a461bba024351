/// An integer of any size.
public struct PickleInteger: Sendable, Hashable, CustomStringConvertible {
    /// Two's complement, least significant byte first, no byte more than needed. Zero is empty.
    public let littleEndianBytes: [UInt8]

    /// The integer of these bytes: two's complement, least significant first.
    public init(littleEndianBytes bytes: some Collection<UInt8>) {
        var bytes = Array(bytes)
        // A top byte that only repeats the sign of the one below says nothing.
        while let top = bytes.last {
            let signBelow: UInt8 = bytes.count > 1 && bytes[bytes.count - 2] >= 0x80 ? 0xff : 0x00
            guard top == signBelow else { break }
            bytes.removeLast()
        }
        self.littleEndianBytes = bytes
    }

    /// The same integer, of any size that Swift has.
    public init(_ integer: some FixedWidthInteger) {
        var bytes = (0..<integer.bitWidth / 8).map { UInt8(truncatingIfNeeded: integer >> ($0 * 8)) }
        if integer > 0, bytes.last! >= 0x80 { bytes.append(0) }
        self.init(littleEndianBytes: bytes)
    }

    /// The integer of a decimal text: an optional sign and digits. Nil for any other text, and for one of more than 4300
    /// digits, Python's own limit for such text.
    public init?(decimal text: some StringProtocol) {
        var digits = text.utf8[...]
        let isNegative = digits.first == UInt8(ascii: "-")
        if isNegative || digits.first == UInt8(ascii: "+") { digits = digits.dropFirst() }
        guard !digits.isEmpty, digits.count <= 4300 else { return nil }
        var magnitude: [UInt8] = []
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            var carry = Int(digit - UInt8(ascii: "0"))
            for place in magnitude.indices {
                carry += Int(magnitude[place]) * 10
                magnitude[place] = UInt8(truncatingIfNeeded: carry)
                carry >>= 8
            }
            if carry > 0 { magnitude.append(UInt8(carry)) }
        }
        magnitude.append(0)
        self.init(littleEndianBytes: isNegative ? Self.negated(magnitude) : magnitude)
    }

    /// Whether it is less than zero.
    public var isNegative: Bool { (self.littleEndianBytes.last ?? 0) >= 0x80 }

    /// Decimal; hexadecimal above 2048 bytes, where decimal would take long.
    public var description: String {
        var rest = self.magnitude
        let sign = self.isNegative ? "-" : ""
        guard rest.count <= 2048 else {
            return sign + "0x"
                + rest.reversed().drop { $0 == 0 }.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }
        var digits: [UInt8] = []
        while let top = rest.last {
            if top == 0 {
                rest.removeLast()
                continue
            }
            var remainder = 0
            for place in rest.indices.reversed() {
                remainder = remainder << 8 | Int(rest[place])
                rest[place] = UInt8(remainder / 10)
                remainder %= 10
            }
            digits.append(UInt8(ascii: "0") + UInt8(remainder))
        }
        return digits.isEmpty ? "0" : sign + String(decoding: digits.reversed(), as: UTF8.self)
    }

    /// The nearest double; infinite when out of range.
    public var doubleValue: Double {
        var value = 0.0
        let magnitude = self.magnitude
        for byte in magnitude.reversed() { value = value * 256 + Double(byte) }
        return self.isNegative ? -value : value
    }

    private var magnitude: [UInt8] { self.isNegative ? Self.negated(self.littleEndianBytes) : self.littleEndianBytes }

    private static func negated(_ bytes: [UInt8]) -> [UInt8] {
        var carry = true
        var negated = bytes.map { byte in
            let (sum, overflow) = (~byte).addingReportingOverflow(carry ? 1 : 0)
            carry = overflow
            return sum
        }
        // The negative of -128 needs a byte more; the sign is the caller's.
        if let last = bytes.last, last >= 0x80, negated.last! >= 0x80 { negated.append(0) }
        return negated
    }
}

extension FixedWidthInteger {
    /// The same number, if it fits.
    public init?(exactly integer: PickleInteger) {
        let bytes = integer.littleEndianBytes
        var value: Self = integer.isNegative ? ~0 : 0
        guard Self.isSigned || !integer.isNegative else { return nil }
        let width = Self.bitWidth / 8
        guard bytes.count <= width || (!Self.isSigned && bytes.count == width + 1 && bytes.last == 0) else { return nil }
        for byte in bytes.prefix(width).reversed() {
            value = width == 1 ? Self(truncatingIfNeeded: byte) : value << 8 | Self(truncatingIfNeeded: byte)
        }
        self = value
    }
}
