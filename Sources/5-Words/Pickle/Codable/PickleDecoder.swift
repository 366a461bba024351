public import NIOCore

/// Turns Python values into Swift ones, by the table of ``PickleEncoder``.
///
/// Where Python has several types for one purpose, each is taken: an array of Swift is decoded from a list, tuple, set,
/// `range` or NumPy array, a number also from a NumPy number, a structure also from an object with attributes. A number with a
/// fraction is never cut to an integer, and a truth value is no number.
///
/// An error says where it is, what was expected and what was found: "argument 2.points[3].x: expected a number, found the text
/// 'abc'".
public struct PickleDecoder: Sendable {
    /// Values that a type's own `init(from:)` may read.
    public var userInfo: [CodingUserInfoKey: any Sendable] = [:]

    /// A decoder without user info.
    public init() {}

    /// The Swift value of a Python one.
    ///
    /// - Parameter name: The name of the value in errors: "argument 2".
    /// - Throws: ``PickleError`` if the value is not of the type; whatever error of its own the type's `init(from:)` throws.
    public func decode<Value: Decodable>(
        _ type: Value.Type = Value.self, from value: PickleValue, named name: String = ""
    ) throws -> Value {
        // The commonest cases, before anything is allocated.
        switch value {
        case .int(let integer) where type == Int.self: return unsafeBitCast(integer, to: type)
        case .float(let number) where type == Double.self: return unsafeBitCast(number, to: type)
        case .string(let text) where type == String.self: return unsafeBitCast(text, to: type)
        case .bool(let bool) where type == Bool.self: return unsafeBitCast(bool, to: type)
        default: break
        }
        let place = PickleDecoding.Place(root: PickleDecoding.Root(name: name, userInfo: self.userInfo), path: nil)
        do {
            return try PickleDecoding.decode(type, from: value, at: place)
        } catch let error as DecodingError {
            throw PickleError(error, root: name)
        }
    }

    /// The Swift value of a pickle.
    public func decode<Value: Decodable>(
        _ type: Value.Type = Value.self, from buffer: ByteBuffer, named name: String = "", reader: PickleReader = PickleReader()
    ) throws -> Value {
        try self.decode(type, from: try reader.read(buffer), named: name)
    }
}

extension PickleError {
    /// The `PickleError` for an error of a type's own `init(from:)`.
    fileprivate init(_ error: DecodingError, root: String) {
        let (code, context): (Code, DecodingError.Context) =
            switch error {
            case .typeMismatch(_, let context), .valueNotFound(_, let context): (.typeMismatch, context)
            case .keyNotFound(_, let context): (.missingKey, context)
            case .dataCorrupted(let context): (.invalidValue, context)
            @unknown default: (.invalidValue, .init(codingPath: [], debugDescription: "\(error)"))
            }
        self.init(code, context.debugDescription, place: context.codingPath.place(root: root), cause: error)
    }
}

/// A decoder of one value.
final class PickleDecoding: Decoder {
    /// The values that stay the same throughout one call to decode.
    final class Root {
        let name: String
        let userInfo: [CodingUserInfoKey: any Sendable]

        init(name: String, userInfo: [CodingUserInfoKey: any Sendable]) {
            self.name = name
            self.userInfo = userInfo
        }
    }

    /// Where in the value a decoder is.
    struct Place {
        let root: Root
        let path: PicklePath?

        func inside(_ key: any CodingKey) -> Place { Place(root: self.root, path: PicklePath(key, in: self.path)) }
        var keys: [any CodingKey] { self.path?.keys ?? [] }

        func error(_ error: PickleError) -> PickleError { error.at(self.keys.place(root: self.root.name)) }

        /// Runs the body, and adds this place to a `PickleError` that it throws.
        func naming<Result>(_ body: () throws -> Result) throws -> Result {
            do { return try body() } catch let error as PickleError { throw self.error(error) }
        }
    }

    static func decode<Value: Decodable>(_ type: Value.Type, from value: PickleValue, at place: Place) throws -> Value {
        switch value {
        case .int(let integer) where type == Int.self: return unsafeBitCast(integer, to: type)
        case .float(let number) where type == Double.self: return unsafeBitCast(number, to: type)
        case .string(let text) where type == String.self: return unsafeBitCast(text, to: type)
        default: break
        }
        if let direct = type as? any PickleDirectlyDecodable.Type { return try direct.unpickled(value, at: place) as! Value }
        if let foundation = try place.naming({ try foundationValue(type, from: value) }) { return foundation }
        return try type.init(from: PickleDecoding(value, at: place))
    }

    let value: PickleValue
    let place: Place

    init(_ value: PickleValue, at place: Place) {
        self.value = value
        self.place = place
    }

    var codingPath: [any CodingKey] { self.place.keys }
    var userInfo: [CodingUserInfoKey: Any] { self.place.root.userInfo }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        let entries: PickleDictionary
        switch self.value {
        case .dictionary(let dictionary): entries = dictionary
        case .object(let object) where object.attributes != nil: entries = object.attributes!
        default: throw self.place.error(.mismatch(expected: "a dictionary", found: self.value))
        }
        return KeyedDecodingContainer(PickleKeyedDecoding<Key>(entries: PickleEntries(entries), place: self.place))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        PickleUnkeyedDecoding(elements: try self.place.naming { try self.value.elements() }, place: self.place)
    }

    func singleValueContainer() -> any SingleValueDecodingContainer { self }
}

extension PickleDecoding: SingleValueDecodingContainer {
    func decodeNil() -> Bool { self.value == PickleValue.none }

    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try Self.decode(type, from: self.value, at: self.place)
    }
}

/// A dictionary being decoded by name, usually in the order it was written.
private final class PickleEntries {
    let flat: [PickleValue]
    /// Where the next name is looked for first.
    private var next = 0
    /// The places of values by key; only made for a large dictionary, and when the order does not help.
    private var table: [String: Int]?

    init(_ dictionary: PickleDictionary) { self.flat = dictionary.flat }

    func value(_ name: String) -> PickleValue? {
        if self.next < self.flat.count, case .string(let key) = self.flat[self.next], key == name {
            // Not moved: a name is looked up several times (is it there, is it nil, its value) before the next.
            return self.flat[self.next + 1]
        }
        if self.next + 2 < self.flat.count, case .string(let key) = self.flat[self.next + 2], key == name {
            self.next += 2
            return self.flat[self.next + 1]
        }
        guard self.flat.count > 32 else {
            for place in stride(from: 0, to: self.flat.count, by: 2) {
                if case .string(let key) = self.flat[place], key == name {
                    self.next = place
                    return self.flat[place + 1]
                }
            }
            return nil
        }
        if self.table == nil {
            self.table = [:]
            for place in stride(from: 0, to: self.flat.count, by: 2) {
                if case .string(let key) = self.flat[place] { self.table![key] = place }
            }
        }
        guard let place = self.table![name] else { return nil }
        self.next = place
        return self.flat[place + 1]
    }
}

private struct PickleKeyedDecoding<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let entries: PickleEntries
    let place: PickleDecoding.Place

    var codingPath: [any CodingKey] { self.place.keys }

    var allKeys: [Key] {
        stride(from: 0, to: self.entries.flat.count, by: 2).compactMap { place in
            switch self.entries.flat[place] {
            case .string(let name): Key(stringValue: name)
            case .int(let number): Key(intValue: number)
            default: nil
            }
        }
    }

    private func find(_ key: some CodingKey) throws -> PickleValue {
        if let value = self.entries.value(key.stringValue) { return value }
        throw self.place.error(PickleError(.missingKey, "there is no '\(key.stringValue)'"))
    }

    func contains(_ key: Key) -> Bool { self.entries.value(key.stringValue) != nil }
    func decodeNil(forKey key: Key) throws -> Bool { try self.find(key) == PickleValue.none }

    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
        try PickleDecoding.decode(type, from: try self.find(key), at: self.place.inside(key))
    }

    private func nested(_ key: some CodingKey) throws -> PickleDecoding {
        PickleDecoding(try self.find(key), at: self.place.inside(key))
    }

    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key) throws -> KeyedDecodingContainer<Nested> {
        try self.nested(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try self.nested(key).unkeyedContainer()
    }
    func superDecoder() throws -> any Decoder { try self.nested(PickleKey.super) }
    func superDecoder(forKey key: Key) throws -> any Decoder { try self.nested(key) }
}

private struct PickleUnkeyedDecoding: UnkeyedDecodingContainer {
    let elements: [PickleValue]
    let place: PickleDecoding.Place
    private(set) var currentIndex = 0

    init(elements: [PickleValue], place: PickleDecoding.Place) {
        self.elements = elements
        self.place = place
    }

    var codingPath: [any CodingKey] { self.place.keys }
    var count: Int? { self.elements.count }
    var isAtEnd: Bool { self.currentIndex >= self.elements.count }

    private func peek() throws -> PickleValue {
        guard !self.isAtEnd else {
            throw self.place.error(PickleError(.outOfRange, "the sequence ends after \(self.elements.count) elements"))
        }
        return self.elements[self.currentIndex]
    }

    private mutating func nested() throws -> PickleDecoding {
        let decoding = PickleDecoding(try self.peek(), at: self.place.inside(PickleKey(self.currentIndex)))
        self.currentIndex += 1
        return decoding
    }

    mutating func decodeNil() throws -> Bool {
        guard try self.peek() == PickleValue.none else { return false }
        self.currentIndex += 1
        return true
    }

    mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        let value = try PickleDecoding.decode(type, from: try self.peek(), at: self.place.inside(PickleKey(self.currentIndex)))
        self.currentIndex += 1
        return value
    }

    mutating func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) throws -> KeyedDecodingContainer<Nested> {
        try self.nested().container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { try self.nested().unkeyedContainer() }
    mutating func superDecoder() throws -> any Decoder { try self.nested() }
}
