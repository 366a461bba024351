/// A position in a pickle's bytes. Reading past the end throws.
struct PickleCursor {
    let bytes: UnsafeRawBufferPointer
    private(set) var position = 0

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var remaining: Int { self.bytes.count - self.position }

    static let endsEarly = PickleError(.malformed, "the pickle ends early")

    @inline(__always)
    mutating func byte() throws -> UInt8 {
        guard self.position < self.bytes.count else { throw Self.endsEarly }
        defer { self.position += 1 }
        return self.bytes[self.position]
    }

    @inline(__always)
    mutating func integer<T: FixedWidthInteger>(_: T.Type) throws -> T {
        guard self.remaining >= MemoryLayout<T>.size else { throw Self.endsEarly }
        defer { self.position += MemoryLayout<T>.size }
        return T(littleEndian: self.bytes.loadUnaligned(fromByteOffset: self.position, as: T.self))
    }

    /// Takes the next `count` bytes.
    @inline(__always)
    mutating func take(_ count: some FixedWidthInteger) throws -> UnsafeRawBufferPointer {
        guard let count = Int(exactly: count), count >= 0, count <= self.remaining else { throw Self.endsEarly }
        defer { self.position += count }
        return UnsafeRawBufferPointer(rebasing: self.bytes[self.position..<self.position + count])
    }

    /// The bytes up to the next line feed, which is skipped.
    mutating func line() throws -> UnsafeRawBufferPointer {
        guard let end = self.bytes[self.position...].firstIndex(of: 0x0a) else { throw Self.endsEarly }
        defer { self.position = end + 1 }
        return UnsafeRawBufferPointer(rebasing: self.bytes[self.position..<end])
    }

    static func text(_ bytes: UnsafeRawBufferPointer) throws -> String {
        // Names and most texts are ASCII, and validation costs more than making the string.
        if bytes.isASCII { return String(decoding: bytes, as: UTF8.self) }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw PickleError(.invalidValue, "a text is no valid UTF-8 (Python allows lone surrogates, Swift does not)")
        }
        return text
    }

    mutating func float() throws -> Double {
        Double(bitPattern: try self.integer(UInt64.self).byteSwapped)
    }

    /// Reads a whole pickle of protocol 2 or later that holds one number, text or None; nil if the pickle holds anything else.
    mutating func readScalarPickle() -> PickleValue? {
        let start = self.position
        if let value = try? self.scalarPickle() { return value }
        self.position = start
        return nil
    }

    private mutating func scalarPickle() throws -> PickleValue? {
        guard self.remaining >= 4, self.bytes[self.position] == PickleOpcode.proto.rawValue, self.bytes[self.position + 1] <= 5
        else {
            return nil
        }
        self.position += 2
        if self.bytes[self.position] == PickleOpcode.frame.rawValue, self.remaining > 11 { self.position += 9 }
        let value: PickleValue
        switch PickleOpcode(rawValue: try self.byte()) {
        case .some(.none): value = .none
        case .newTrue: value = .bool(true)
        case .newFalse: value = .bool(false)
        case .binInt1: value = .int(Int(try self.byte()))
        case .binInt2: value = .int(Int(try self.integer(UInt16.self)))
        case .binInt: value = .int(Int(try self.integer(Int32.self)))
        case .binFloat: value = .float(try self.float())
        case .shortBinUnicode:
            let count = try self.byte()
            value = .string(try Self.text(try self.take(count)))
        default: return nil
        }
        if self.remaining > 1, self.bytes[self.position] == PickleOpcode.memoize.rawValue { self.position += 1 }
        return try self.byte() == PickleOpcode.stop.rawValue ? value : nil
    }
}

extension UnsafeRawBufferPointer {
    fileprivate var isASCII: Bool {
        var bits: UInt64 = 0
        var place = 0
        while place + 8 <= self.count {
            bits |= self.loadUnaligned(fromByteOffset: place, as: UInt64.self)
            place += 8
        }
        while place < self.count {
            bits |= UInt64(self[place])
            place += 1
        }
        return bits & 0x8080_8080_8080_8080 == 0
    }
}
