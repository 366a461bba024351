import SwiftDiagnostics
import SwiftSyntax
import SwiftSyntaxMacros

/// Why a macro cannot expand; each message ends in what to do.
enum RemoteProblem: DiagnosticMessage {
    case notAFunction
    case isOperator
    case isLocal(String)
    case isRequirement(String)
    case isInstanceMethod(String)
    case isGeneric(String)
    case inGenericContext(String)
    case isVariadic(String)
    case parameterCannotTravel(String, Obstacle)
    case resultCannotTravel(Obstacle)

    case notAClosure
    case captureHasNoType(String, String)
    case captureIsReference(String)
    case captureCannotTravel(String, Obstacle)
    case capturesSelf
    case isForgotten(String, String)
    /// A warning only, because the macro cannot know whether the name is one of this file's variables.
    case isTopLevel(String, inClosure: Bool)
    case parameterHasNoType(String)
    case isNested
    case usesSelf
    case usesSelfType

    var message: String {
        switch self {
        case .notAFunction:
            "'@Remote' makes a function callable on engines, and this is not a function"
        case .isOperator:
            "engines find functions by name, and an operator's is no identifier; put '@Remote' on a function that uses it"
        case .isLocal(let name):
            "'\(name)' is local, so engines cannot find it; move it out of the function, or write it as '#remote { … }'"
        case .isRequirement(let name):
            "'\(name)' is a protocol's requirement and has no code; put '@Remote' on a type's static method"
        case .isInstanceMethod(let name):
            "'\(name)' needs its object, which does not travel; make it static and pass it the values it uses"
        case .isGeneric(let name):
            "'\(name)' is generic, and an engine cannot know for which types; name the types"
        case .inGenericContext(let macro):
            "'\(macro)' cannot stand in generic code, because an engine cannot know for which types; move it out"
        case .isVariadic(let name):
            "'\(name)' takes any number of arguments, and a remote function takes a fixed number; make it an array"
        case .parameterCannotTravel(let name, let obstacle):
            "'\(name)' cannot travel to an engine, because \(obstacle.reason)"
        case .resultCannotTravel(let obstacle):
            "the result cannot travel back from an engine, because \(obstacle.reason)"
        case .notAClosure:
            "'#remote' takes a closure written in place; for a function that has a name, put '@Remote' on it and use '$name'"
        case .captureHasNoType(let name, let value):
            "the type of '\(name)' must be known here, because its value travels; write '\(name) = \(value) as <its type>'"
        case .captureIsReference(let name):
            "'\(name)' is captured by reference, and only values travel; capture a value, as '\(name) = … as <its type>'"
        case .captureCannotTravel(let name, let obstacle):
            "'\(name)' cannot travel to an engine, because \(obstacle.reason)"
        case .capturesSelf:
            "'self' does not travel; capture the values that the closure uses, as 'x = self.x as <its type>'"
        case .isForgotten(let name, let type):
            "'\(name)' is not known where the closure runs; write it in the capture list: '[\(name) = \(name) as \(type)]'"
        case .isTopLevel(let name, let inClosure):
            "engines run no code of main.swift, so '\(name)' has no value there if it is a variable of this file; "
                + (inClosure
                    ? "write '[\(name) = \(name) as <its type>]'" : "pass it as an argument, or declare it in another file")
        case .parameterHasNoType(let name):
            "'\(name)' needs a type, because engines decode its value; write '(x: <its type>) in'"
        case .isNested:
            "a remote closure cannot hold another, which the compiler would not expand; let a function make the inner one"
        case .usesSelf:
            "'self' does not travel; capture the values that the closure uses, as '[x = self.x as <its type>]'"
        case .usesSelfType:
            "'Self' means another type where the closure's code is kept; write the type's name"
        }
    }

    var diagnosticID: MessageID {
        MessageID(domain: "ApusMacros", id: "\(Mirror(reflecting: self).children.first?.label ?? "\(self)")")
    }

    var severity: DiagnosticSeverity {
        if case .isTopLevel = self { .warning } else { .error }
    }
}

/// The description of a fix-it.
struct RemoteFix: FixItMessage {
    let message: String
    var fixItID: MessageID { MessageID(domain: "ApusMacros", id: "fix") }

    init(_ message: String) { self.message = message }
}

extension MacroExpansionContext {
    func diagnose(_ node: some SyntaxProtocol, _ problem: RemoteProblem, fixIts: [FixIt] = []) {
        self.diagnose(Diagnostic(node: Syntax(node), message: problem, fixIts: fixIts))
    }
}
