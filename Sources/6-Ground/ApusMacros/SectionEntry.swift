import SwiftSyntax
import SwiftSyntaxBuilder
import SwiftSyntaxMacros

/// The type by whose conformance engines find a function, as `ApusFunctions.__RemoteEntry` describes it, with the function's
/// declaration. `function` is the expression that makes the function. The compiler shows its errors about the type with the line
/// in which the type begins; `hint` stands in that line.
///
/// No other code names the type, so a method that the compiler must keep (`@used`) names it: without the method an optimised
/// build drops the conformance.
func makeEntry(
    _ modifiers: String, _ typeName: TokenSyntax, hint: String? = nil, function: String, _ others: DeclSyntax...
) -> DeclSyntax {
    """
    \(raw: modifiers) enum \(typeName): ApusFunctions.__RemoteEntry {\(raw: hint.map { " // \($0)" } ?? "")
    nonisolated static var function: ApusFunctions.__FoundFunction { \(raw: function) }
    @used nonisolated static func kept() -> any ApusFunctions.__RemoteEntry.Type { Self.self }
    \(raw: others.map { "\($0)" }.joined(separator: "\n"))
    }
    """
}

/// A parameter as the declaration lists it.
struct RemoteParameter {
    let label: String?
    let name: String?
    let type: TypeSyntax
}

/// Where in the source something stands.
struct SourcePlace {
    let fileID: String
    let line: Int
    let column: Int
    /// The file's name as the compiler was given it; nil where there is no file.
    private let file: ExprSyntax?

    init(of node: some SyntaxProtocol, in context: some MacroExpansionContext) {
        let location = context.location(of: node, at: .afterLeadingTrivia, filePathMode: .fileID)
        self.file = context.location(of: node, at: .afterLeadingTrivia, filePathMode: .filePath)?.file
        // All three are literals; the text of the file has no escapes, because a module's name cannot have any.
        let segments = location?.file.as(StringLiteralExprSyntax.self)?.segments
        self.fileID = segments?.trimmedDescription ?? "unknown"
        self.line = location.flatMap { Int($0.line.trimmedDescription) } ?? 0
        self.column = location.flatMap { Int($0.column.trimmedDescription) } ?? 0
    }

    /// Whether the file is the one whose code runs from the top when the program starts, which no engine does.
    var isTopLevelCode: Bool { self.fileID.hasSuffix("/main.swift") }

    /// Makes the compiler, and with it the debugger, take a declaration for the source at this place.
    func around(_ declaration: DeclSyntax) -> [DeclSyntax] {
        guard self.file != nil else { return [declaration] }
        // The compiler puts a blank line between the declarations of an expansion.
        return [self.directive(line: max(self.line - 1, 1)), declaration, self.endOfDirective]
    }

    /// The directive for code whose first line stands in line `line` of the file.
    func directive(line: Int) -> DeclSyntax {
        self.file.map { "#sourceLocation(file: \($0), line: \(literal: line))" } ?? ""
    }

    var endOfDirective: DeclSyntax { self.file == nil ? "" : "#sourceLocation()" }

    /// 16 hexadecimal digits that depend on the place and the text, and on nothing of the machine or the process (FNV-1a).
    func hash(with text: String) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(self.fileID):\(self.line):\(self.column)\n\(text)".utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
        }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// The expression that makes a function's `RemoteDeclaration`.
func makeDeclaration(
    _ place: SourcePlace, path: String, signature: String, parameters: [RemoteParameter], closureID: String? = nil
) -> ExprSyntax {
    func literal(_ text: String?) -> String { text.map { "\(StringLiteralExprSyntax(content: $0))" } ?? "nil" }
    let list = parameters.map {
        ".init(label: \(literal($0.label)), name: \(literal($0.name)), type: \(literal($0.type.trimmedDescription)))"
    }
    let id: ExprSyntax = closureID.map { ", closureID: \(literal: $0)" } ?? ""
    return """
        ApusFunctions.RemoteDeclaration(
            fileID: \(literal: place.fileID), line: \(literal: place.line), column: \(literal: place.column),
            path: \(literal: path), signature: \(literal: signature),
            parameters: [\(raw: list.joined(separator: ", "))]\(id)
        )
        """
}

/// " async throws -> Double", as written; empty for neither.
func effectsAndResult(_ effects: (some EffectSpecifiersSyntax)?, _ result: ReturnClauseSyntax?) -> String {
    let parts = [effects?.trimmedDescription, result.map { "-> \($0.type.trimmedDescription)" }].compactMap { $0 }
    return parts.filter { !$0.isEmpty }.map { " \($0)" }.joined()
}
