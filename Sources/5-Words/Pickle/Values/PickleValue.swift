public import NIOCore

/// A Python object as plain data: the content of a pickle, without code.
///
/// A value is compared by structure: `1`, `1.0` and `true` differ here, though Python finds them equal. Sets and dictionaries
/// are equal whatever the order of their elements, as in Python.
///
/// Values are trees. A pickle whose parts refer to each other in a circle cannot be one, and reading it throws.
public enum PickleValue: Sendable, Hashable {
    /// Python's `None`.
    case none
    /// Python's `bool`.
    case bool(Bool)
    /// Python's `int`, where it fits.
    case int(Int)
    /// An integer that does not fit an `Int`.
    indirect case bigInteger(PickleInteger)
    /// Python's `float`.
    case float(Double)
    /// Python's `complex`.
    indirect case complex(PickleComplex)
    /// Python's `str`.
    case string(String)
    /// Immutable bytes. Those read from a large pickle share its storage.
    case bytes(ByteBuffer)
    /// Python's `bytearray`.
    case byteArray(ByteBuffer)
    /// Python's `list`.
    case list([PickleValue])
    /// Python's `tuple`.
    case tuple([PickleValue])
    /// Python's `dict`.
    case dictionary(PickleDictionary)
    /// Python's `set`.
    case set(PickleSet)
    /// Python's `frozenset`.
    case frozenSet(PickleSet)
    /// Python's `datetime.date`.
    indirect case date(PickleDate)
    /// Python's `datetime.time`.
    indirect case time(PickleTime)
    /// Python's `datetime.datetime`.
    indirect case dateTime(PickleDateTime)
    /// Python's `datetime.timedelta`.
    indirect case duration(PickleDuration)
    /// A time zone at a fixed distance from UTC.
    indirect case timeZone(PickleTimeZone)
    /// A NumPy array.
    indirect case array(NDArray)
    /// A class or function, by name.
    indirect case global(PickleGlobal)
    /// An object of a class not known here: how to make it, as data.
    indirect case object(PickleObject)
}

/// The name of a Python class or function: the module it is imported from and its qualified name there.
public struct PickleGlobal: Sendable, Hashable, CustomStringConvertible {
    /// The module that it is imported from, such as `numpy.linalg`.
    public var module: String
    /// The qualified name in the module; with a dot for a member of a class.
    public var name: String

    /// The name, whether or not there is such a class or function.
    public init(module: String, name: String) {
        self.module = module
        self.name = name
    }

    public var description: String { "\(self.module).\(self.name)" }
}

/// A complex number of two doubles.
public struct PickleComplex: Sendable, Hashable {
    /// The real part.
    public var real: Double
    /// The imaginary part.
    public var imaginary: Double

    /// The number of these parts.
    public init(real: Double, imaginary: Double) {
        self.real = real
        self.imaginary = imaginary
    }
}

extension PickleValue {
    /// The class or function of this name, by reference.
    public static func global(module: String, name: String) -> PickleValue {
        .global(PickleGlobal(module: module, name: name))
    }

    /// Immutable bytes, copied.
    public static func bytes(_ bytes: some Sequence<UInt8>) -> PickleValue {
        .bytes(ByteBuffer(bytes: bytes))
    }

    /// A dictionary of the pairs, in their order.
    public static func dictionary(_ pairs: [(PickleValue, PickleValue)]) -> PickleValue {
        .dictionary(PickleDictionary(pairs))
    }

    /// An integer of any size; one that fits an `Int` becomes ``int(_:)``.
    public static func integer(_ integer: PickleInteger) -> PickleValue {
        if let small = Int(exactly: integer) { .int(small) } else { .bigInteger(integer) }
    }

    /// An integer of any size; one that fits an `Int` becomes ``int(_:)``.
    public static func integer(_ integer: some FixedWidthInteger) -> PickleValue {
        if let small = Int(exactly: integer) { .int(small) } else { .bigInteger(PickleInteger(integer)) }
    }

    /// The elements, if this is a list, tuple, set, frozen set, `range` or one-dimensional array of numbers.
    ///
    /// - Throws: ``PickleError`` if it is none of them, an array of another shape, or a range of more than 2^27 numbers.
    public func elements() throws -> [PickleValue] {
        switch self {
        case .list(let elements), .tuple(let elements): return elements
        case .set(let set), .frozenSet(let set): return set.elements
        case .array(let array): return try array.scalarValues()
        case .object(let object):
            guard let range = object.integerRange else { break }
            guard range.count <= 1 << 27 else {
                throw PickleError(.limitExceeded, "a range of \(range.count) numbers is too long to be spelled out")
            }
            return range.map { .int($0) }
        default: break
        }
        throw PickleError.mismatch(expected: "a sequence", found: self)
    }
}

extension PickleValue: ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(integerLiteral value: Int) { self = .int(value) }
    public init(floatLiteral value: Double) { self = .float(value) }
    public init(stringLiteral value: String) { self = .string(value) }
    public init(arrayLiteral elements: PickleValue...) { self = .list(elements) }
    public init(dictionaryLiteral elements: (PickleValue, PickleValue)...) { self = .dictionary(PickleDictionary(elements)) }
}
