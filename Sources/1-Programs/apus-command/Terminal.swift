import Apus
import Foundation

/// Writes a line to standard error.
func standardError(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

/// Formats rows as aligned columns under their titles.
func table(_ titles: [String], _ rows: [[String]]) -> String {
    let widths = titles.indices.map { column in ([titles] + rows).map { $0[column].count }.max() ?? 0 }
    return ([titles] + rows).map { row in
        zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined(separator: "  ")
            .replacing(/\s+$/, with: "")
    }.joined(separator: "\n")
}
