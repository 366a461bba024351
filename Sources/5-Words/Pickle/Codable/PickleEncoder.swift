public import NIOCore

/// Turns Swift values into values that Python understands.
///
/// | Swift | Python |
/// |---|---|
/// | integers, `Bool`, `Double`, `Float`, `String` | `int` of any size, `bool`, `float`, `str` |
/// | `nil` | `None` |
/// | `Data`, `[UInt8]`, `ByteBuffer` | `bytes` |
/// | arrays, sets | `list`, `set` |
/// | dictionaries, whatever the keys | `dict` with keys of their kind |
/// | structures, enumerations | `dict` with text keys |
/// | `Date`, `Decimal`, `UUID`, `URL` | `datetime` in UTC, `Decimal`, `UUID`, `str` |
/// | ``NDArray``, ``PickleValue`` | a NumPy array, the value itself |
public struct PickleEncoder: Sendable {
    /// Values that a type's own `encode(to:)` may read.
    public var userInfo: [CodingUserInfoKey: any Sendable] = [:]

    /// An encoder without user info.
    public init() {}

    /// The Python value of a Swift one.
    ///
    /// - Throws: ``PickleError`` if it has none (a date before year 1); whatever the type's own `encode(to:)` throws.
    public func encode<Value: Encodable>(_ value: Value) throws -> PickleValue {
        try PickleEncoding.encode(value, userInfo: self.userInfo, path: nil)
    }

    /// Appends the pickle of a Swift value.
    public func encode<Value: Encodable>(_ value: Value, into buffer: inout ByteBuffer, writer: PickleWriter = PickleWriter())
        throws
    {
        writer.write(try self.encode(value), into: &buffer)
    }
}

/// An encoder for one value, which collects the calls of the value's `encode(to:)`.
final class PickleEncoding: Encoder {
    /// Python values of types that need no `encode(to:)`: the common ones, for speed, and those Python has a type for.
    static func encode<Value: Encodable>(
        _ value: Value, userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?
    ) throws -> PickleValue {
        if Value.self == Int.self { return .int(unsafeBitCast(value, to: Int.self)) }
        if Value.self == Double.self { return .float(unsafeBitCast(value, to: Double.self)) }
        if Value.self == String.self { return .string(unsafeBitCast(value, to: String.self)) }
        if Value.self == Bool.self { return .bool(unsafeBitCast(value, to: Bool.self)) }
        if Value.self == [Double].self { return .list(unsafeBitCast(value, to: [Double].self).map { .float($0) }) }
        if Value.self == [Int].self { return .list(unsafeBitCast(value, to: [Int].self).map { .int($0) }) }
        if Value.self == [String].self { return .list(unsafeBitCast(value, to: [String].self).map { .string($0) }) }
        if let direct = value as? any PickleDirectlyEncodable { return try direct.pickled(userInfo: userInfo, path: path) }
        if let direct = try foundationValue(of: value, path: path) { return direct }
        let encoding = PickleEncoding(userInfo: userInfo, path: path)
        try value.encode(to: encoding)
        return encoding.finished()
    }

    /// The content that `encode(to:)` has encoded so far.
    private enum Content {
        case nothing
        case single(PickleValue)
        case keyed(Collected)
        case unkeyed(Collected)
    }

    /// The elements of a container, or its keys and values in turn; those of nested containers are not known until the end.
    final class Collected {
        var values: [PickleValue] = []
        var nested: [(place: Int, encoding: PickleEncoding)] = []

        func finished() -> [PickleValue] {
            for (place, encoding) in self.nested { self.values[place] = encoding.finished() }
            return self.values
        }
    }

    private let info: [CodingUserInfoKey: any Sendable]
    let path: PicklePath?
    private var content = Content.nothing

    init(userInfo: [CodingUserInfoKey: any Sendable], path: PicklePath?) {
        self.info = userInfo
        self.path = path
    }

    var userInfo: [CodingUserInfoKey: Any] { self.info }
    var codingPath: [any CodingKey] { self.path?.keys ?? [] }

    func encode<Value: Encodable>(_ value: Value, at key: any CodingKey) throws -> PickleValue {
        try Self.encode(value, userInfo: self.info, path: PicklePath(key, in: self.path))
    }

    /// The finished value; an empty dictionary if `encode(to:)` encoded nothing, as for a structure without members.
    func finished() -> PickleValue {
        switch self.content {
        case .nothing: .dictionary([:])
        case .single(let value): value
        case .keyed(let collected): .dictionary(PickleDictionary(flat: collected.finished()))
        case .unkeyed(let collected): .list(collected.finished())
        }
    }

    private func keyed() -> Collected {
        switch self.content {
        case .keyed(let collected): return collected
        case .nothing:
            let collected = Collected()
            self.content = .keyed(collected)
            return collected
        default: preconditionFailure("a type encodes itself as keyed and as something else, at \(self.codingPath)")
        }
    }

    private func unkeyed() -> Collected {
        switch self.content {
        case .unkeyed(let collected): return collected
        case .nothing:
            let collected = Collected()
            self.content = .unkeyed(collected)
            return collected
        default: preconditionFailure("a type encodes itself as unkeyed and as something else, at \(self.codingPath)")
        }
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        KeyedEncodingContainer(PickleKeyedEncoding<Key>(encoding: self, collected: self.keyed()))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        PickleUnkeyedEncoding(encoding: self, collected: self.unkeyed())
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }

    fileprivate func nested(at key: any CodingKey) -> PickleEncoding {
        PickleEncoding(userInfo: self.info, path: PicklePath(key, in: self.path))
    }
}

extension PickleEncoding: SingleValueEncodingContainer {
    func encodeNil() { self.content = .single(.none) }

    func encode<Value: Encodable>(_ value: Value) throws {
        self.content = .single(try Self.encode(value, userInfo: self.info, path: self.path))
    }
}

private struct PickleKeyedEncoding<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let encoding: PickleEncoding
    let collected: PickleEncoding.Collected

    var codingPath: [any CodingKey] { self.encoding.codingPath }

    private func append(_ key: some CodingKey, _ value: PickleValue) {
        self.collected.values.append(.string(key.stringValue))
        self.collected.values.append(value)
    }

    private func appendNested(_ key: some CodingKey) -> PickleEncoding {
        let nested = self.encoding.nested(at: key)
        self.append(key, .none)
        self.collected.nested.append((self.collected.values.count - 1, nested))
        return nested
    }

    func encodeNil(forKey key: Key) { self.append(key, .none) }

    func encode<Value: Encodable>(_ value: Value, forKey key: Key) throws {
        self.append(key, try self.encoding.encode(value, at: key))
    }

    func encode(_ value: Bool, forKey key: Key) { self.append(key, .bool(value)) }
    func encode(_ value: String, forKey key: Key) { self.append(key, .string(value)) }
    func encode(_ value: Double, forKey key: Key) { self.append(key, .float(value)) }
    func encode(_ value: Int, forKey key: Key) { self.append(key, .int(value)) }

    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key) -> KeyedEncodingContainer<Nested> {
        self.appendNested(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { self.appendNested(key).unkeyedContainer() }
    func superEncoder() -> any Encoder { self.appendNested(PickleKey.super) }
    func superEncoder(forKey key: Key) -> any Encoder { self.appendNested(key) }
}

private struct PickleUnkeyedEncoding: UnkeyedEncodingContainer {
    let encoding: PickleEncoding
    let collected: PickleEncoding.Collected

    var codingPath: [any CodingKey] { self.encoding.codingPath }
    var count: Int { self.collected.values.count }

    private func appendNested() -> PickleEncoding {
        let nested = self.encoding.nested(at: PickleKey(self.count))
        self.collected.nested.append((self.count, nested))
        self.collected.values.append(.none)
        return nested
    }

    func encodeNil() { self.collected.values.append(.none) }

    func encode<Value: Encodable>(_ value: Value) throws {
        self.collected.values.append(try self.encoding.encode(value, at: PickleKey(self.count)))
    }

    func encode(_ value: Bool) { self.collected.values.append(.bool(value)) }
    func encode(_ value: String) { self.collected.values.append(.string(value)) }
    func encode(_ value: Double) { self.collected.values.append(.float(value)) }
    func encode(_ value: Int) { self.collected.values.append(.int(value)) }

    func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
        self.appendNested().container(keyedBy: type)
    }

    func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { self.appendNested().unkeyedContainer() }
    func superEncoder() -> any Encoder { self.appendNested() }
}
