import NIOCore

extension PickleValue: CustomStringConvertible {
    /// As Python's `repr` would show it, as far as the value is known here.
    public var description: String {
        var text = ""
        self.describe(into: &text)
        return text
    }

    /// A short phrase for errors: "the text 'abc'", "a list of 3".
    var summary: String {
        switch self {
        case .none: "None"
        case .bool, .int, .bigInteger, .float, .complex: "\(self)".shortened
        case .string(let text): "the text \(PickleValue.string(text.shortened))"
        case .bytes(let bytes): "\(bytes.readableBytes) bytes"
        case .byteArray(let bytes): "a bytearray of \(bytes.readableBytes)"
        case .list(let elements): "a list of \(elements.count)"
        case .tuple(let elements): "a tuple of \(elements.count)"
        case .dictionary(let dictionary): "a dictionary of \(dictionary.count)"
        case .set(let set), .frozenSet(let set): "a set of \(set.count)"
        case .date, .time, .dateTime, .duration, .timeZone: "\(self)".shortened
        case .array(let array): "an array of \(array.scalarType) with shape \(array.shape)"
        case .global(let global): "the Python object \(global)"
        case .object(let object): object.global.map { "a Python object made by \($0)" } ?? "a Python object"
        }
    }

    private func describe(into text: inout String) {
        switch self {
        case .none: text += "None"
        case .bool(let value): text += value ? "True" : "False"
        case .int(let value): text += String(value)
        case .bigInteger(let value): text += value.description
        case .float(let value): text += value.pythonDescription
        case .complex(let value):
            let imaginary = value.imaginary.shortPythonDescription + "j"
            if value.real == 0, value.real.sign == .plus {
                text += imaginary
            } else {
                let joint = value.imaginary.sign == .minus && !value.imaginary.isNaN ? "" : "+"
                text += "(\(value.real.shortPythonDescription)\(joint)\(imaginary))"
            }
        case .string(let value): value.describePython(into: &text)
        case .bytes(let bytes): bytes.describePython(into: &text)
        case .byteArray(let bytes):
            text += "bytearray("
            bytes.describePython(into: &text)
            text += ")"
        case .list(let elements): Self.describe(elements, between: "[", "]", into: &text)
        case .tuple(let elements): Self.describe(elements, between: "(", elements.count == 1 ? ",)" : ")", into: &text)
        case .set(let set):
            if set.isEmpty { text += "set()" } else { Self.describe(set.elements, between: "{", "}", into: &text) }
        case .frozenSet(let set):
            if set.isEmpty {
                text += "frozenset()"
            } else {
                Self.describe(set.elements, between: "frozenset({", "})", into: &text)
            }
        case .dictionary(let dictionary): dictionary.describe(into: &text)
        case .date(let date): text += "datetime.date(\(date.year), \(date.month), \(date.day))"
        case .time(let time): text += "datetime.time(\(time.parts(leastCount: 2)))"
        case .dateTime(let moment):
            text += "datetime.datetime(\(moment.date.year), \(moment.date.month), \(moment.date.day), "
            text += "\(moment.time.parts(leastCount: 2)))"
        case .duration(let duration): text += duration.pythonDescription
        case .timeZone(let zone): text += zone.pythonDescription
        case .array(let array): text += array.description
        case .global(let global): text += "<\(global)>"
        case .object(let object):
            text += object.global.map(\.description) ?? object.constructor.description
            Self.describe(object.arguments, between: "(", ")", into: &text)
            if let attributes = object.attributes {
                attributes.describe(into: &text)
            } else if let state = object.state {
                text += "{\(state)}"
            }
        }
    }

    fileprivate static func describe(_ elements: [PickleValue], between open: String, _ close: String, into text: inout String) {
        text += open
        for (position, element) in elements.enumerated() {
            if position > 0 { text += ", " }
            element.describe(into: &text)
        }
        text += close
    }
}

extension PickleDictionary: CustomStringConvertible {
    public var description: String { PickleValue.dictionary(self).description }

    fileprivate func describe(into text: inout String) {
        text += "{"
        for (position, pair) in self.enumerated() {
            if position > 0 { text += ", " }
            text += "\(pair.key): \(pair.value)"
        }
        text += "}"
    }
}

extension Double {
    var pythonDescription: String { self.isFinite ? self.description : self.isNaN ? "nan" : self < 0 ? "-inf" : "inf" }

    /// The number as it stands in a complex number's text, where whole numbers lose their ".0".
    fileprivate var shortPythonDescription: String {
        let text = self.pythonDescription
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }
}

extension String {
    fileprivate var shortened: String { self.count <= 40 ? self : self.prefix(39) + "…" }

    fileprivate func describePython(into text: inout String) {
        let quote: Unicode.Scalar = self.unicodeScalars.contains("'") && !self.unicodeScalars.contains("\"") ? "\"" : "'"
        text.unicodeScalars.append(quote)
        for scalar in self.unicodeScalars {
            switch scalar {
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case "\\": text += "\\\\"
            case quote: text += "\\\(quote)"
            case _ where scalar == " " || scalar.properties.isPrintedByPython: text.unicodeScalars.append(scalar)
            case _ where scalar.value <= 0xff: text += "\\x" + String.hexadecimal(scalar.value, digits: 2)
            case _ where scalar.value <= 0xffff: text += "\\u" + String.hexadecimal(scalar.value, digits: 4)
            default: text += "\\U" + String.hexadecimal(scalar.value, digits: 8)
            }
        }
        text.unicodeScalars.append(quote)
    }

    fileprivate static func hexadecimal(_ value: UInt32, digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: Swift.max(0, digits - text.count)) + text
    }
}

extension Unicode.Scalar.Properties {
    fileprivate var isPrintedByPython: Bool {
        switch self.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator, .spaceSeparator: false
        default: true
        }
    }
}

extension ByteBuffer {
    fileprivate func describePython(into text: inout String) {
        let bytes = self.readableBytesView
        let quote: UInt8 = bytes.contains(UInt8(ascii: "'")) && !bytes.contains(UInt8(ascii: "\"")) ? 0x22 : 0x27
        text += "b\(Unicode.Scalar(quote))"
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "\n"): text += "\\n"
            case UInt8(ascii: "\r"): text += "\\r"
            case UInt8(ascii: "\t"): text += "\\t"
            case UInt8(ascii: "\\"), quote: text += "\\\(Unicode.Scalar(byte))"
            case 0x20..<0x7f: text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += "\\x" + String.hexadecimal(UInt32(byte), digits: 2)
            }
        }
        text.unicodeScalars.append(Unicode.Scalar(quote))
    }
}

extension PickleTime {
    fileprivate func parts(leastCount: Int) -> String {
        var parts = [self.hour, self.minute, self.second, self.microsecond]
        while parts.count > leastCount, parts.last == 0 { parts.removeLast() }
        var text = parts.map(String.init).joined(separator: ", ")
        if self.isFolded { text += ", fold=1" }
        if let zone = self.zone { text += ", tzinfo=\(zone.pythonDescription)" }
        return text
    }
}

extension PickleDuration {
    fileprivate var pythonDescription: String {
        let parts = [("days", self.days), ("seconds", self.seconds), ("microseconds", self.microseconds)].filter { $0.1 != 0 }
        return "datetime.timedelta(" + (parts.isEmpty ? "0" : parts.map { "\($0)=\($1)" }.joined(separator: ", ")) + ")"
    }
}

extension PickleTimeZone {
    fileprivate var pythonDescription: String {
        if self == .utc { return "datetime.timezone.utc" }
        let name = self.name.map { ", \(PickleValue.string($0))" } ?? ""
        return "datetime.timezone(\(self.offset.pythonDescription)\(name))"
    }
}
