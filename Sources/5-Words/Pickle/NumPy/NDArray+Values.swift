import NIOCore

extension NDArray {
    /// The elements along the first axis: the numbers of a one-dimensional array, else arrays of one dimension less.
    func scalarValues() throws -> [PickleValue] {
        guard let length = self.shape.first else {
            throw PickleError(.shapeMismatch, "expected a sequence, found an array of no dimensions")
        }
        if self.shape.count > 1 {
            let rest = Array(self.shape.dropFirst())
            return try (0..<length).map { .array(try self[rows: $0..<$0 + 1].reshaped(rest)) }
        }
        switch self.scalarType.nativeOrder {
        case Double.scalarType: return try self.elements(as: Double.self).map { .float($0) }
        case Float.scalarType: return try self.elements(as: Float.self).map { .float(Double($0)) }
        case Int.scalarType: return try self.elements(as: Int.self).map { .int($0) }
        case Bool.scalarType: return try self.elements(as: Bool.self).map { .bool($0) }
        default: break
        }
        let size = self.scalarType.size
        return try (0..<length).map { try self.scalar(at: self.data.readerIndex + $0 * size) }
    }

    /// The one element of an array of one element, as a plain value.
    func scalarValue() throws -> PickleValue {
        guard self.count == 1 else {
            throw PickleError(.shapeMismatch, "expected a number, found an array with shape \(self.shape)")
        }
        return try self.scalar(at: self.data.readerIndex)
    }

    private func scalar(at index: Int) throws -> PickleValue {
        let endianness: Endianness = self.scalarType.description.hasPrefix(">") ? .big : .little
        func integer<T: FixedWidthInteger>(_: T.Type, _ offset: Int = 0) -> T {
            self.data.getInteger(at: index + offset, endianness: endianness)!
        }
        switch (self.scalarType.kind, self.scalarType.size) {
        case ("b", 1): return .bool(integer(UInt8.self) != 0)
        case ("i", 1): return .int(Int(integer(Int8.self)))
        case ("i", 2): return .int(Int(integer(Int16.self)))
        case ("i", 4): return .int(Int(integer(Int32.self)))
        case ("i", 8): return .int(Int(integer(Int64.self)))
        case ("u", 1): return .int(Int(integer(UInt8.self)))
        case ("u", 2): return .int(Int(integer(UInt16.self)))
        case ("u", 4): return .int(Int(integer(UInt32.self)))
        case ("u", 8): return .integer(integer(UInt64.self))
        case ("f", 2): return .float(Double(halfPrecisionBits: integer(UInt16.self)))
        case ("f", 4): return .float(Double(Float(bitPattern: integer(UInt32.self))))
        case ("f", 8): return .float(Double(bitPattern: integer(UInt64.self)))
        case ("c", 8):
            let parts = (Float(bitPattern: integer(UInt32.self)), Float(bitPattern: integer(UInt32.self, 4)))
            return .complex(PickleComplex(real: Double(parts.0), imaginary: Double(parts.1)))
        case ("c", 16):
            let parts = (Double(bitPattern: integer(UInt64.self)), Double(bitPattern: integer(UInt64.self, 8)))
            return .complex(PickleComplex(real: parts.0, imaginary: parts.1))
        case ("S", let size):
            // NumPy pads with zeros, and drops them on reading.
            let bytes = self.data.getBytes(at: index, length: size)!
            return .bytes(bytes.prefix((bytes.lastIndex { $0 != 0 } ?? -1) + 1))
        case ("U", let size):
            var text = ""
            let values = stride(from: 0, to: size, by: 4).map { integer(UInt32.self, $0) }
            for value in values.prefix((values.lastIndex { $0 != 0 } ?? -1) + 1) {
                guard let scalar = Unicode.Scalar(value) else {
                    throw PickleError(.invalidValue, "an array with text that is no Unicode")
                }
                text.unicodeScalars.append(scalar)
            }
            return .string(text)
        default:
            throw PickleError(.scalarMismatch, "elements of \(self.scalarType) have no plain value; use the array's data")
        }
    }
}

extension Double {
    /// The value of an IEEE 754 half-precision number (`Float16` does not exist on every platform).
    init(halfPrecisionBits bits: UInt16) {
        let exponent = Int(bits >> 10 & 0x1f)
        let fraction = Double(bits & 0x3ff) / 1024
        let magnitude: Double =
            switch exponent {
            case 0: fraction * 0x1p-14
            case 31: fraction == 0 ? .infinity : .nan
            default: Double(sign: .plus, exponent: exponent - 15, significand: 1 + fraction)
            }
        self = bits >= 0x8000 ? -magnitude : magnitude
    }
}

extension NDArray: CustomStringConvertible {
    /// "array([[1.0, 2.0], [3.0, 4.0]])": all elements of a small array, the first and last three along each axis of a large.
    public var description: String {
        let text = self.describe(axis: 0, start: 0, abridged: self.count > 100)
        let plain: [NDArrayScalarType] = [Double.scalarType, Int.scalarType, Bool.scalarType]
        if self.count == 0 { return "array([], shape=\(self.shape), dtype='\(self.scalarType)')" }
        return plain.contains(self.scalarType) ? "array(\(text))" : "array(\(text), dtype='\(self.scalarType)')"
    }

    private func describe(axis: Int, start: Int, abridged: Bool) -> String {
        guard axis < self.shape.count else {
            return (try? self.scalar(at: self.data.readerIndex + start * self.scalarType.size))?.description ?? "…"
        }
        let length = self.shape[axis]
        let step = self.shape[(axis + 1)...].reduce(1, *)
        var parts: [String] = []
        for index in 0..<length {
            if abridged, length > 6, index == 3 { parts.append("…") }
            if abridged, length > 6, (3..<length - 3).contains(index) { continue }
            parts.append(self.describe(axis: axis + 1, start: start + index * step, abridged: abridged))
        }
        return "[" + parts.joined(separator: ", ") + "]"
    }
}
