import ApusWire

/// Reads the assignments of an IPython configuration file that are literal: `c.Class.trait = value`.
///
/// Such a file is a Python program, which is not run. Imports, `get_config` and comments are skipped; every other line gives a
/// warning that it has no effect.
package struct TraitsFile: Sendable {
    package private(set) var assignments: [TraitAssignment] = []
    package private(set) var warnings: [String] = []

    /// - Parameter name: What to call the file in warnings.
    package init(python text: String, name: String) {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)[...]
        var number = 0
        while let line = lines.popFirst() {
            number += 1
            let first = number
            var statement = String(line)
            var brackets = OpenBrackets()
            brackets.read(line)
            // While a bracket is open at the end of a line, the statement goes on in the next line.
            while brackets.areOpen, let next = lines.popFirst() {
                number += 1
                statement += "\n" + next
                brackets.read(next)
            }
            self.take(statement, "\(name), line \(first)")
        }
    }

    /// Reads the JSON form of such a file, which IPython's tools read too.
    package init(json text: String, name: String) {
        guard let members = (try? JSONValue(parsing: text))?.object else {
            self.warnings.append("\(name) is no JSON object and is passed over")
            return
        }
        for (className, traits) in members.sorted(by: { $0.key < $1.key }) {
            for (trait, value) in (traits.object ?? [:]).sorted(by: { $0.key < $1.key }) {
                self.assignments.append(TraitAssignment(className, trait, .literal(value), source: name))
            }
        }
    }

    private mutating func take(_ statement: String, _ place: String) {
        let trimmed = statement.drop { $0 == " " || $0 == "\t" }
        if trimmed.isEmpty || trimmed.hasPrefix("#") || trimmed.hasPrefix("import ") || trimmed.hasPrefix("from ")
            || trimmed.hasPrefix("pass") || trimmed.hasPrefix("\"\"\"")
        {
            return
        }
        if trimmed.hasPrefix("c") && trimmed.contains("get_config()") { return }
        guard statement.first != " ", statement.first != "\t", let assignment = Self.assignment(trimmed, place) else {
            self.warnings.append(
                "\(place) has no effect: only literal assignments such as c.IPController.ip = '0.0.0.0' are read, and it is '\(trimmed.prefix(60))'"
            )
            return
        }
        self.assignments.append(assignment)
    }

    private static func assignment(_ statement: Substring, _ place: String) -> TraitAssignment? {
        guard statement.hasPrefix("c.") else { return nil }
        let target = statement.dropFirst(2).prefix { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }
        let rest = statement[target.endIndex...].drop { $0 == " " || $0 == "\t" }
        var names = target.split(separator: ".").map(String.init)
        if rest.hasPrefix("=") && !rest.hasPrefix("==") {
            guard names.count == 2, let value = PythonLiteral.value(of: rest.dropFirst()) else { return nil }
            return TraitAssignment(names[0], names[1], .literal(value), source: place)
        }
        if rest.hasPrefix("+="), names.count == 2, let values = PythonLiteral.value(of: rest.dropFirst(2))?.array {
            return TraitAssignment(names[0], names[1], .added(values), source: place)
        }
        guard rest.hasPrefix("("), names.count == 3, let method = names.popLast(), let value = PythonLiteral.value(of: rest)
        else {
            return nil
        }
        switch method {
        case "append": return TraitAssignment(names[0], names[1], .added([value]), source: place)
        case "extend": return value.array.map { TraitAssignment(names[0], names[1], .added($0), source: place) }
        default: return nil
        }
    }
}

/// Which brackets are open at the end of the lines read so far, outside texts and comments.
private struct OpenBrackets {
    private var depth = 0
    private var quote: UInt8?

    var areOpen: Bool { self.depth > 0 }

    /// Reads the next line. Comments end with their line, and so do texts, unless a backslash stands at the end.
    mutating func read(_ line: Substring) {
        var isEscaped = false
        defer { if !isEscaped { self.quote = nil } }
        for byte in line.utf8 {
            if let open = self.quote {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == open {
                    self.quote = nil
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "'"), UInt8(ascii: "\""): self.quote = byte
            case UInt8(ascii: "#"): return
            case UInt8(ascii: "("), UInt8(ascii: "["), UInt8(ascii: "{"): self.depth += 1
            case UInt8(ascii: ")"), UInt8(ascii: "]"), UInt8(ascii: "}"): self.depth -= 1
            default: break
            }
        }
    }
}
