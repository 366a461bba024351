package import SwiftSyntax
import SwiftSyntaxBuilder
package import SwiftSyntaxMacros

/// `@Remote`: puts beside a function the `RemoteFunction` that stands for it and the type by which engines find it.
///
/// The function itself is left alone. `@Remote func square(_ x: Double) -> Double` adds
///
///     var $square: RemoteFunction<Double, Double> { … { square($0) } as @Sendable (Double) throws -> Double … }
///     enum <unique>: __RemoteEntry {
///         static var function: __FoundFunction { $square.__found }
///         static let declaration = …
///     }
package struct RemoteMacro: PeerMacro {
    package static var formatMode: FormatMode { .disabled }

    package static func expansion(
        of node: AttributeSyntax, providingPeersOf declaration: some DeclSyntaxProtocol,
        in context: some MacroExpansionContext
    ) throws -> [DeclSyntax] {
        guard let function = declaration.as(FunctionDeclSyntax.self) else {
            context.diagnose(node, .notAFunction)
            return []
        }
        guard self.canTravel(function, in: context) else { return [] }

        let name = function.name.text.trimmingBackticks
        let place = SourcePlace(of: function.funcKeyword, in: context)
        if place.isTopLevelCode {
            for use in OutsideNames(of: function).variables {
                context.diagnose(use, .isTopLevel(use.baseName.text, inClosure: false))
            }
        }
        let typeNames = context.lexicalContext.reversed().compactMap(\.typeName)
        let parameters = function.signature.parameterClause.parameters
        let remoteParameters = parameters.map {
            let label = $0.firstName.label
            return RemoteParameter(label: label, name: ($0.secondName ?? $0.firstName).label, type: $0.type.trimmed)
        }
        let declarationExpression = makeDeclaration(
            place, path: (typeNames + [name]).joined(separator: "."), signature: function.signatureText,
            parameters: remoteParameters)

        let isStatic = !context.lexicalContext.isEmpty
        let modifiers = (function.accessModifier.map { "\($0) " } ?? "") + "nonisolated " + (isStatic ? "static " : "")
        let result = function.signature.returnClause?.type.trimmed
        let givesNothing = result?.isVoid ?? true
        let resultText = givesNothing ? "Swift.Void" : result!.description
        let types = ([resultText] + remoteParameters.map(\.type.description)).joined(separator: ", ")
        // A function on a global actor is called from outside it, which takes an `await`.
        let isAwaited = function.isAsynchronous || function.isOnGlobalActor(in: context)
        let call = (function.canThrow ? "try " : "") + (isAwaited ? "await " : "") + function.callWithShorthands
        let functionType =
            "@Sendable (\(remoteParameters.map(\.type.description).joined(separator: ", ")))"
            + "\(isAwaited ? " async" : "") throws -> \(resultText)"

        let remoteName = "$\(name)"
        // The name contains the place, so that overloads conflict over one name only, the one that users write.
        let typeName = context.makeUniqueName("remote\(place.line)_\(place.column)")
        // On one line, which the compiler takes for the function's own: errors about a type that cannot travel, or about an
        // overload of the same name, show this line.
        let variable: DeclSyntax = """
            \(raw: modifiers)var \(raw: remoteName): ApusFunctions.RemoteFunction<\(raw: types)> { \
            /* \(raw: Self.hint) */ \
            ApusFunctions.RemoteFunction(__declared: \(typeName).declaration, \
            \(raw: givesNothing ? "procedure" : "body"): { \(raw: call) } as \(raw: functionType)) }
            """
        let owner = isStatic ? typeNames.joined(separator: ".") + "." : ""
        let found = makeEntry(
            "private nonisolated", typeName, function: "\(owner)\(remoteName).__found",
            "nonisolated static let declaration = \(declarationExpression)")
        return place.around(variable) + [found]
    }

    /// A comment in the line that the compiler shows with an error about a remote form.
    private static let hint =
        "engines find it by its name, which no overload can share; its parameters and result are Codable & Sendable"

    /// Whether a request can call the function; if not, says why.
    private static func canTravel(_ function: FunctionDeclSyntax, in context: some MacroExpansionContext) -> Bool {
        var problems: [(any SyntaxProtocol, RemoteProblem)] = []
        let name = function.name.text

        if case .binaryOperator = function.name.tokenKind { problems.append((function.name, .isOperator)) }
        if case .prefixOperator = function.name.tokenKind { problems.append((function.name, .isOperator)) }
        if case .postfixOperator = function.name.tokenKind { problems.append((function.name, .isOperator)) }

        if let innermost = context.lexicalContext.first {
            if innermost.asProtocol((any DeclGroupSyntax).self) == nil {
                problems.append((function.name, .isLocal(name)))
            } else if innermost.is(ProtocolDeclSyntax.self) {
                problems.append((function.name, .isRequirement(name)))
            } else if !function.modifiers.contains(where: { ["static", "class"].contains($0.name.text) }) {
                problems.append((function.name, .isInstanceMethod(name)))
            }
        }
        if let generics = function.genericParameterClause {
            problems.append((generics, .isGeneric(name)))
        } else if let clause = function.genericWhereClause {
            problems.append((clause, .isGeneric(name)))
        }
        if hasGenericContext(context) { problems.append((function.name, .inGenericContext("@Remote"))) }

        for parameter in function.signature.parameterClause.parameters {
            let parameterName = (parameter.secondName ?? parameter.firstName).text
            if parameter.ellipsis != nil { problems.append((parameter, .isVariadic(parameterName))) }
            if let obstacle = parameter.type.obstacle {
                problems.append((parameter.type, .parameterCannotTravel(parameterName, obstacle)))
            }
        }
        if let result = function.signature.returnClause?.type, !result.isVoid, let obstacle = result.obstacle {
            problems.append((result, .resultCannotTravel(obstacle)))
        }

        for (node, problem) in problems { context.diagnose(node, problem) }
        return problems.isEmpty
    }
}

extension FunctionDeclSyntax {
    /// The access level as written; nil for the default.
    fileprivate var accessModifier: String? {
        let levels = ["public", "package", "internal", "fileprivate", "private", "open"]
        let level = self.modifiers.first { levels.contains($0.name.text) && $0.detail == nil }?.name.text
        return level == "open" ? "public" : level
    }

    fileprivate var isAsynchronous: Bool { self.signature.effectSpecifiers?.asyncSpecifier != nil }

    /// Whether the source says that the function, or the type around it, belongs to a global actor. Only a name can tell: one
    /// that ends in "Actor", as `MainActor` does.
    fileprivate func isOnGlobalActor(in context: some MacroExpansionContext) -> Bool {
        if self.modifiers.contains(where: { $0.name.text == "nonisolated" }) { return false }
        if self.attributes.namesGlobalActor { return true }
        return context.lexicalContext.first?.asProtocol((any DeclGroupSyntax).self)?.attributes.namesGlobalActor ?? false
    }

    fileprivate var canThrow: Bool { self.signature.effectSpecifiers?.throwsClause != nil }

    /// "move(from: $0, to: $1)".
    fileprivate var callWithShorthands: String {
        let arguments = self.signature.parameterClause.parameters.enumerated().map { position, parameter in
            parameter.firstName.tokenKind == .wildcard ? "$\(position)" : "\(parameter.firstName.asLabel): $\(position)"
        }
        return "\(self.name.text)(\(arguments.joined(separator: ", ")))"
    }

    /// "move(from start: Double, to end: Double) async throws -> Double": the declaration without defaults and line breaks.
    fileprivate var signatureText: String {
        let parameters = self.signature.parameterClause.parameters.map { parameter in
            let names = [parameter.firstName.text] + (parameter.secondName.map { [$0.text] } ?? [])
            return "\(names.joined(separator: " ")): \(parameter.type.trimmedDescription)"
        }
        return "\(self.name.text)(\(parameters.joined(separator: ", ")))"
            + effectsAndResult(self.signature.effectSpecifiers, self.signature.returnClause)
    }
}

extension AttributeListSyntax {
    fileprivate var namesGlobalActor: Bool {
        self.contains { $0.as(AttributeSyntax.self)?.attributeName.trimmedDescription.hasSuffix("Actor") ?? false }
    }
}

extension String {
    var trimmingBackticks: String { self.hasPrefix("`") && self.hasSuffix("`") ? String(self.dropFirst().dropLast()) : self }
}

extension TokenSyntax {
    /// How a label is written in a call: there, unlike in its declaration, few keywords need backticks.
    fileprivate var asLabel: String {
        let plain = self.text.trimmingBackticks
        let isWord = plain.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" }
        return isWord && !["inout", "let", "var"].contains(plain) ? plain : self.text
    }

    /// A parameter's label or name without backticks; nil for `_`.
    var label: String? { self.tokenKind == .wildcard ? nil : self.text.trimmingBackticks }
}
