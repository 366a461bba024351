import NIOCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

// Foundation's values are recognised by type, because conforming them to a protocol of this module would make Foundation part of
// every cast.

/// The Python value of a Foundation value; nil for a value of any other type.
func foundationValue<Value>(of value: Value, path: PicklePath?) throws -> PickleValue? {
    if Value.self == Data.self { return .bytes(ByteBuffer(bytes: value as! Data)) }
    if Value.self == Date.self {
        let microseconds = ((value as! Date).timeIntervalSince1970 * 1_000_000).rounded()
        guard microseconds.magnitude < 1e18, let moment = PickleDateTime(microsecondsSince1970: Int(microseconds)) else {
            throw PickleError(
                .outOfRange, "Python has dates of the years 1 to 9999 only, not \(microseconds / 1_000_000) seconds from 1970",
                place: (path?.keys ?? []).place(root: ""))
        }
        return .dateTime(moment)
    }
    if Value.self == Decimal.self {
        return .object(PickleObject(constructor: .global(module: "decimal", name: "Decimal"), arguments: [.string("\(value)")]))
    }
    if Value.self == UUID.self {
        return .object(
            PickleObject(constructor: .global(module: "uuid", name: "UUID"), arguments: [.string("\(value)".lowercased())]))
    }
    if Value.self == URL.self { return .string((value as! URL).absoluteString) }
    return nil
}

/// The Foundation value of a Python one; nil if the type is none of Foundation's.
func foundationValue<Value>(_ type: Value.Type, from value: PickleValue) throws -> Value? {
    if type == Data.self { return try data(from: value) as? Value }
    if type == Date.self { return try date(from: value) as? Value }
    if type == Decimal.self { return try decimal(from: value) as? Value }
    if type == UUID.self { return try uuid(from: value) as? Value }
    if type == URL.self {
        guard case .string(let text) = value, let url = URL(string: text) else {
            throw PickleError.mismatch(expected: "the text of a URL", found: value)
        }
        return url as? Value
    }
    return nil
}

private func data(from value: PickleValue) throws -> Data {
    switch value {
    case .bytes(let bytes), .byteArray(let bytes): return Data(bytes.readableBytesView)
    default: throw PickleError.mismatch(expected: "bytes", found: value)
    }
}

private func date(from value: PickleValue) throws -> Date {
    switch value {
    case .dateTime(let moment): return Date(timeIntervalSince1970: Double(moment.microsecondsSince1970) / 1_000_000)
    case .date(let day): return Date(timeIntervalSince1970: Double(day.daysSince1970) * 86400)
    default: throw PickleError.mismatch(expected: "a date and time of UTC or a fixed zone", found: value)
    }
}

private func decimal(from value: PickleValue) throws -> Decimal {
    switch value {
    case .int(let integer): return Decimal(integer)
    case .float(let number) where number.isFinite:
        // Foundation turns a number beyond Decimal's range, about 1e145, into NaN.
        let decimal = Decimal(number)
        if !decimal.isNaN { return decimal }
    case .bigInteger(let integer):
        if let decimal = decimal(in: integer.description) { return decimal }
    case .string(let text):
        if let decimal = decimal(in: text) { return decimal }
    case .object(let object) where object.isInstance(of: "decimal", "Decimal"):
        if case .string(let text)? = object.arguments.first, let decimal = decimal(in: text) { return decimal }
    default: break
    }
    throw PickleError.mismatch(expected: "a decimal number that a Decimal can hold", found: value)
}

/// The number as Python writes it, "NaN" among them, which Foundation does not read.
private func decimal(in text: String) -> Decimal? {
    if text == "NaN" { return .nan }
    return Decimal(string: text).flatMap { $0.isNaN ? nil : $0 }
}

private func uuid(from value: PickleValue) throws -> UUID {
    var text: String?
    switch value {
    case .string(let string): text = string
    case .object(let object) where object.isInstance(of: "uuid", "UUID"):
        switch (object.arguments.first, object.attributes?["int"]) {
        case (.string(let string)?, _): text = string
        // Python's own state of a UUID is its 128 bits as an integer.
        case (_, .int(let integer)?): text = text128(PickleInteger(integer))
        case (_, .bigInteger(let integer)?): text = text128(integer)
        default: break
        }
    default: break
    }
    guard let uuid = text.flatMap(UUID.init(uuidString:)) else { throw PickleError.mismatch(expected: "a UUID", found: value) }
    return uuid
}

private func text128(_ integer: PickleInteger) -> String? {
    guard let bits = UInt128(exactly: integer) else { return nil }
    let digits = String(bits, radix: 16)
    var text = String(repeating: "0", count: 32 - digits.count) + digits
    for place in [20, 16, 12, 8] { text.insert("-", at: text.index(text.startIndex, offsetBy: place)) }
    return text
}
