import ApusWire

/// Reads Python literals, the only values that are taken from a configuration file.
///
/// Literals are numbers, texts, bytes (as text), `True`, `False`, `None`, lists, tuples (as arrays) and dictionaries with text
/// keys. Anything else, such as a name or a call, is no literal. No code is run.
struct PythonLiteral {
    private let text: [Unicode.Scalar]
    private(set) var position: Int

    init(_ text: some StringProtocol) {
        self.text = Array(text.unicodeScalars)
        self.position = 0
    }

    /// The value of a text that is one literal, perhaps followed by a comment; nil for anything else.
    static func value(of text: some StringProtocol) -> JSONValue? {
        var literal = PythonLiteral(text)
        guard let value = literal.readValue() else { return nil }
        literal.skipBlanks()
        return literal.peek == nil ? value : nil
    }

    private var peek: Unicode.Scalar? { self.position < self.text.count ? self.text[self.position] : nil }

    /// Skips white space, ends of lines and comments.
    private mutating func skipBlanks() {
        while let next = self.peek {
            if next == "#" {
                while let skipped = self.peek, skipped != "\n" { self.position += 1 }
            } else if next.properties.isWhitespace || next == "\\" {
                self.position += 1
            } else {
                return
            }
        }
    }

    private mutating func skip(_ scalar: Unicode.Scalar) -> Bool {
        self.skipBlanks()
        guard self.peek == scalar else { return false }
        self.position += 1
        return true
    }

    private mutating func readValue(depth: Int = 0) -> JSONValue? {
        self.skipBlanks()
        guard depth < 32, let next = self.peek else { return nil }
        switch next {
        case "[": return self.readItems(until: "]", depth: depth).map { .array($0) }
        case "(":
            guard let items = self.readItems(until: ")", depth: depth) else { return nil }
            // Brackets around one value only group it; a tuple of one value has a comma.
            let isTuple = items.count != 1 || self.text[..<(self.position - 1)].last { !$0.properties.isWhitespace } == ","
            return isTuple ? .array(items) : items[0]
        case "{": return self.readMembers(depth: depth)
        case "'", "\"": return self.readTexts()
        default:
            if next == "-" || next == "+" || next == "." || next.properties.numericType != nil { return self.readNumber() }
            return self.readWord()
        }
    }

    private mutating func readItems(until end: Unicode.Scalar, depth: Int) -> [JSONValue]? {
        self.position += 1
        var items: [JSONValue] = []
        while !self.skip(end) {
            guard let item = self.readValue(depth: depth + 1) else { return nil }
            items.append(item)
            if !self.skip(",") { return self.skip(end) ? items : nil }
        }
        return items
    }

    private mutating func readMembers(depth: Int) -> JSONValue? {
        self.position += 1
        var members: JSONObject = [:]
        while !self.skip("}") {
            guard let key = self.readValue(depth: depth + 1)?.string, self.skip(":"),
                let value = self.readValue(depth: depth + 1)
            else { return nil }
            members[key] = value
            if !self.skip(",") { return self.skip("}") ? .object(members) : nil }
        }
        return .object(members)
    }

    private mutating func readNumber() -> JSONValue? {
        var digits = ""
        while let next = self.peek, next.isASCII,
            next.properties.numericType != nil || "+-._eExXoObBaAcCdDfF".unicodeScalars.contains(next)
        {
            if next != "_" { digits.unicodeScalars.append(next) }
            self.position += 1
        }
        if let number = Int(digits) { return .int(number) }
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] where digits.lowercased().hasPrefix(prefix) {
            return Int(digits.dropFirst(2), radix: radix).map { .int($0) }
        }
        return Double(digits).map { .double($0) }
    }

    private mutating func readWord() -> JSONValue? {
        let start = self.position
        while let next = self.peek, next.properties.isAlphabetic || next == "_" { self.position += 1 }
        var word = String.UnicodeScalarView()
        word.append(contentsOf: self.text[start..<self.position])
        switch String(word) {
        case "True": return true
        case "False": return false
        case "None": return .null
        case "b", "r", "u", "B", "R", "U", "br", "rb":
            guard self.peek == "'" || self.peek == "\"" else { return nil }
            return self.readTexts(raw: String(word).lowercased().contains("r"))
        default: return nil
        }
    }

    /// Reads texts that stand side by side as one text.
    private mutating func readTexts(raw: Bool = false) -> JSONValue? {
        guard var text = self.readText(raw: raw) else { return nil }
        while true {
            let before = self.position
            self.skipBlanks()
            guard self.peek == "'" || self.peek == "\"" else {
                self.position = before
                return .string(text)
            }
            guard let more = self.readText(raw: false) else { return nil }
            text += more
        }
    }

    private mutating func readText(raw: Bool) -> String? {
        guard let quote = self.peek else { return nil }
        let isLong = self.text[self.position...].prefix(3).elementsEqual([quote, quote, quote])
        self.position += isLong ? 3 : 1
        var text = ""
        while let next = self.peek {
            if next == quote {
                if !isLong {
                    self.position += 1
                    return text
                }
                if self.text[self.position...].prefix(3).elementsEqual([quote, quote, quote]) {
                    self.position += 3
                    return text
                }
            }
            if next == "\n" && !isLong { return nil }
            self.position += 1
            if next == "\\", !raw, let escaped = self.peek {
                self.position += 1
                switch escaped {
                case "n": text += "\n"
                case "t": text += "\t"
                case "r": text += "\r"
                case "\n": break
                case "\\", "'", "\"": text.unicodeScalars.append(escaped)
                default:
                    text += "\\"
                    text.unicodeScalars.append(escaped)
                }
            } else {
                text.unicodeScalars.append(next)
            }
        }
        return nil
    }
}
