/// The type of an array's elements: NumPy's `dtype`, in its text form.
public struct NDArrayScalarType: Sendable, Hashable, CustomStringConvertible {
    /// The text form, byte order first: `<f8`, `|u1`, `>i4`, `<M8[ns]`. For records, NumPy's list of fields as text.
    public let description: String
    /// Bytes of one element.
    public let size: Int
    /// For records: a list of (name, type) or (name, type, shape), as NumPy's `descr`. Nil for a single number.
    public let fields: PickleValue?

    /// The type of this text form: byte order (`<`, `>`, `|` or `=`), kind letter, size.
    ///
    /// - Throws: ``PickleError`` if the text has another form, or names objects (`O`), which have no bytes of their own.
    public init(_ text: String) throws {
        guard let type = Self(parsing: text) else {
            throw PickleError(.invalidValue, "no array type is written '\(text)'")
        }
        self = type
    }

    private init(description: String, size: Int, fields: PickleValue?) {
        self.description = description
        self.size = size
        self.fields = fields
    }

    private init?(parsing text: String) {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, bytes.count <= 64 else { return nil }
        let hasOrder = "<>|=".utf8.contains(first)
        let kindPlace = hasOrder ? 1 : 0
        guard bytes.count > kindPlace else { return nil }
        let kind = bytes[kindPlace]
        let sizeText = bytes[(kindPlace + 1)...].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        let unit = bytes[(kindPlace + 1 + sizeText.count)...]
        guard let number = sizeText.isEmpty ? 0 : Int(String(decoding: sizeText, as: UTF8.self)), number <= 1 << 30 else {
            return nil
        }
        let isTime = kind == UInt8(ascii: "M") || kind == UInt8(ascii: "m")
        guard unit.isEmpty || (isTime && Self.isTimeUnit(unit)) else { return nil }
        switch kind {
        case UInt8(ascii: "i"), UInt8(ascii: "u"): guard [1, 2, 4, 8].contains(number) else { return nil }
        case UInt8(ascii: "f"): guard [2, 4, 8, 12, 16].contains(number) else { return nil }
        case UInt8(ascii: "c"): guard [8, 16, 24, 32].contains(number) else { return nil }
        case UInt8(ascii: "b"): guard number == 1 else { return nil }
        case UInt8(ascii: "M"), UInt8(ascii: "m"): guard number == 8 else { return nil }
        case UInt8(ascii: "S"), UInt8(ascii: "V"), UInt8(ascii: "U"): break
        default: return nil
        }
        self.size = kind == UInt8(ascii: "U") ? number * 4 : number
        self.fields = nil
        let hasNoOrder = (number == 1 && kind != UInt8(ascii: "U")) || kind == UInt8(ascii: "S") || kind == UInt8(ascii: "V")
        let order = hasNoOrder ? "|" : first == UInt8(ascii: ">") ? ">" : "<"
        // A size may have come with zeros before it.
        self.description =
            order + String(UnicodeScalar(kind)) + (sizeText.isEmpty ? "" : "\(number)") + String(decoding: unit, as: UTF8.self)
    }

    /// The units of time that NumPy knows.
    private static let timeUnits: Set = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic"]

    /// Whether the text is a unit of time in brackets, such as `[ns]` or `[25s]`.
    private static func isTimeUnit(_ text: ArraySlice<UInt8>) -> Bool {
        guard text.first == UInt8(ascii: "["), text.last == UInt8(ascii: "]"), text.count > 2 else { return false }
        let inner = text.dropFirst().dropLast()
        let multiple = inner.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        return multiple.count <= 10 && self.timeUnits.contains(String(decoding: inner.dropFirst(multiple.count), as: UTF8.self))
    }

    /// The type of these fields: a list of (name, type) or (name, type, shape) tuples, as NumPy's `descr`.
    public init(fields: PickleValue) throws {
        self.init(description: fields.description, size: try Self.size(of: fields, depth: 0), fields: fields)
    }

    private static func size(of fields: PickleValue, depth: Int) throws -> Int {
        guard case .list(let fields) = fields, depth < 16 else {
            throw PickleError.mismatch(expected: "an array type", found: fields)
        }
        var total = 0
        for field in fields {
            guard case .tuple(let parts) = field, parts.count == 2 || parts.count == 3 else {
                throw PickleError.mismatch(expected: "a field of an array type", found: field)
            }
            let scalar: Int
            if case .string(let text) = parts[1] {
                scalar = try Self(text).size
            } else {
                scalar = try size(of: parts[1], depth: depth + 1)
            }
            var shape = [1]
            if parts.count == 3 {
                if case .tuple(let lengths) = parts[2] {
                    shape = lengths.map { if case .int(let length) = $0 { length } else { -1 } }
                } else if case .int(let length) = parts[2] {
                    shape = [length]
                } else {
                    shape = [-1]
                }
            }
            guard let count = NDArray.count(of: shape), case (let size, false) = count.multipliedReportingOverflow(by: scalar),
                size <= 1 << 40, total + size <= 1 << 40
            else { throw PickleError(.invalidValue, "an array type with an absurd field: \(field.summary)") }
            total += size
        }
        return total
    }

    /// The kind of the elements: `f` floating point, `i` and `u` integers, `b` bool, `c` complex, `V` records and others.
    public var kind: Character { self.fields == nil ? self.description.dropFirst().first! : "V" }

    /// Whether the bytes lie in the order this machine does not use.
    var isByteSwapped: Bool { self.fields == nil && self.description.utf8.first == (isLittleEndianMachine ? 0x3e : 0x3c) }

    /// The same type in this machine's byte order.
    var nativeOrder: NDArrayScalarType {
        guard self.isByteSwapped else { return self }
        let order = isLittleEndianMachine ? "<" : ">"
        return NDArrayScalarType(description: order + self.description.dropFirst(), size: self.size, fields: nil)
    }

    /// The type's name in errors: "Double (<f8)".
    var spelledOut: String {
        let names: [String: String] = [
            "f8": "Double", "f4": "Float", "i8": "Int64", "i4": "Int32", "i2": "Int16", "i1": "Int8",
            "u8": "UInt64", "u4": "UInt32", "u2": "UInt16", "u1": "UInt8", "b1": "Bool",
        ]
        return names[String(self.description.dropFirst())].map { "\($0) (\(self))" } ?? self.description
    }

    static func native(_ kind: String, size: Int) -> NDArrayScalarType {
        let order = size == 1 ? "|" : isLittleEndianMachine ? "<" : ">"
        return NDArrayScalarType(description: "\(order)\(kind)\(size)", size: size, fields: nil)
    }
}

let isLittleEndianMachine = UInt16(1).littleEndian == 1

/// A Swift type whose values can be the elements of an array, laid out as NumPy lays them out.
public protocol NDArrayScalar: Sendable {
    /// How an array in memory of this machine stores such elements.
    static var scalarType: NDArrayScalarType { get }
    /// The same value with its bytes in the other order, for arrays of another kind of machine.
    var byteSwapped: Self { get }
}

extension Double: NDArrayScalar {
    public static let scalarType = NDArrayScalarType.native("f", size: 8)
    public var byteSwapped: Double { Double(bitPattern: self.bitPattern.byteSwapped) }
}
extension Float: NDArrayScalar {
    public static let scalarType = NDArrayScalarType.native("f", size: 4)
    public var byteSwapped: Float { Float(bitPattern: self.bitPattern.byteSwapped) }
}
extension Bool: NDArrayScalar {
    public static let scalarType = NDArrayScalarType.native("b", size: 1)
    public var byteSwapped: Bool { self }
}
extension Int: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("i", size: 8) }
extension Int8: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("i", size: 1) }
extension Int16: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("i", size: 2) }
extension Int32: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("i", size: 4) }
extension Int64: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("i", size: 8) }
extension UInt: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("u", size: 8) }
extension UInt8: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("u", size: 1) }
extension UInt16: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("u", size: 2) }
extension UInt32: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("u", size: 4) }
extension UInt64: NDArrayScalar { public static let scalarType = NDArrayScalarType.native("u", size: 8) }
