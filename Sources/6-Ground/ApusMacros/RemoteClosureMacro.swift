import SwiftDiagnostics
package import SwiftSyntax
import SwiftSyntaxBuilder
package import SwiftSyntaxMacros

/// `#remote`: moves a closure's code to where engines find it, and puts the captured values in its place.
///
/// `#remote { [k = k as Int] (x: Double) in x * Double(k) }` becomes
///
///     {
///         enum <unique>: __RemoteEntry {
///             static var function: __FoundFunction { __FoundFunction(declaration, make: make) }
///             static let make = { (k: Int) in { (x: Double) in x * Double(k) } }
///         }
///         return RemoteFunction(__closure: …, make: <unique>.make, capturing: k as Int)
///     }()
///
/// In a static property of a local type, the code cannot see the values around it, so the compiler itself refuses any that the
/// capture list forgot. The type of the closure's result is inferred there as it would be in place.
package struct RemoteClosureMacro: ExpressionMacro {
    package static var formatMode: FormatMode { .disabled }

    package static func expansion(
        of node: some FreestandingMacroExpansionSyntax, in context: some MacroExpansionContext
    ) throws -> ExprSyntax {
        let failure = RefusedClosureMacro.expansion
        guard let closure = (node.trailingClosure ?? node.arguments.first?.expression.as(ClosureExprSyntax.self)) else {
            context.diagnose(node, .notAClosure)
            return failure
        }
        var checker = ClosureChecker(context: context)
        let captures = checker.captures(of: closure)
        let parameters = checker.parameters(of: closure)
        checker.checkBody(of: closure)
        checker.checkContext(of: node)
        checker.checkForgotten(by: closure)
        guard !checker.foundProblem else { return failure }

        let place = SourcePlace(of: node, in: context)
        let declaration = makeDeclaration(
            place, path: "closure", signature: closure.signatureText, parameters: parameters,
            closureID: place.hash(with: node.trimmedDescription))
        let typeName = context.makeUniqueName("closure")
        let captureParameters = captures.map { "\($0.name.text): \($0.type.trimmedDescription)" }.joined(separator: ", ")
        let capturing = captures.enumerated()
            .map { index, capture in index == 0 ? "capturing: \(capture.expression)" : "\(capture.expression)" }

        let arguments = ["__closure: \(typeName).declaration", "make: \(typeName).make"] + capturing
        let entry = makeEntry(
            "nonisolated", typeName,
            hint: "runs in another process: name what it uses from around it in the capture list, as '[x = x as <its type>]'",
            function: "ApusFunctions.__FoundFunction(declaration, make: make)",
            "nonisolated static let declaration = \(declaration)",
            """
            nonisolated static let make = { @Sendable (\(raw: captureParameters)) in
            \(place.directive(line: closure.firstLineOfHoisted(in: context)))
            return \(closure.hoisted)
            \(place.endOfDirective)
            }
            """)
        return """
            {
            \(entry)
            \(place.directive(line: place.line))
            return ApusFunctions.RemoteFunction(\(raw: arguments.joined(separator: ", ")))
            \(place.endOfDirective)
            }()
            """
    }
}

/// `#remote` of a closure that the compiler refuses by the macro's own types: nothing to expand.
package struct RefusedClosureMacro: ExpressionMacro {
    /// An expression of any type, so that the compiler adds no error to the reported one.
    static let expansion: ExprSyntax = #"{ Swift.fatalError("this remote closure was not compiled") }()"#

    package static func expansion(
        of node: some FreestandingMacroExpansionSyntax, in context: some MacroExpansionContext
    ) throws -> ExprSyntax { self.expansion }
}

/// A value of a capture list, `name = expression as type`.
struct Capture {
    let name: TokenSyntax
    /// The whole of `expression as type`, so that the compiler checks it where the closure stands.
    let expression: ExprSyntax
    let type: TypeSyntax
}

/// Reads a closure's parts, and reports those that keep it from travelling.
struct ClosureChecker<Context: MacroExpansionContext> {
    let context: Context
    private(set) var foundProblem = false

    init(context: Context) { self.context = context }

    private mutating func report(_ node: some SyntaxProtocol, _ problem: RemoteProblem, fixIts: [FixIt] = []) {
        self.foundProblem = true
        self.context.diagnose(node, problem, fixIts: fixIts)
    }

    mutating func captures(of closure: ClosureExprSyntax) -> [Capture] {
        var captures: [Capture] = []
        for item in closure.signature?.capture?.items ?? [] {
            let name = item.name.trimmed
            if item.specifier != nil {
                self.report(item, .captureIsReference(name.text))
            } else if name.tokenKind == .keyword(.self) {
                self.report(item, .capturesSelf)
            } else if let initializer = item.initializer?.value, let (expression, type) = initializer.withType {
                captures.append(Capture(name: name, expression: expression, type: type))
                if let obstacle = type.obstacle { self.report(type, .captureCannotTravel(name.text, obstacle)) }
            } else {
                let value = item.initializer?.value.trimmedDescription ?? name.text
                let typed: ClosureCaptureSyntax = ClosureCaptureSyntax(
                    leadingTrivia: item.leadingTrivia, name: name,
                    initializer: InitializerClauseSyntax(value: "\(raw: value) as <#Type#>" as ExprSyntax),
                    trailingComma: item.trailingComma, trailingTrivia: item.trailingComma == nil ? item.trailingTrivia : [])
                self.report(
                    item, .captureHasNoType(name.text, value),
                    fixIts: [.replace(message: RemoteFix("write the type of '\(name.text)'"), oldNode: item, newNode: typed)])
            }
        }
        return captures
    }

    mutating func parameters(of closure: ClosureExprSyntax) -> [RemoteParameter] {
        switch closure.signature?.parameterClause {
        case nil: return []
        case .simpleInput(let names):
            for name in names { self.report(name, .parameterHasNoType(name.name.text)) }
            return []
        case .parameterClause(let clause):
            var parameters: [RemoteParameter] = []
            for parameter in clause.parameters {
                let name = parameter.secondName ?? parameter.firstName
                if parameter.ellipsis != nil { self.report(parameter, .isVariadic(name.text)) }
                guard let type = parameter.type else {
                    self.report(parameter, .parameterHasNoType(name.text))
                    continue
                }
                if let obstacle = type.obstacle { self.report(type, .parameterCannotTravel(name.text, obstacle)) }
                parameters.append(RemoteParameter(label: nil, name: name.label, type: type.trimmed))
            }
            return parameters
        }
    }

    /// Reports names that mean something else, or nothing, in the place the code is moved to.
    mutating func checkBody(of closure: ClosureExprSyntax) {
        let finder = OutsideReferences(of: closure)
        for node in finder.selves { self.report(node, .usesSelf) }
        for node in finder.remotes { self.report(node, .isNested) }
        for node in finder.selfTypes { self.report(node, .usesSelfType) }
        if closure.signature?.parameterClause == nil {
            for node in finder.shorthands { self.report(node, .parameterHasNoType(node.trimmedDescription)) }
        }
    }

    /// Reports parameters of the functions and closures around that the closure uses without capturing them, and warns of
    /// variables of a main file. The compiler finds other uncaptured values; a macro sees no local variables.
    mutating func checkForgotten(by closure: ClosureExprSyntax) {
        let around = self.context.lexicalContext.parametersAround
        let names = OutsideNames(of: closure)
        for use in names.uses {
            let name = use.baseName.text
            guard let parameter = around.last(where: { $0.name == name }) else { continue }
            self.report(use, .isForgotten(name, parameter.type ?? "<its type>"))
        }
        guard !self.foundProblem, SourcePlace(of: closure, in: self.context).isTopLevelCode else { return }
        for use in names.variables { self.context.diagnose(use, .isTopLevel(use.baseName.text, inClosure: true)) }
    }

    mutating func checkContext(of node: some SyntaxProtocol) {
        if hasGenericContext(self.context) { self.report(node, .inGenericContext("#remote")) }
    }
}

/// The places where a closure's body names the object or type around it, or parameters it has not declared.
private final class OutsideReferences: SyntaxVisitor {
    var selves: [Syntax] = []
    var selfTypes: [Syntax] = []
    var shorthands: [Syntax] = []
    var remotes: [Syntax] = []
    private var closureDepth = 0

    init(of closure: ClosureExprSyntax) {
        super.init(viewMode: .sourceAccurate)
        self.walk(closure.statements)
    }

    override func visit(_ node: DeclReferenceExprSyntax) -> SyntaxVisitorContinueKind {
        // `Double.self` is a type's value and not an object.
        let isMember = node.parent?.as(MemberAccessExprSyntax.self)?.declName.id == node.id
        switch node.baseName.tokenKind {
        case .keyword(.self) where !isMember: self.selves.append(Syntax(node))
        case .keyword(.Self): self.selfTypes.append(Syntax(node))
        case .dollarIdentifier where self.closureDepth == 0: self.shorthands.append(Syntax(node))
        default: break
        }
        return .visitChildren
    }

    override func visit(_ node: IdentifierTypeSyntax) -> SyntaxVisitorContinueKind {
        if node.name.tokenKind == .keyword(.Self) { self.selfTypes.append(Syntax(node)) }
        return .visitChildren
    }

    override func visit(_ node: MacroExpansionExprSyntax) -> SyntaxVisitorContinueKind {
        // The compiler expands no macro within its own expansion.
        if node.macroName.text == "remote" { self.remotes.append(Syntax(node)) }
        return .visitChildren
    }

    override func visit(_ node: SuperExprSyntax) -> SyntaxVisitorContinueKind {
        self.selves.append(Syntax(node))
        return .skipChildren
    }

    override func visit(_ node: ClosureExprSyntax) -> SyntaxVisitorContinueKind {
        self.closureDepth += 1
        return .visitChildren
    }

    override func visitPost(_ node: ClosureExprSyntax) { self.closureDepth -= 1 }

    // A type declared in the body has a self of its own.
    override func visit(_ node: StructDeclSyntax) -> SyntaxVisitorContinueKind { .skipChildren }
    override func visit(_ node: EnumDeclSyntax) -> SyntaxVisitorContinueKind { .skipChildren }
    override func visit(_ node: ClassDeclSyntax) -> SyntaxVisitorContinueKind { .skipChildren }
    override func visit(_ node: ActorDeclSyntax) -> SyntaxVisitorContinueKind { .skipChildren }
}

/// A parameter of code around a macro.
struct OuterParameter {
    let name: String
    /// The type as written; nil for a closure's parameter whose type the compiler infers.
    let type: String?
}

extension [Syntax] {
    /// The parameters of the functions and closures around a place, the outermost first, as far as the innermost type's bounds.
    fileprivate var parametersAround: [OuterParameter] {
        let inner = self.prefix { $0.asProtocol((any DeclGroupSyntax).self) == nil }
        return inner.reversed().flatMap { place -> [OuterParameter] in
            if let closure = place.as(ClosureExprSyntax.self) { return closure.parameterNames }
            let clause =
                place.as(FunctionDeclSyntax.self)?.signature.parameterClause
                ?? place.as(InitializerDeclSyntax.self)?.signature.parameterClause
                ?? place.as(SubscriptDeclSyntax.self)?.parameterClause
            return (clause?.parameters ?? []).map {
                OuterParameter(name: ($0.secondName ?? $0.firstName).text, type: $0.type.trimmedDescription)
            }
        }
    }
}

extension ClosureExprSyntax {
    var parameterNames: [OuterParameter] {
        switch self.signature?.parameterClause {
        case nil: []
        case .simpleInput(let names): names.map { OuterParameter(name: $0.name.text, type: nil) }
        case .parameterClause(let clause):
            clause.parameters.map {
                OuterParameter(name: ($0.secondName ?? $0.firstName).text, type: $0.type?.trimmedDescription)
            }
        }
    }
}

extension ExprSyntax {
    /// `expression as type` and its type; nil if the expression does not end in a type.
    fileprivate var withType: (expression: ExprSyntax, type: TypeSyntax)? {
        if let cast = self.as(AsExprSyntax.self) {
            // `as?` gives an optional, whose type is not the one written.
            guard cast.questionOrExclamationMark?.tokenKind != .postfixQuestionMark else { return nil }
            return (self.trimmed, cast.type)
        }
        if let tuple = self.as(TupleExprSyntax.self), tuple.elements.count == 1, let only = tuple.elements.first,
            only.label == nil
        {
            return only.expression.withType
        }
        // An operator of the user's own keeps the compiler from folding the sequence; its end is still `as type`.
        if let parts = self.as(SequenceExprSyntax.self)?.elements, parts.count >= 3,
            let cast = parts.dropLast().last?.as(UnresolvedAsExprSyntax.self),
            cast.questionOrExclamationMark?.tokenKind != .postfixQuestionMark, let type = parts.last?.as(TypeExprSyntax.self)
        {
            return (self.trimmed, type.type)
        }
        return nil
    }
}

extension ClosureExprSyntax {
    /// The closure without its capture list, whose values are parameters around it now, and free to cross threads.
    fileprivate var hoisted: ClosureExprSyntax {
        var closure = self.trimmed
        var signature =
            closure.signature
            ?? ClosureSyntax.emptySignature
        signature.capture = nil
        if signature.parameterClause == nil { signature.parameterClause = .parameterClause(ClosureSyntax.noParameters) }
        if !signature.attributes.contains(where: { $0.trimmedDescription == "@Sendable" }) {
            signature.leadingTrivia = []
            signature.attributes.insert(
                .attribute(
                    AttributeSyntax(leadingTrivia: .space, attributeName: "Sendable" as TypeSyntax, trailingTrivia: .space)),
                at: signature.attributes.startIndex)
        }
        closure.signature = signature
        return closure
    }

    /// The line in which the hoisted closure must begin so that its body keeps the line numbers of the source.
    fileprivate func firstLineOfHoisted(in context: some MacroExpansionContext) -> Int {
        let hoisted = self.hoisted
        guard let first = self.statements.first, let hoistedFirst = hoisted.statements.first else {
            return SourcePlace(of: self, in: context).line
        }
        let before = hoisted.syntaxTextBytes.prefix(
            hoistedFirst.positionAfterSkippingLeadingTrivia.utf8Offset - hoisted.position.utf8Offset)
        return SourcePlace(of: first, in: context).line - before.count { $0 == UInt8(ascii: "\n") }
    }

    /// The signature in errors and in lists of functions: "(x: Double) async throws -> Double".
    fileprivate var signatureText: String {
        let parameters =
            switch self.signature?.parameterClause {
            case .parameterClause(let clause):
                clause.parameters.map { "\(($0.secondName ?? $0.firstName).text): \($0.type?.trimmedDescription ?? "_")" }
            default: [String]()
            }
        return "(\(parameters.joined(separator: ", ")))"
            + effectsAndResult(self.signature?.effectSpecifiers, self.signature?.returnClause)
    }
}

private enum ClosureSyntax {
    static var noParameters: ClosureParameterClauseSyntax {
        ClosureParameterClauseSyntax(parameters: [], trailingTrivia: .space)
    }
    static var emptySignature: ClosureSignatureSyntax {
        ClosureSignatureSyntax(inKeyword: .keyword(.in, trailingTrivia: .space))
    }
}
