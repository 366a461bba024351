import NIOCore

/// A type that gives its Python value without a container: collections, which Python has too, and this module's own types.
protocol PickleDirectlyEncodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) throws -> PickleValue
}

protocol PickleDirectlyDecodable {
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> Self
}

extension Array: PickleDirectlyEncodable where Element: Encodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) throws -> PickleValue {
        if Element.self == UInt8.self { return .bytes(ByteBuffer(bytes: unsafeBitCast(self, to: [UInt8].self))) }
        var elements: [PickleValue] = []
        elements.reserveCapacity(self.count)
        for element in self {
            let path = PicklePath(PickleKey(elements.count), in: path)
            elements.append(try PickleEncoding.encode(element, userInfo: userInfo, path: path))
        }
        return .list(elements)
    }
}

extension Array: PickleDirectlyDecodable where Element: Decodable {
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> [Element] {
        if Element.self == UInt8.self {
            switch value {
            case .bytes(let bytes), .byteArray(let bytes):
                return unsafeBitCast(Array<UInt8>(bytes.readableBytesView), to: Self.self)
            default: break
            }
        }
        if case .array(let array) = value, let scalar = Element.self as? any (NDArrayScalar & Decodable).Type,
            array.shape.count == 1, let elements = Self.elements(of: array, as: scalar)
        {
            return elements
        }
        let elements = try place.naming { try value.elements() }
        if let scalars = Self.scalars(elements) { return scalars }
        var result: Self = []
        result.reserveCapacity(elements.count)
        for element in elements {
            result.append(try PickleDecoding.decode(Element.self, from: element, at: place.inside(PickleKey(result.count))))
        }
        return result
    }

    /// The elements, if all are numbers or texts of exactly the requested type; else nil.
    private static func scalars(_ elements: [PickleValue]) -> Self? {
        func all<Scalar>(_ scalar: (PickleValue) -> Scalar?) -> Self? {
            var result: [Scalar] = []
            result.reserveCapacity(elements.count)
            for element in elements {
                guard let value = scalar(element) else { return nil }
                result.append(value)
            }
            return unsafeBitCast(result, to: Self.self)
        }
        if Element.self == Double.self {
            return all { value -> Double? in if case .float(let number) = value { number } else { nil } }
        }
        if Element.self == Int.self { return all { value -> Int? in if case .int(let number) = value { number } else { nil } } }
        if Element.self == String.self {
            return all { value -> String? in if case .string(let text) = value { text } else { nil } }
        }
        return nil
    }

    /// All elements at once, if the array is of exactly the requested type; else nil.
    private static func elements<Scalar: NDArrayScalar & Decodable>(of array: NDArray, as _: Scalar.Type) -> Self? {
        guard array.scalarType == Scalar.scalarType else { return nil }
        return (try? array.elements(as: Scalar.self)) as? Self
    }
}

extension Set: PickleDirectlyEncodable where Element: Encodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) throws -> PickleValue {
        .set(PickleSet(try self.map { try PickleEncoding.encode($0, userInfo: userInfo, path: path) }))
    }
}

extension Set: PickleDirectlyDecodable where Element: Decodable {
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> Set {
        Set(try [Element].unpickled(value, at: place))
    }
}

extension Dictionary: PickleDirectlyEncodable where Key: Encodable, Value: Encodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) throws -> PickleValue {
        var flat: [PickleValue] = []
        flat.reserveCapacity(self.count * 2)
        for (key, value) in self {
            let key = try PickleEncoding.encode(key, userInfo: userInfo, path: path)
            flat.append(key)
            let step = PickleKey(stringValue: key.keyText)
            flat.append(try PickleEncoding.encode(value, userInfo: userInfo, path: PicklePath(step, in: path)))
        }
        return .dictionary(PickleDictionary(flat: flat))
    }
}

extension Dictionary: PickleDirectlyDecodable where Key: Decodable, Value: Decodable {
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> Self {
        guard case .dictionary(let pairs) = value else { throw place.error(.mismatch(expected: "a dictionary", found: value)) }
        var result: Self = [:]
        result.reserveCapacity(pairs.count)
        for (key, value) in pairs {
            let inside = place.inside(PickleKey(stringValue: key.keyText))
            let key = try PickleDecoding.decode(Key.self, from: key, at: inside)
            result[key] = try PickleDecoding.decode(Value.self, from: value, at: inside)
        }
        return result
    }
}

extension PickleValue {
    fileprivate var keyText: String { if case .string(let text) = self { text } else { self.summary } }
}

extension PickleValue: PickleDirectlyEncodable, PickleDirectlyDecodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) -> PickleValue { self }
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) -> PickleValue { value }
}

extension NDArray: PickleDirectlyEncodable, PickleDirectlyDecodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) -> PickleValue { .array(self) }

    /// An array, or a list of numbers of one kind.
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> NDArray {
        switch value {
        case .array(let array): return array
        case .list(let elements), .tuple(let elements):
            if let integers = try? [Int].unpickled(.list(elements), at: place) { return NDArray(integers) }
            if let numbers = try? [Double].unpickled(.list(elements), at: place) { return NDArray(numbers) }
        default: break
        }
        throw place.error(.mismatch(expected: "an array of numbers", found: value))
    }
}

extension ByteBuffer: PickleDirectlyEncodable, PickleDirectlyDecodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) -> PickleValue { .bytes(self) }

    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> ByteBuffer {
        switch value {
        case .bytes(let bytes), .byteArray(let bytes): return bytes
        default: throw place.error(.mismatch(expected: "bytes", found: value))
        }
    }
}

/// Lets an optional be decoded without a decoder.
extension Optional: PickleDirectlyDecodable where Wrapped: Decodable {
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> Wrapped? {
        if case .none = value { return nil }
        return try PickleDecoding.decode(Wrapped.self, from: value, at: place)
    }
}

extension Optional: PickleDirectlyEncodable where Wrapped: Encodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) throws -> PickleValue {
        guard let wrapped = self else { return PickleValue.none }
        return try PickleEncoding.encode(wrapped, userInfo: userInfo, path: path)
    }
}

// Numbers of all sizes.

extension PickleDirectlyEncodable where Self: FixedWidthInteger {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) -> PickleValue { .integer(self) }
}

extension PickleDirectlyDecodable where Self: FixedWidthInteger {
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> Self {
        switch value {
        case .int(let integer):
            if let exact = Self(exactly: integer) { return exact }
        case .bigInteger(let integer):
            if let exact = Self(exactly: integer) { return exact }
        case .array(let array) where array.shape.isEmpty:
            return try self.unpickled(try place.naming { try array.scalarValue() }, at: place)
        default: throw place.error(.mismatch(expected: "an integer", found: value))
        }
        throw place.error(
            PickleError(.outOfRange, "\(value.summary) does not fit \(Self.self), which holds \(Self.min) to \(Self.max)"))
    }
}

extension Int: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension Int8: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension Int16: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension Int32: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension Int64: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension Int128: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension UInt: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension UInt8: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension UInt16: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension UInt32: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension UInt64: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension UInt128: PickleDirectlyEncodable, PickleDirectlyDecodable {}

extension PickleDirectlyEncodable where Self: BinaryFloatingPoint {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) -> PickleValue { .float(Double(self)) }
}

extension PickleDirectlyDecodable where Self: BinaryFloatingPoint {
    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> Self {
        switch value {
        case .float(let number): return Self(number)
        case .int(let integer): return Self(integer)
        case .bigInteger(let integer): return Self(integer.doubleValue)
        case .array(let array) where array.shape.isEmpty:
            return try self.unpickled(try place.naming { try array.scalarValue() }, at: place)
        default: throw place.error(.mismatch(expected: "a number", found: value))
        }
    }
}

extension Double: PickleDirectlyEncodable, PickleDirectlyDecodable {}
extension Float: PickleDirectlyEncodable, PickleDirectlyDecodable {}

extension Bool: PickleDirectlyEncodable, PickleDirectlyDecodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) -> PickleValue { .bool(self) }

    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> Bool {
        switch value {
        case .bool(let bool): return bool
        case .array(let array) where array.shape.isEmpty:
            return try self.unpickled(try place.naming { try array.scalarValue() }, at: place)
        default: throw place.error(.mismatch(expected: "a truth value", found: value))
        }
    }
}

extension String: PickleDirectlyEncodable, PickleDirectlyDecodable {
    func pickled(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) -> PickleValue { .string(self) }

    static func unpickled(_ value: PickleValue, at place: PickleDecoding.Place) throws -> String {
        guard case .string(let text) = value else { throw place.error(.mismatch(expected: "a text", found: value)) }
        return text
    }
}
