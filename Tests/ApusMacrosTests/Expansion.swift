import ApusMacros
import SwiftDiagnostics
import SwiftParser
import SwiftSyntax
import SwiftSyntaxMacroExpansion
import SwiftSyntaxMacros
import Testing

/// The expansion of a source file, and the macros' diagnostics.
struct Expansion: CustomTestStringConvertible {
    let syntax: Syntax
    /// "line:column: sentence", in the order of the source.
    let problems: [String]

    init(_ source: String, in name: String = "Sums.swift") {
        let file = Parser.parse(source: source)
        let context = BasicMacroExpansionContext(
            sourceFiles: [file: .init(moduleName: "Program", fullFilePath: "/Program/\(name)")])
        self.syntax = file.expand(macros: ["Remote": RemoteMacro.self, "remote": RemoteClosureMacro.self]) { node in
            BasicMacroExpansionContext(sharingWith: context, lexicalContext: node.allMacroLexicalContexts())
        }
        self.problems = context.diagnostics.map { diagnostic in
            let place = context.location(for: diagnostic.position, anchoredAt: diagnostic.node, fileName: name)
            return "\(place.line):\(place.column): \(diagnostic.message)"
        }
    }

    /// Whether the expansion is this source, whatever the white space.
    static func == (expansion: Expansion, source: String) -> Bool {
        expansion.text == Self.dense(source)
    }

    /// Whether the expansion has this source in it, whatever the white space.
    func contains(_ source: String) -> Bool { self.text.contains(Self.dense(source)) }

    var testDescription: String { self.syntax.description }

    /// The expansion without white space.
    var text: String { Self.dense(self.syntax.description) }

    private static func dense(_ text: String) -> String { text.filter { !$0.isWhitespace } }
}
