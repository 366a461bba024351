package import ApusWire

extension TaskQuery {
    /// Reads a query as clients send it.
    ///
    /// - Throws: A `KeyError` that names an unknown operator, or a `TypeError` or `ValueError` that says what an operator
    ///   needs. An operator without its `$` is an error, too: to compare a whole object, use `$eq`.
    package init(_ json: JSONValue) throws(TaskStoreError) {
        guard let members = json.object else { throw TaskStoreError(.typeError, "a query is an object, not \(json.brief)") }
        self.init(condition: try Self.condition(members))
    }

    private static func condition(_ members: JSONObject) throws(TaskStoreError) -> Condition {
        var conditions: [Condition] = []
        // In the order of their names, so that a query with two errors always throws the same one.
        for (name, value) in members.sorted(by: { $0.key < $1.key }) {
            switch name {
            case "$and": conditions.append(.every(try self.list(name, value)))
            case "$or": conditions.append(.any(try self.list(name, value)))
            case "$not":
                guard let members = value.object else {
                    throw TaskStoreError(.typeError, "$not needs a query or operators, not \(value.brief)")
                }
                conditions.append(.not(try self.condition(members)))
            default:
                guard !name.hasPrefix("$") else { throw Self.unknown(name) }
                conditions.append(try self.test(FieldPath(name), value))
            }
        }
        return conditions.count == 1 ? conditions[0] : .every(conditions)
    }

    private static func list(_ name: String, _ value: JSONValue) throws(TaskStoreError) -> [Condition] {
        guard let queries = value.array, !queries.isEmpty else {
            throw TaskStoreError(.typeError, "\(name) needs a list of queries, not \(value.brief)")
        }
        var conditions: [Condition] = []
        for query in queries {
            guard let members = query.object else {
                throw TaskStoreError(.typeError, "\(name) needs a list of queries; one of them is \(query.brief)")
            }
            conditions.append(try self.condition(members))
        }
        return conditions
    }

    /// The condition on one field: a value that the field equals, or operators.
    private static func test(_ path: FieldPath, _ value: JSONValue) throws(TaskStoreError) -> Condition {
        guard let operators = value.object else { return .field(path, .equals(Operand(value))) }
        var conditions: [Condition] = []
        for (name, operand) in operators.sorted(by: { $0.key < $1.key }) {
            let condition: Condition
            switch name {
            case "$eq": condition = .field(path, .equals(Operand(operand)))
            case "$ne": condition = .not(.field(path, .equals(Operand(operand))))
            case "$lt": condition = .field(path, .compares(.less, Operand(operand)))
            case "$lte": condition = .field(path, .compares(.lessOrEqual, Operand(operand)))
            case "$gt": condition = .field(path, .compares(.greater, Operand(operand)))
            case "$gte": condition = .field(path, .compares(.greaterOrEqual, Operand(operand)))
            case "$in": condition = .field(path, .isIn(try Self.operands(name, operand)))
            case "$nin": condition = .not(.field(path, .isIn(try Self.operands(name, operand))))
            case "$all": condition = .field(path, .hasAll(try Self.operands(name, operand)))
            case "$mod": condition = .field(path, try Self.modulo(operand))
            case "$exists": condition = .field(path, .exists(operand.isTrue))
            case "$regex": condition = .field(path, .fits(try Self.pattern(name, operand, TextPattern.init(expression:))))
            case "$glob": condition = .field(path, .fits(try Self.pattern(name, operand, TextPattern.init(glob:))))
            case "$not": condition = .not(try Self.test(path, operand))
            default: throw Self.unknown(name)
            }
            conditions.append(condition)
        }
        return conditions.count == 1 ? conditions[0] : .every(conditions)
    }

    private static func operands(_ name: String, _ value: JSONValue) throws(TaskStoreError) -> [Operand] {
        guard let values = value.array else { throw TaskStoreError(.typeError, "\(name) needs a list, not \(value.brief)") }
        return values.map { Operand($0) }
    }

    private static func modulo(_ value: JSONValue) throws(TaskStoreError) -> Test {
        guard let values = value.array, values.count == 2, let divisor = values[0].double, let remainder = values[1].double,
            divisor != 0
        else { throw TaskStoreError(.valueError, "$mod needs [divisor, remainder], the divisor not 0; not \(value.brief)") }
        return .modulo(divisor, remainder)
    }

    private static func pattern(
        _ name: String, _ value: JSONValue, _ compile: (String) throws(TextPattern.Problem) -> TextPattern
    ) throws(TaskStoreError) -> TextPattern {
        guard let text = value.string else { throw TaskStoreError(.typeError, "\(name) needs a text, not \(value.brief)") }
        do { return try compile(text) } catch {
            throw TaskStoreError(.valueError, "\(name) \(value.brief): \(error)")
        }
    }

    private static func unknown(_ name: String) -> TaskStoreError {
        TaskStoreError(
            .keyError,
            "there is no query operator \(name): use $eq $ne $lt $lte $gt $gte $in $nin $all $mod $exists $regex $glob $not on a field, "
                + "$and $or $not around queries")
    }
}

extension TaskField {
    /// Reads the list of field names that a query is to give; nil when there is none.
    ///
    /// - Throws: A `KeyError` for a name that no record has.
    package static func keys(_ json: JSONValue) throws(TaskStoreError) -> Set<TaskField>? {
        if json.isNull { return nil }
        guard let names = json.array else { throw TaskStoreError(.typeError, "keys is a list of names, not \(json.brief)") }
        // An empty list means no choice, as in Python.
        if names.isEmpty { return nil }
        var fields: Set<TaskField> = [.id]
        for name in names {
            guard let field = name.string.flatMap({ TaskField(rawValue: $0) }) else {
                throw TaskStoreError(.keyError, "task records have no field \(name.brief)")
            }
            fields.insert(field)
        }
        return fields
    }
}

extension JSONValue {
    /// Whether Python takes the value for true.
    fileprivate var isTrue: Bool {
        switch self {
        case .null: false
        case .bool(let value): value
        case .string(let text): !text.isEmpty
        case .array(let elements): !elements.isEmpty
        case .object(let members): !members.isEmpty
        case .int, .double: self.double != 0
        }
    }

    /// The value's text for an error, at most 80 characters.
    var brief: String {
        let text = self.description
        return text.count <= 80 ? text : text.prefix(77) + "..."
    }
}
