package import NIOCore

/// Reads JSON from bytes that stay where they are.
///
/// A caller that needs two fields of a header walks its members and skips the others, so routing a message decodes only the
/// fields it uses. ``JSONValue`` is built on the same walk.
package struct JSONCursor {
    private let bytes: UnsafeRawBufferPointer
    package private(set) var position = 0
    private var depth = 0

    /// Deeper texts are refused: no peer writes them, and each level costs a stack frame.
    private static let maximumDepth = 128

    fileprivate init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    // MARK: Objects and arrays

    /// Calls `visit` for each member of the object that comes next; `visit` must read or skip exactly the member's value.
    package mutating func readMembers(_ visit: (_ key: Key, inout JSONCursor) throws(WireError) -> Void) throws(WireError) {
        try self.enter(UInt8(ascii: "{"))
        if self.take(UInt8(ascii: "}")) { return self.leave() }
        repeat {
            self.skipSpace()
            let key = try self.readKey()
            guard self.take(UInt8(ascii: ":")) else { throw self.problem("a colon is missing") }
            try visit(key, &self)
        } while self.take(UInt8(ascii: ","))
        guard self.take(UInt8(ascii: "}")) else { throw self.problem("the object does not end") }
        self.leave()
    }

    /// Moves to the value of the member of that name in the object that comes next. False if the object has no such member.
    ///
    /// The text behind the member is not checked, so use this where other code has checked the text, or where damage costs the
    /// message only.
    package mutating func find(_ name: StaticString) throws(WireError) -> Bool {
        try self.enter(UInt8(ascii: "{"))
        if self.take(UInt8(ascii: "}")) { return false }
        repeat {
            self.skipSpace()
            let key = try self.readKey()
            guard self.take(UInt8(ascii: ":")) else { throw self.problem("a colon is missing") }
            if name ~= key { return true }
            try self.skipValue()
        } while self.take(UInt8(ascii: ","))
        return false
    }

    package mutating func readElements(_ visit: (inout JSONCursor) throws(WireError) -> Void) throws(WireError) {
        try self.enter(UInt8(ascii: "["))
        if self.take(UInt8(ascii: "]")) { return self.leave() }
        repeat { try visit(&self) } while self.take(UInt8(ascii: ","))
        guard self.take(UInt8(ascii: "]")) else { throw self.problem("the array does not end") }
        self.leave()
    }

    /// A member's name, compared without making a string of it.
    package struct Key {
        fileprivate let bytes: UnsafeRawBufferPointer
        /// Set only when the name was written with escapes.
        fileprivate let unescaped: String?

        package static func ~= (name: StaticString, key: Key) -> Bool {
            if let unescaped = key.unescaped { return unescaped == name.description }
            guard key.bytes.count == name.utf8CodeUnitCount else { return false }
            let expected = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
            return key.bytes.elementsEqual(expected)
        }

        package var text: String { self.unescaped ?? String(decoding: self.bytes, as: UTF8.self) }
    }

    private mutating func readKey() throws(WireError) -> Key {
        let (range, escaped) = try self.scanString()
        let bytes = UnsafeRawBufferPointer(rebasing: self.bytes[range])
        return Key(bytes: bytes, unescaped: escaped ? try self.unescape(bytes) : nil)
    }

    // MARK: Values

    package mutating func readValue() throws(WireError) -> JSONValue {
        self.skipSpace()
        switch try self.peek() {
        case UInt8(ascii: "{"):
            var members: JSONObject = [:]
            try self.readMembers { (key, cursor) throws(WireError) in members[key.text] = try cursor.readValue() }
            return .object(members)
        case UInt8(ascii: "["):
            var values: [JSONValue] = []
            try self.readElements { (cursor) throws(WireError) in values.append(try cursor.readValue()) }
            return .array(values)
        case UInt8(ascii: "\""): return .string(try self.readString())
        case UInt8(ascii: "t"):
            try self.takeWord("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try self.takeWord("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try self.takeWord("null")
            return .null
        default: return try self.readNumber()
        }
    }

    /// Passes over the next value. Checks its structure, but not the escapes and the UTF-8 of its texts.
    package mutating func skipValue() throws(WireError) {
        self.skipSpace()
        switch try self.peek() {
        case UInt8(ascii: "{"): try self.readMembers { (_, cursor) throws(WireError) in try cursor.skipValue() }
        case UInt8(ascii: "["): try self.readElements { (cursor) throws(WireError) in try cursor.skipValue() }
        case UInt8(ascii: "\""): _ = try self.scanString()
        default: _ = try self.readValue()
        }
    }

    /// Passes over the next value and gives the range of its bytes.
    package mutating func readRange() throws(WireError) -> Range<Int> {
        self.skipSpace()
        let start = self.position
        try self.skipValue()
        return start..<self.position
    }

    package mutating func readString() throws(WireError) -> String {
        self.skipSpace()
        guard try self.peek() == UInt8(ascii: "\"") else { throw self.problem("a text is expected") }
        let (range, escaped) = try self.scanString()
        let bytes = UnsafeRawBufferPointer(rebasing: self.bytes[range])
        if escaped { return try self.unescape(bytes) }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw self.problem("a text is not UTF-8") }
        return text
    }

    /// The next value if it is a text; anything else is passed over and gives nil.
    package mutating func readStringOrSkip() throws(WireError) -> String? {
        self.skipSpace()
        if try self.peek() == UInt8(ascii: "\"") { return try self.readString() }
        try self.skipValue()
        return nil
    }

    /// The bytes of the next value if it is a text without escapes; anything else is passed over and gives nil. Valid as long as
    /// the cursor.
    package mutating func readPlainTextOrSkip() throws(WireError) -> UnsafeRawBufferPointer? {
        self.skipSpace()
        guard try self.peek() == UInt8(ascii: "\"") else {
            try self.skipValue()
            return nil
        }
        let (range, escaped) = try self.scanString()
        return escaped ? nil : UnsafeRawBufferPointer(rebasing: self.bytes[range])
    }

    package mutating func expectEnd() throws(WireError) {
        self.skipSpace()
        if self.position < self.bytes.count { throw self.problem("something follows the value") }
    }

    // MARK: Pieces

    private mutating func readNumber() throws(WireError) -> JSONValue {
        let start = self.position
        var isWhole = true
        scan: while self.position < self.bytes.count {
            switch self.bytes[self.position] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): break
            case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"), UInt8(ascii: "+"): isWhole = false
            default: break scan
            }
            self.position += 1
        }
        let text =
            self.bytes[start..<self.position].first == UInt8(ascii: "+")
            ? "" : String(decoding: self.bytes[start..<self.position], as: UTF8.self)
        if isWhole, let value = Int(text) { return .int(value) }
        guard start < self.position, text.last != ".", let value = Double(text), value.isFinite else {
            self.position = start
            throw self.problem("no JSON value starts")
        }
        return .double(value)
    }

    /// Passes over the text that starts here. Gives the range between the quotes, and whether the text has escapes.
    private mutating func scanString() throws(WireError) -> (Range<Int>, escaped: Bool) {
        guard try self.peek() == UInt8(ascii: "\"") else { throw self.problem("a text is expected") }
        self.position += 1
        let start = self.position
        var escaped = false
        while self.position < self.bytes.count {
            let byte = self.bytes[self.position]
            if byte == UInt8(ascii: "\"") {
                self.position += 1
                return (start..<self.position - 1, escaped)
            }
            if byte == UInt8(ascii: "\\") {
                escaped = true
                self.position += 1
            } else if byte < 0x20 {
                throw self.problem("a control character stands in a text")
            }
            self.position += 1
        }
        throw self.problem("a text does not end")
    }

    private func unescape(_ bytes: UnsafeRawBufferPointer) throws(WireError) -> String {
        var plain: [UInt8] = []
        plain.reserveCapacity(bytes.count)
        var index = 0
        func codeUnit(at start: Int) throws(WireError) -> UInt16 {
            guard start + 4 <= bytes.count else { throw self.problem("an escape is cut short") }
            var unit: UInt16 = 0
            for byte in bytes[start..<start + 4] {
                guard let digit = Character(UnicodeScalar(byte)).hexDigitValue else {
                    throw self.problem("an escape is no number")
                }
                unit = unit << 4 | UInt16(digit)
            }
            return unit
        }
        while index < bytes.count {
            let byte = bytes[index]
            index += 1
            guard byte == UInt8(ascii: "\\") else {
                plain.append(byte)
                continue
            }
            guard index < bytes.count else { throw self.problem("an escape is cut short") }
            let kind = bytes[index]
            index += 1
            switch kind {
            case UInt8(ascii: "n"): plain.append(0x0A)
            case UInt8(ascii: "t"): plain.append(0x09)
            case UInt8(ascii: "r"): plain.append(0x0D)
            case UInt8(ascii: "b"): plain.append(0x08)
            case UInt8(ascii: "f"): plain.append(0x0C)
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): plain.append(kind)
            case UInt8(ascii: "u"):
                let unit = try codeUnit(at: index)
                index += 4
                var scalar = Unicode.Scalar(UInt32(unit))
                if UTF16.isLeadSurrogate(unit), index + 6 <= bytes.count, bytes[index] == UInt8(ascii: "\\"),
                    bytes[index + 1] == UInt8(ascii: "u")
                {
                    let trail = try codeUnit(at: index + 2)
                    if UTF16.isTrailSurrogate(trail) {
                        index += 6
                        scalar = Unicode.Scalar(0x10000 + (UInt32(unit & 0x3FF) << 10 | UInt32(trail & 0x3FF)))
                    }
                }
                // Python writes a lone surrogate where a file name was no UTF-8; the replacement keeps the rest readable.
                plain.append(contentsOf: String(Character(scalar ?? "\u{FFFD}")).utf8)
            default: throw self.problem("an unknown escape")
            }
        }
        guard let text = String(validating: plain, as: UTF8.self) else { throw self.problem("a text is not UTF-8") }
        return text
    }

    private mutating func takeWord(_ word: StaticString) throws(WireError) {
        let end = self.position + word.utf8CodeUnitCount
        guard end <= self.bytes.count,
            self.bytes[self.position..<end].elementsEqual(
                UnsafeRawBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount))
        else { throw self.problem("no JSON value starts") }
        self.position = end
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        self.skipSpace()
        guard self.position < self.bytes.count, self.bytes[self.position] == byte else { return false }
        self.position += 1
        return true
    }

    private func peek() throws(WireError) -> UInt8 {
        guard self.position < self.bytes.count else { throw self.problem("the text ends early") }
        return self.bytes[self.position]
    }

    private mutating func skipSpace() {
        while self.position < self.bytes.count {
            switch self.bytes[self.position] {
            case 0x20, 0x09, 0x0A, 0x0D: self.position += 1
            default: return
            }
        }
    }

    private mutating func enter(_ bracket: UInt8) throws(WireError) {
        guard self.take(bracket) else {
            throw self.problem(bracket == UInt8(ascii: "{") ? "an object is expected" : "an array is expected")
        }
        self.depth += 1
        if self.depth > Self.maximumDepth { throw self.problem("nested too deeply") }
    }

    private mutating func leave() { self.depth -= 1 }

    private func problem(_ what: String) -> WireError { WireError("\(what) at byte \(self.position) of a JSON text") }
}

extension ByteBuffer {
    /// Runs `body` on a cursor over the readable bytes, which it must not let escape.
    package func withJSONCursor<Result>(_ body: (inout JSONCursor) throws(WireError) -> Result) throws(WireError) -> Result {
        // `withUnsafeReadableBytes` rethrows untyped, so the typed result is carried out by hand.
        let outcome: Swift.Result<Result, WireError> = self.withUnsafeReadableBytes { bytes in
            var cursor = JSONCursor(bytes)
            do throws(WireError) { return .success(try body(&cursor)) } catch { return .failure(error) }
        }
        return try outcome.get()
    }
}
