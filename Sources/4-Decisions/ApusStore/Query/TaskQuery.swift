package import ApusWire

/// A question about task records, in the manner of MongoDB (protocol article, "db_request").
///
/// A query is evaluated here, on records of any store; a file only uses it to leave out early records that cannot match. So all
/// stores give the same answers:
///
/// - Several fields, and several operators on a field, all have to hold.
/// - A field that no record has is null everywhere. A path with dots goes into a field: `header.msg_type`.
/// - Dates compare as dates, numbers as numbers, texts by their code points. Values that cannot be compared, above all null, are
///   neither less nor greater than anything, and never an error.
package struct TaskQuery: Sendable {
    package let condition: Condition

    package indirect enum Condition: Sendable {
        /// `$and`, and several members of one object.
        case every([Condition])
        case any([Condition])
        case not(Condition)
        case field(FieldPath, Test)
    }

    package enum Test: Sendable {
        case equals(Operand)
        case compares(Comparison, Operand)
        case isIn([Operand])
        /// A list contains all of these values; any other value is in each of these lists, or a part of each of these texts.
        case hasAll([Operand])
        /// Division by the first number leaves the second.
        case modulo(Double, Double)
        /// The value is not null (true), or is null (false).
        case exists(Bool)
        case fits(TextPattern)
    }

    package enum Comparison: Sendable { case less, lessOrEqual, greater, greaterOrEqual }

    /// A value in a query; also a date, if its text is an ISO date.
    package struct Operand: Sendable {
        package let value: JSONValue
        package let date: WireDate?

        init(_ value: JSONValue) {
            self.value = value
            self.date = value.string.flatMap { WireDate($0) }
        }
    }

    /// A field of a record, and the members that lead into its value.
    package struct FieldPath: Sendable {
        /// Nil for a name that no record has.
        package let field: TaskField?
        package let members: [String]

        init(_ path: String) {
            let names = path.split(separator: ".", omittingEmptySubsequences: false).map { String($0) }
            self.field = names.first.flatMap { TaskField(rawValue: $0) }
            self.members = Array(names.dropFirst())
        }
    }

    init(condition: Condition) { self.condition = condition }
}

// MARK: - Evaluation

extension TaskQuery {
    package func matches(_ record: TaskRecord) -> Bool { Self.holds(self.condition, record) }

    private static func holds(_ condition: Condition, _ record: TaskRecord) -> Bool {
        switch condition {
        case .every(let conditions): conditions.allSatisfy { self.holds($0, record) }
        case .any(let conditions): conditions.contains { self.holds($0, record) }
        case .not(let condition): !self.holds(condition, record)
        case .field(let path, let test): test.holds(for: path.value(in: record))
        }
    }

    /// The fields that evaluating the query reads.
    package var fields: Set<TaskField> { Self.fields(of: self.condition) }

    private static func fields(of condition: Condition) -> Set<TaskField> {
        switch condition {
        case .every(let conditions), .any(let conditions):
            conditions.reduce(into: []) { $0.formUnion(self.fields(of: $1)) }
        case .not(let condition): self.fields(of: condition)
        case .field(let path, _): path.field.map { [$0] } ?? []
        }
    }

    /// The only ids that can match; nil for a query that does not restrict the ids.
    package var candidates: [TaskID]? { Self.candidates(of: self.condition) }

    private static func candidates(of condition: Condition) -> [TaskID]? {
        switch condition {
        case .every(let conditions): conditions.lazy.compactMap { self.candidates(of: $0) }.first
        case .field(let path, .equals(let operand)) where path.isID: operand.value.string.map { [TaskID($0)] } ?? []
        case .field(let path, .isIn(let operands)) where path.isID:
            operands.compactMap { $0.value.string.map { TaskID($0) } }
        default: nil
        }
    }
}

extension TaskQuery.FieldPath {
    fileprivate var isID: Bool { self.field == .id && self.members.isEmpty }

    fileprivate func value(in record: TaskRecord) -> FieldValue {
        guard let field = self.field else { return .null }
        let value = record.value(of: field)
        if self.members.isEmpty { return value }
        guard case .json(var json) = value else { return .null }
        for name in self.members {
            switch json {
            case .object(let members): json = members[name] ?? .null
            case .array(let elements):
                guard let index = Int(name), elements.indices.contains(index) else { return .null }
                json = elements[index]
            default: return .null
            }
        }
        return .json(json)
    }
}

extension TaskQuery.Test {
    fileprivate func holds(for value: FieldValue) -> Bool {
        switch self {
        case .equals(let operand): value.equals(operand)
        case .compares(let comparison, let operand):
            switch (comparison, value.order(to: operand)) {
            case (_, nil): false
            case (.less, .some(let order)): order == .before
            case (.lessOrEqual, .some(let order)): order != .after
            case (.greater, .some(let order)): order == .after
            case (.greaterOrEqual, .some(let order)): order != .before
            }
        case .isIn(let operands): operands.contains { value.equals($0) }
        case .hasAll(let operands): operands.allSatisfy { value.has($0) }
        case .modulo(let divisor, let remainder):
            if case .json(let json) = value, let number = json.double {
                number - divisor * (number / divisor).rounded(.down) == remainder
            } else {
                false
            }
        case .exists(let wanted):
            if case .json(.null) = value { !wanted } else { wanted }
        case .fits(let pattern):
            switch value {
            case .json(.string(let text)): pattern.matches(text)
            case .date(let date): pattern.matches(date.description)
            case .json: false
            }
        }
    }
}
