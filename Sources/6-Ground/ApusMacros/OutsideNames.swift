import SwiftSyntax

/// The names that code uses and does not declare itself.
final class OutsideNames: SyntaxVisitor {
    private var references: [DeclReferenceExprSyntax] = []
    /// Names declared anywhere in the code; their scopes are left to the compiler.
    private var bound: Set<String> = []

    /// The uses of names that the code does not declare itself.
    var uses: [DeclReferenceExprSyntax] { self.references.filter { !self.bound.contains($0.baseName.text) } }

    /// The uses that can be variables: neither called functions, nor types, nor names of the language.
    var variables: [DeclReferenceExprSyntax] {
        self.uses.filter { use in
            guard case .identifier(let name) = use.baseName.tokenKind, let first = name.first, first.isLowercase || first == "_"
            else { return false }
            return use.parent?.as(FunctionCallExprSyntax.self)?.calledExpression.id != ExprSyntax(use).id
        }
    }

    init(of closure: ClosureExprSyntax) {
        super.init(viewMode: .sourceAccurate)
        for item in closure.signature?.capture?.items ?? [] { self.bound.insert(item.name.text) }
        self.bound.formUnion(closure.parameterNames.map(\.name))
        self.walk(closure.statements)
    }

    init(of function: FunctionDeclSyntax) {
        super.init(viewMode: .sourceAccurate)
        self.bound.formUnion(function.signature.parameterClause.parameters.map { ($0.secondName ?? $0.firstName).text })
        if let body = function.body { self.walk(body) }
    }

    override func visit(_ node: DeclReferenceExprSyntax) -> SyntaxVisitorContinueKind {
        let isMember = node.parent?.as(MemberAccessExprSyntax.self)?.declName.id == node.id
        if !isMember { self.references.append(node) }
        return .visitChildren
    }

    override func visit(_ node: IdentifierPatternSyntax) -> SyntaxVisitorContinueKind { self.bind(node.identifier) }
    override func visit(_ node: FunctionDeclSyntax) -> SyntaxVisitorContinueKind { self.bind(node.name) }
    override func visit(_ node: FunctionParameterSyntax) -> SyntaxVisitorContinueKind {
        self.bind(node.secondName ?? node.firstName)
    }
    override func visit(_ node: ClosureCaptureSyntax) -> SyntaxVisitorContinueKind { self.bind(node.name) }
    override func visit(_ node: ClosureShorthandParameterSyntax) -> SyntaxVisitorContinueKind { self.bind(node.name) }
    override func visit(_ node: ClosureParameterSyntax) -> SyntaxVisitorContinueKind {
        self.bind(node.secondName ?? node.firstName)
    }

    private func bind(_ name: TokenSyntax) -> SyntaxVisitorContinueKind {
        self.bound.insert(name.text)
        return .visitChildren
    }
}
