package import ApusWire
import Logging

/// One setting under its ipyparallel name: a class, one of the class's traits, and a value.
package struct TraitAssignment: Sendable, Hashable {
    package var className: String
    package var trait: String
    package var value: Value
    /// Where the setting stands, for error messages: `--ping=abc`, or a file and line.
    package var source: String

    package enum Value: Sendable, Hashable {
        /// A text of a command line; the trait decides how the text is read.
        case text(String)
        /// A value of a configuration file.
        case literal(JSONValue)
        /// Values that a configuration file adds to a list.
        case added([JSONValue])
    }

    package init(_ className: String, _ trait: String, _ value: Value, source: String) {
        self.className = className
        self.trait = trait
        self.value = value
        self.source = source
    }

    /// The setting's name as users write it.
    package var name: String { "\(self.className).\(self.trait)" }
}

/// Why a setting cannot be obeyed; the program must not start without it.
package struct SettingsError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

// MARK: - Values

extension TraitAssignment {
    private func wrong(_ expected: String) -> SettingsError {
        let given: String
        switch self.value {
        case .text(let text): given = "'\(text)'"
        case .literal(let value): given = "\(value)"
        case .added(let values): given = "\(JSONValue.array(values))"
        }
        return SettingsError("\(self.source): \(self.name) must be \(expected), not \(given)")
    }

    /// The value as data. A command line's text is read as a Python literal where it is one.
    private var literal: JSONValue {
        switch self.value {
        case .text(let text): PythonLiteral.value(of: text) ?? .string(text)
        case .literal(let value): value
        case .added(let values): .array(values)
        }
    }

    func text() throws(SettingsError) -> String {
        if case .text(let text) = self.value { return text }
        guard let text = self.literal.string else { throw self.wrong("a text") }
        return text
    }

    func number(in range: ClosedRange<Int>) throws(SettingsError) -> Int {
        guard let number = self.literal.int else { throw self.wrong("a whole number") }
        guard range.contains(number) else {
            throw self.wrong(
                range.upperBound == .max ? "at least \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A time in seconds; nil for 0, which turns the setting off.
    func span() throws(SettingsError) -> Duration? {
        guard let seconds = self.literal.double, (0...1e9).contains(seconds) else {
            throw self.wrong("a number of seconds, at least 0 and at most 1e9")
        }
        return seconds > 0 ? .seconds(seconds) : nil
    }

    func flag() throws(SettingsError) -> Bool {
        switch self.literal {
        case .bool(let value): return value
        case .int(0), .string("false"), .string("0"): return false
        case .int(1), .string("true"), .string("1"): return true
        default: throw self.wrong("True or False")
        }
    }

    /// `10101-10110,10115`, one number, or a list of either.
    func ports() throws(SettingsError) -> [Int] {
        let items: [JSONValue]
        if case .text(let text) = self.value, PythonLiteral.value(of: text)?.array == nil {
            items = [.string(text)]
        } else {
            items = self.literal.array ?? [self.literal]
        }
        var ports: [Int] = []
        for item in items {
            if let port = item.int {
                ports.append(port)
                continue
            }
            for range in (item.string ?? "?").split(separator: ",") {
                let ends = range.split(separator: "-", maxSplits: 1).map { Int($0.filter { $0 != " " }) }
                guard let first = ends.first ?? nil, let last = ends.last ?? nil, first <= last, last - first < 65536 else {
                    throw self.wrong("a list of ports, such as 10101-10110,10115")
                }
                ports += first...last
            }
        }
        guard ports.allSatisfy({ (1...65535).contains($0) }) else { throw self.wrong("a list of ports, each from 1 to 65535") }
        return ports
    }

    var isAddition: Bool { if case .added = self.value { true } else { false } }

    /// A log level, by Python's number or name.
    func logLevel() throws(SettingsError) -> Logger.Level {
        let levels = ["DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "FATAL": 50]
        var number = (try? self.text()).flatMap { levels[$0.uppercased()] } ?? -1
        if number < 0 { number = try self.number(in: 0...100) }
        switch number {
        case 0: return .info
        case ...10: return .debug
        case ...20: return .info
        case ...30: return .warning
        case ...40: return .error
        default: return .critical
        }
    }
}
