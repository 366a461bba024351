import Foundation
import Testing

// The Swift of the articles in Sources/1-Programs/Apus/Apus.docc is in this folder, compiled and run, except code that needs a
// cluster of the user's own. Each article's blocks are in the file of its name, with the tests' expectations in between.

@Suite("Articles")
struct ArticlesTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let catalogue = Self.root.appending(path: "Sources/1-Programs/Apus/Apus.docc")

    private static let articles: [String] =
        (try? FileManager.default.contentsOfDirectory(atPath: Self.catalogue.path))?
        .filter { $0.hasSuffix(".md") }.map { String($0.dropLast(3)) }.sorted() ?? []

    @Test("Every block of Swift in an article is, line for line, in the test of its name", arguments: Self.articles)
    func blocks(_ article: String) throws {
        let text = try String(contentsOf: Self.catalogue.appending(path: article + ".md"), encoding: .utf8)
        let blocks = text.matches(of: /(?m)^```swift\n([\s\S]*?)^```$/).map { Self.lines($0.output.1) }
        let test = Self.root.appending(path: "Tests/ApusTests/Articles/\(article)Article.swift")
        let code = Self.lines(try String(contentsOf: test, encoding: .utf8)[...])
        for block in blocks {
            #expect(!block.isEmpty)
            #expect(code.firstRange(of: block) != nil, "\(article)Article.swift has not: \(block.joined(separator: "\n"))")
        }
        #expect(!blocks.isEmpty)
    }

    @Test("There are articles, and each is on the landing page")
    func landingPage() throws {
        let page = try String(contentsOf: Self.catalogue.appending(path: "Apus.md"), encoding: .utf8)
        #expect(Self.articles.count > 10)
        for article in Self.articles where article != "Apus" { #expect(page.contains("- <doc:\(article)>")) }
    }

    /// The lines without indentation, empty lines and imports, in which a page and its test differ.
    private static func lines(_ text: Substring) -> [String] {
        text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty && !$0.hasPrefix("import ") }
    }
}
