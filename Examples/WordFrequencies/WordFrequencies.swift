import Apus
import Foundation

/// How often each word occurs in some lines.
@Remote
func countWords(_ lines: [String]) -> [String: Int] {
    var counts: [String: Int] = [:]
    for line in lines {
        for word in line.lowercased().split(whereSeparator: { !$0.isLetter }) { counts[String(word), default: 0] += 1 }
    }
    return counts
}

/// Lines in pieces of a size, made as they are asked for.
struct Pieces: Sequence, Sendable {
    let lines: [Substring]
    let size: Int

    func makeIterator() -> AnyIterator<[String]> {
        var start = self.lines.startIndex
        return AnyIterator {
            guard start < self.lines.endIndex else { return nil }
            let end = Swift.min(start + self.size, self.lines.endIndex)
            defer { start = end }
            return self.lines[start..<end].map { String($0) }
        }
    }
}

/// A text whose words are as frequent as those of a language: the second half as often as the first, and so on.
func generatedText(lines: Int) -> String {
    let words = ["the", "of", "engine", "task", "client", "view", "hub", "scheduler", "result", "message"]
    var text = ""
    for line in 0..<lines {
        for (rank, word) in words.enumerated() where line % (rank + 1) == 0 { text += word + " " }
        text += "\n"
    }
    return text
}

/// Counts the words of a file, or of a generated text: `word-frequencies [file]`.
@main
struct WordFrequencies {
    static func main() async throws {
        let file = CommandLine.arguments.dropFirst().first
        let text = try file.map { try String(contentsOfFile: $0, encoding: .utf8) } ?? generatedText(lines: 5040)
        let lines = text.split(whereSeparator: \.isNewline)
        let counts = try await withCluster { client in
            var total: [String: Int] = [:]
            // Few pieces are under way at a time, however long the text is, and they are added up as they come.
            let pieces = try client.loadBalancedView().lazyMap($countWords, Pieces(lines: lines, size: 200), ordered: false)
            for try await counts in pieces { total.merge(counts, uniquingKeysWith: +) }
            return total
        }
        for (word, count) in counts.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }).prefix(10) { print(count, word) }
        if file == nil {
            guard counts["the"] == 5040, counts["of"] == 2520, counts["message"] == 504, counts.count == 10 else {
                print("the counts are wrong")
                exit(1)
            }
        }
    }
}
