import SwiftSyntax
import SwiftSyntaxMacros

// Finds in the source text alone why a function cannot be called from another process. The compiler finds the other reasons, as
// types that are not `Codable & Sendable`.

/// Why values of a type cannot travel.
enum Obstacle {
    case function
    case anyType
    case someType
    case tuple
    case specifier(String)

    /// Completes "'x' cannot travel to an engine, because …".
    var reason: String {
        switch self {
        case .function: "a closure is code, not data; use '@Remote' or '#remote' for the code, and pass what it needs"
        case .anyType: "the engine cannot know what type is behind 'any'; name a type that is Codable and Sendable"
        case .someType: "a generic function has no one type; name a type that is Codable and Sendable"
        case .tuple: "a tuple is not Codable; use a struct that is Codable and Sendable"
        case .specifier("inout"): "the engine has a copy, whose changes nobody would see; return the new value instead"
        case .specifier(let word): "'\(word)' says what happens to the caller's value, and the engine has a copy; leave it out"
        }
    }
}

extension TypeSyntax {
    /// The reason in the type's spelling why its values cannot travel; nil if there is none.
    var obstacle: Obstacle? {
        if let attributed = self.as(AttributedTypeSyntax.self) {
            for specifier in attributed.specifiers {
                return .specifier(specifier.trimmedDescription)
            }
            return attributed.baseType.obstacle
        }
        if self.is(FunctionTypeSyntax.self) { return .function }
        if let optional = self.as(OptionalTypeSyntax.self) { return optional.wrappedType.obstacle }
        if let array = self.as(ArrayTypeSyntax.self) { return array.element.obstacle }
        if let dictionary = self.as(DictionaryTypeSyntax.self) { return dictionary.key.obstacle ?? dictionary.value.obstacle }
        if let some = self.as(SomeOrAnyTypeSyntax.self) {
            return some.someOrAnySpecifier.tokenKind == .keyword(.some) ? .someType : .anyType
        }
        if let tuple = self.as(TupleTypeSyntax.self) {
            if tuple.elements.count == 1, let only = tuple.elements.first { return only.type.obstacle }
            return .tuple
        }
        return nil
    }

    /// Whether the type is spelled as the one without a value.
    var isVoid: Bool {
        if let tuple = self.as(TupleTypeSyntax.self) {
            return tuple.elements.isEmpty || (tuple.elements.count == 1 && tuple.elements.first!.type.isVoid)
        }
        return ["Void", "Swift.Void"].contains(self.trimmedDescription)
    }
}

extension Syntax {
    /// The name of the type that this node declares or extends; nil for any other node.
    var typeName: String? {
        if let type = self.as(ExtensionDeclSyntax.self) { return type.extendedType.trimmedDescription }
        return self.asProtocol((any DeclGroupSyntax).self)?.asProtocol((any NamedDeclSyntax).self)?.name.text
    }
}

/// Whether a macro stands in generic code: a function has one entry, and generic code would need one per type argument.
func hasGenericContext(_ context: some MacroExpansionContext) -> Bool {
    context.lexicalContext.contains { place in
        if place.asProtocol((any WithGenericParametersSyntax).self)?.genericParameterClause != nil { return true }
        if let extended = place.as(ExtensionDeclSyntax.self) {
            return extended.genericWhereClause != nil || extended.extendedType.isGeneric
        }
        let parameters =
            place.as(FunctionDeclSyntax.self)?.signature.parameterClause.parameters
            ?? place.as(InitializerDeclSyntax.self)?.signature.parameterClause.parameters
        return parameters?.contains { $0.type.isOpaque } ?? false
    }
}

extension TypeSyntax {
    /// Whether the type is spelled with arguments.
    fileprivate var isGeneric: Bool {
        self.is(ArrayTypeSyntax.self) || self.is(DictionaryTypeSyntax.self) || self.is(OptionalTypeSyntax.self)
            || self.as(IdentifierTypeSyntax.self)?.genericArgumentClause != nil
            || self.as(MemberTypeSyntax.self)?.genericArgumentClause != nil
    }

    /// Whether a parameter of this type makes its function generic.
    fileprivate var isOpaque: Bool {
        if case .someType? = self.obstacle { return true }
        return self.as(AttributedTypeSyntax.self)?.baseType.isOpaque ?? false
    }
}
