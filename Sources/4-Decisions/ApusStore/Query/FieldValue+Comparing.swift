import ApusWire

enum Order { case before, same, after }

extension FieldValue {
    /// How this value compares to the operand; nil when the two cannot be compared.
    func order(to operand: TaskQuery.Operand) -> Order? {
        switch (self, operand.value) {
        case (.date(let date), _): operand.date.map { Order(date, $0) }
        case (.json(.string(let text)), .string(let other)):
            if let date = operand.date, let own = WireDate(text) { Order(own, date) } else { Order(text, other) }
        case (.json(.int(let number)), .int(let other)): Order(number, other)
        case (.json(let json), let other):
            if let number = json.double, let other = other.double { Order(number, other) } else { nil }
        }
    }

    func equals(_ operand: TaskQuery.Operand) -> Bool {
        if let order = self.order(to: operand) { return order == .same }
        guard case .json(let value) = self else { return false }
        return value.isSame(as: operand.value)
    }

    /// See ``TaskQuery/Test/hasAll(_:)``.
    func has(_ operand: TaskQuery.Operand) -> Bool {
        switch (self, operand.value) {
        case (.json(.array(let elements)), _): elements.contains { FieldValue.json($0).equals(operand) }
        case (_, .array(let elements)): elements.contains { self.equals(TaskQuery.Operand($0)) }
        case (.json(.string(let text)), .string(let whole)): self.equals(operand) || whole.hasPart(text)
        default: self.equals(operand)
        }
    }
}

extension Order {
    init<Value: Comparable>(_ left: Value, _ right: Value) { self = left < right ? .before : left == right ? .same : .after }

    /// Compares code points, as Python and SQLite do; Swift's comparison treats two spellings of one letter as equal.
    init(_ left: String, _ right: String) {
        if left.utf8.elementsEqual(right.utf8) {
            self = .same
        } else {
            self = left.utf8.lexicographicallyPrecedes(right.utf8) ? .before : .after
        }
    }
}

extension String {
    fileprivate func hasPart(_ part: String) -> Bool {
        let (whole, part) = (Array(self.utf8), Array(part.utf8))
        guard whole.count >= part.count else { return false }
        return (0...whole.count - part.count).contains { whole[$0...].starts(with: part) }
    }
}

extension JSONValue {
    /// Equality that takes 1 and 1.0 for the same, at any depth.
    fileprivate func isSame(as other: JSONValue) -> Bool {
        switch (self, other) {
        case (.array(let left), .array(let right)):
            return left.count == right.count && zip(left, right).allSatisfy { $0.isSame(as: $1) }
        case (.object(let left), .object(let right)):
            return left.count == right.count && left.allSatisfy { key, value in right[key].map { value.isSame(as: $0) } ?? false }
        case (.string(let left), .string(let right)): return left.utf8.elementsEqual(right.utf8)
        case (.int(let left), .int(let right)): return left == right
        default:
            if let left = self.double, let right = other.double { return left == right }
            return self == other
        }
    }
}
