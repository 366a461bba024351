/// Rows of text in aligned columns.
public struct TextTable: Sendable, CustomStringConvertible {
    public enum Alignment: Sendable { case left, right }

    private let columns: [(title: String, alignment: Alignment)]
    private var rows: [[String]] = []

    public init(_ columns: [(title: String, alignment: Alignment)]) { self.columns = columns }

    public mutating func add(_ cells: String...) {
        precondition(cells.count == self.columns.count, "a row of \(cells.count) cells in a table of \(self.columns.count)")
        self.rows.append(cells)
    }

    public var description: String {
        let titles = self.columns.map(\.title)
        let widths = self.columns.indices.map { column in ([titles] + self.rows).map { $0[column].count }.max() ?? 0 }
        func line(_ cells: [String]) -> String {
            let padded = cells.indices.map { column in
                let space = String(repeating: " ", count: widths[column] - cells[column].count)
                return self.columns[column].alignment == .left ? cells[column] + space : space + cells[column]
            }
            return String(padded.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
        }
        let rule = widths.map { String(repeating: "-", count: $0) }
        return ([titles, rule] + self.rows).map(line).joined(separator: "\n")
    }
}
