import Pickle

/// How a function's result becomes a reply, and a reply a result.
///
/// `Void` is not `Codable`, so a constraint on the result's type cannot do this: a coding is made where the type is known, and a
/// function without a result gives Python's `None`.
struct ResultCoding<Output: Sendable>: Sendable {
    let encode: @Sendable (Output) throws -> PickleValue
    let decode: @Sendable (PickleValue) throws -> Output
}

extension ResultCoding where Output: Codable {
    static var value: ResultCoding {
        ResultCoding(encode: { try encodeValue($0) }, decode: { try decodeValue(Output.self, from: $0) })
    }
}

extension ResultCoding where Output == Void {
    /// The coding of no result. The value of a reply is dropped, because a Python function always returns something.
    static var nothing: ResultCoding { ResultCoding(encode: { .none }, decode: { _ in }) }
}

// Scalars are converted without the encoder and decoder, which cost more than a short task itself.

func encodeValue<Value: Encodable>(_ value: Value) throws -> PickleValue {
    if Value.self == Double.self { return .float(unsafeBitCast(value, to: Double.self)) }
    if Value.self == Int.self { return .int(unsafeBitCast(value, to: Int.self)) }
    if Value.self == Bool.self { return .bool(unsafeBitCast(value, to: Bool.self)) }
    if Value.self == String.self { return .string(unsafeBitCast(value, to: String.self)) }
    return try PickleEncoder().encode(value)
}

func decodeValue<Value: Decodable>(_ type: Value.Type, from pickled: PickleValue) throws -> Value {
    switch pickled {
    case .float(let double) where type == Double.self: return unsafeBitCast(double, to: type)
    case .int(let int) where type == Int.self: return unsafeBitCast(int, to: type)
    case .bool(let bool) where type == Bool.self: return unsafeBitCast(bool, to: type)
    case .string(let string) where type == String.self: return unsafeBitCast(string, to: type)
    default: return try PickleDecoder().decode(type, from: pickled)
    }
}
