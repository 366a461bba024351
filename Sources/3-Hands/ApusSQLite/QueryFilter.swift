import ApusStore
import ApusWire
import GRDB

/// The part of a query that SQLite can decide, by an index where there is one.
///
/// The filter only leaves out rows that cannot match. ``TaskQuery/matches(_:)`` decides on the others, as in every store.
enum QueryFilter {
    /// A condition that holds for all matches, and for few other rows.
    static func condition(for query: TaskQuery) -> SQL {
        let rest: SQL = if let filter = Self.filter(query.condition) { filter } else { "TRUE" }
        guard let ids = query.candidates else { return rest }
        // SQLite takes a list of any length as one JSON text.
        let list = JSONValue(ids.map { $0.text }).description
        return "msg_id IN (SELECT value FROM json_each(\(list))) AND \(rest)"
    }

    /// A condition that holds wherever the query's does; nil when the only such condition is "true".
    private static func filter(_ condition: TaskQuery.Condition) -> SQL? {
        switch condition {
        case .every(let conditions):
            let filters = conditions.compactMap { Self.filter($0) }
            return filters.isEmpty ? nil : "(\(filters.joined(separator: " AND ")))"
        case .any(let conditions):
            let filters = conditions.compactMap { Self.filter($0) }
            return filters.count < conditions.count || filters.isEmpty ? nil : "(\(filters.joined(separator: " OR ")))"
        case .not(.field(let path, .equals(let operand))) where operand.value.isNull:
            return Self.column(path).map { "\(sql: $0.name) IS NOT NULL" }
        case .not: return nil
        case .field(let path, let test): return Self.column(path).flatMap { Self.filter($0, test) }
        }
    }

    private struct Column {
        let name: String
        let isDate: Bool
    }

    private static func column(_ path: TaskQuery.FieldPath) -> Column? {
        guard path.members.isEmpty, let field = path.field else { return nil }
        switch field {
        case .client, .engine, .queue, .resubmitted: return Column(name: field.rawValue.replacingSuffix("_uuid"), isDate: false)
        case .submitted, .started, .completed, .received: return Column(name: field.rawValue, isDate: true)
        default: return nil
        }
    }

    private static func filter(_ column: Column, _ test: TaskQuery.Test) -> SQL? {
        switch test {
        case .exists(let wanted): return "\(sql: column.name) IS \(sql: wanted ? "NOT NULL" : "NULL")"
        case .equals(let operand): return Self.equality(column, operand)
        case .isIn(let operands) where operands.count <= 100:
            let filters = operands.compactMap { Self.equality(column, $0) }
            if filters.isEmpty && operands.isEmpty { return "FALSE" }
            return filters.count < operands.count ? nil : "(\(filters.joined(separator: " OR ")))"
        case .compares(let comparison, let operand) where column.isDate:
            guard let date = operand.date else { return nil }
            let sign =
                switch comparison {
                case .less: "<"
                case .lessOrEqual: "<="
                case .greater: ">"
                case .greaterOrEqual: ">="
                }
            return "\(sql: column.name) \(sql: sign) \(date.microseconds)"
        default: return nil
        }
    }

    private static func equality(_ column: Column, _ operand: TaskQuery.Operand) -> SQL? {
        if operand.value.isNull { return "\(sql: column.name) IS NULL" }
        if column.isDate { return operand.date.map { "\(sql: column.name) = \($0.microseconds)" } }
        // A text that is a date equals every other spelling of it.
        guard let text = operand.value.string, operand.date == nil else { return nil }
        return "\(sql: column.name) = \(text)"
    }
}

extension String {
    fileprivate func replacingSuffix(_ suffix: String) -> String {
        self.hasSuffix(suffix) ? String(self.dropLast(suffix.count)) : self
    }
}
