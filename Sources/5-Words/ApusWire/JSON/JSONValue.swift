package import NIOCore

/// A JSON text as data, the packing of every header, metadata and content part.
///
/// Whole numbers stay whole (`int`) and others stay `double`, as Python's peers distinguish them. Of repeated keys the last wins.
public enum JSONValue: Hashable, Sendable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number that was written without point and exponent, and fits.
    case int(Int)
    /// Any other number.
    case double(Double)
    /// A text, its escapes resolved.
    case string(String)
    /// Values in their order.
    case array([JSONValue])
    /// Members by their names, whose order is not kept.
    case object([String: JSONValue])
}

/// The members of a JSON object.
public typealias JSONObject = [String: JSONValue]

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral,
    ExpressibleByNilLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .int(value) }
    public init(floatLiteral value: Double) { self = .double(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(nilLiteral: ()) { self = .null }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
    }

    package init(_ text: String?) { self = text.map { .string($0) } ?? .null }
    package init(_ texts: [String]) { self = .array(texts.map { .string($0) }) }
}

extension JSONValue {
    /// The text, if this is one.
    public var string: String? { if case .string(let text) = self { text } else { nil } }
    /// The truth value, if this is one.
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    /// The values of an array, if this is one.
    public var array: [JSONValue]? { if case .array(let values) = self { values } else { nil } }
    /// The members of an object, if this is one.
    public var object: JSONObject? { if case .object(let members) = self { members } else { nil } }
    /// Whether this is `null`; an absent member is nil and not this.
    public var isNull: Bool { self == .null }

    /// The value if it is a whole number, however it was written.
    public var int: Int? {
        switch self {
        case .int(let value): value
        case .double(let value): Int(exactly: value)
        default: nil
        }
    }

    /// The number, whole or not, if this is one.
    public var double: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    /// The member of that name, or nil when there is none or this is no object.
    public subscript(_ key: String) -> JSONValue? { self.object?[key] }
}

// MARK: - Reading

extension JSONValue {
    /// Reads one JSON text that fills the bytes.
    ///
    /// - Throws: ``WireError`` saying what is wrong and at which byte. Nesting deeper than 128 is refused.
    package init(parsing bytes: ByteBuffer) throws(WireError) {
        self = try bytes.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) in
            let value = try cursor.readValue()
            try cursor.expectEnd()
            return value
        }
    }

    package init(parsing text: String) throws(WireError) {
        try self.init(parsing: ByteBuffer(string: text))
    }
}

// MARK: - Writing

extension JSONValue: CustomStringConvertible {
    public var description: String {
        var buffer = ByteBuffer()
        self.write(into: &buffer)
        return String(buffer: buffer)
    }

    /// The packed bytes: compact, keys sorted, non-ASCII text as it is.
    package var packed: ByteBuffer {
        var buffer = ByteBuffer()
        self.write(into: &buffer)
        return buffer
    }

    /// The text with two spaces of indentation a level, as files hold it.
    package var indentedText: String {
        var buffer = ByteBuffer()
        self.write(into: &buffer, indentation: 0)
        return String(buffer: buffer)
    }

    package func write(into buffer: inout ByteBuffer) {
        switch self {
        case .null: buffer.writeStaticString("null")
        case .bool(let value): buffer.writeStaticString(value ? "true" : "false")
        case .int(let value): buffer.writeDecimal(value)
        // NaN and infinities are not JSON: Python's reader takes them, others do not.
        case .double(let value): buffer.writeString(value.isFinite ? value.description : "null")
        case .string(let text): buffer.writeJSONString(text)
        case .array(let values):
            buffer.writeInteger(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { buffer.writeStaticString(", ") }
                value.write(into: &buffer)
            }
            buffer.writeInteger(UInt8(ascii: "]"))
        case .object(let members):
            buffer.writeInteger(UInt8(ascii: "{"))
            var first = true
            for (key, value) in members.sorted(by: { $0.key < $1.key }) {
                if !first { buffer.writeStaticString(", ") }
                first = false
                buffer.writeJSONString(key)
                buffer.writeStaticString(": ")
                value.write(into: &buffer)
            }
            buffer.writeInteger(UInt8(ascii: "}"))
        }
    }

    private func write(into buffer: inout ByteBuffer, indentation: Int) {
        let inner = String(repeating: " ", count: indentation + 2)
        switch self {
        case .array(let values) where !values.isEmpty:
            buffer.writeStaticString("[")
            for (index, value) in values.enumerated() {
                buffer.writeString((index > 0 ? ",\n" : "\n") + inner)
                value.write(into: &buffer, indentation: indentation + 2)
            }
            buffer.writeString("\n" + inner.dropLast(2) + "]")
        case .object(let members) where !members.isEmpty:
            buffer.writeStaticString("{")
            for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                buffer.writeString((index > 0 ? ",\n" : "\n") + inner)
                buffer.writeJSONString(member.key)
                buffer.writeStaticString(": ")
                member.value.write(into: &buffer, indentation: indentation + 2)
            }
            buffer.writeString("\n" + inner.dropLast(2) + "}")
        default: self.write(into: &buffer)
        }
    }
}

extension ByteBuffer {
    /// Writes a text between quotes, escaped as JSON asks.
    package mutating func writeJSONString(_ text: String) {
        self.writeInteger(UInt8(ascii: "\""))
        var text = text
        let plain = text.withUTF8 { bytes in
            guard bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x22 && $0 != 0x5C }) else { return false }
            self.writeBytes(bytes)
            return true
        }
        if !plain {
            for byte in text.utf8 {
                switch byte {
                case 0x22: self.writeStaticString("\\\"")
                case 0x5C: self.writeStaticString("\\\\")
                case 0x0A: self.writeStaticString("\\n")
                case 0x0D: self.writeStaticString("\\r")
                case 0x09: self.writeStaticString("\\t")
                case 0..<0x20:
                    self.writeStaticString("\\u00")
                    self.writeHexadecimal(byte)
                default: self.writeInteger(byte)
                }
            }
        }
        self.writeInteger(UInt8(ascii: "\""))
    }

    package mutating func writeHexadecimal(_ byte: UInt8) {
        func digit(_ value: UInt8) -> UInt8 { value < 10 ? value + 48 : value + 87 }
        self.writeInteger(digit(byte >> 4))
        self.writeInteger(digit(byte & 15))
    }

    package mutating func writeDecimal(_ value: Int) {
        // Twenty digits and a sign hold any Int; filled from the right, no string in between.
        withUnsafeTemporaryAllocation(byteCount: 24, alignment: 1) { digits in
            var position = 24
            var rest = value.magnitude
            repeat {
                position -= 1
                digits[position] = UInt8(48 + rest % 10)
                rest /= 10
            } while rest > 0
            if value < 0 {
                position -= 1
                digits[position] = UInt8(ascii: "-")
            }
            self.writeBytes(UnsafeRawBufferPointer(rebasing: digits[position...]))
        }
    }
}
