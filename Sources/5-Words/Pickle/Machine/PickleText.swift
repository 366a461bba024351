/// The text forms of protocol 0.
enum PickleText {
    static func integer(_ line: UnsafeRawBufferPointer) throws -> PickleValue {
        // Python wrote booleans this way before they had opcodes of their own.
        if line.elementsEqual("00".utf8) { return .bool(false) }
        if line.elementsEqual("01".utf8) { return .bool(true) }
        var text = String(decoding: line, as: UTF8.self)
        if text.hasSuffix("L") { text.removeLast() }
        if let small = Int(text) { return .int(small) }
        guard let integer = PickleInteger(decimal: text) else { throw PickleMachine.malformed("an integer is written wrongly") }
        return .integer(integer)
    }

    static func float(_ line: UnsafeRawBufferPointer) throws -> Double {
        guard let value = Double(String(decoding: line, as: UTF8.self)) else {
            throw PickleMachine.malformed("a number is written wrongly")
        }
        return value
    }

    static func index(_ line: UnsafeRawBufferPointer) throws -> Int {
        guard let index = Int(String(decoding: line, as: UTF8.self)), index >= 0, index <= UInt32.max else {
            throw PickleMachine.malformed("a memo index is written wrongly")
        }
        return index
    }

    /// Python's `raw-unicode-escape`: Latin-1, and `\uXXXX` or `\UXXXXXXXX` for the rest.
    static func rawUnicodeEscaped(_ line: UnsafeRawBufferPointer) throws -> String {
        var text = String.UnicodeScalarView()
        var place = 0
        while place < line.count {
            let byte = line[place]
            place += 1
            guard byte == UInt8(ascii: "\\"), place < line.count,
                let digits = [UInt8(ascii: "u"): 4, UInt8(ascii: "U"): 8][line[place]], line.count - place > digits
            else {
                text.append(Unicode.Scalar(byte))
                continue
            }
            let code = UInt32(String(decoding: line[(place + 1)...(place + digits)], as: UTF8.self), radix: 16)
            guard let scalar = code.flatMap(Unicode.Scalar.init) else {
                throw PickleError(.invalidValue, "a text holds a code that is no Unicode character")
            }
            text.append(scalar)
            place += digits + 1
        }
        return String(text)
    }

    /// A Python 2 string literal, as its `repr` was.
    static func quoted(_ line: UnsafeRawBufferPointer) throws -> String {
        guard line.count >= 2, let quote = line.first, quote == line.last, "'\"".utf8.contains(quote) else {
            throw PickleMachine.malformed("a text lacks its quotes")
        }
        let body = line[1..<line.count - 1]
        var bytes: [UInt8] = []
        var place = body.startIndex
        while place < body.endIndex {
            let byte = body[place]
            place += 1
            guard byte == UInt8(ascii: "\\"), place < body.endIndex else {
                bytes.append(byte)
                continue
            }
            let escaped = body[place]
            place += 1
            switch escaped {
            case UInt8(ascii: "n"): bytes.append(0x0a)
            case UInt8(ascii: "r"): bytes.append(0x0d)
            case UInt8(ascii: "t"): bytes.append(0x09)
            case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): bytes.append(escaped)
            case UInt8(ascii: "x"):
                guard body.endIndex - place >= 2,
                    let value = UInt8(String(decoding: body[place..<place + 2], as: UTF8.self), radix: 16)
                else { throw PickleMachine.malformed("an escape in a text is cut short") }
                bytes.append(value)
                place += 2
            default: bytes += [byte, escaped]
            }
        }
        return try bytes.withUnsafeBytes { try PickleCursor.text($0) }
    }
}

extension PickleGlobal {
    /// The name a pickle gives, Python 2's modules under their present names.
    init(pickledModule module: String, name: String) {
        switch module {
        case "__builtin__", "exceptions":
            let renamed = ["xrange": "range", "unicode": "str", "long": "int", "unichr": "chr"]
            self.init(module: "builtins", name: renamed[name] ?? name)
        case "copy_reg": self.init(module: "copyreg", name: name)
        default: self.init(module: module, name: name)
        }
    }
}
