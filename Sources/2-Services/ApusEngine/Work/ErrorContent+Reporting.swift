import ApusCore
import ApusFunctions
import ApusWire
import Foundation
import NIOCore
import Pickle

extension ErrorContent {
    /// The content of a reply for an error that a function threw, or that prevented its call.
    ///
    /// - Parameters:
    ///   - method: `apply` or `execute`.
    ///   - function: The function that was called, if it was found.
    init(_ error: any Error, method: String, function: FunctionRecord?, arguments: [PickleValue], by messages: EngineMessages) {
        let relayed = error as? any RelayedError
        let name = relayed?.name ?? Self.name(of: error)
        let value = relayed?.value ?? Self.text(of: error)
        let texts = relayed?.texts ?? ErrorTexts(error)
        var lines: [String] = []
        if let function {
            lines.append("\(name) in \(function.declaration.signature)")
            lines.append("  \(function.qualifiedName), \(function.declaration.sourceLocation), on engine \(messages.engineID)")
            if !arguments.isEmpty {
                lines.append(
                    "  called with \(arguments.prefix(8).map { $0.brief }.joined(separator: ", "))\(arguments.count > 8 ? ", …" : "")"
                )
            }
        } else {
            lines.append("\(name) on engine \(messages.engineID)")
        }
        if let relayed {
            // The last lines are nearest to the error, and tell most.
            lines.append("  which waited for a task that failed:")
            if relayed.traceback.count > Self.relayedLines { lines.append("  …") }
            lines += relayed.traceback.suffix(Self.relayedLines)
        } else {
            lines.append("\(name): \(value)")
            // Beside the localized text, which is for users, the description that programmers read.
            let described = String(describing: error)
            if described != value { lines.append("  \(described)") }
            if let reason = texts.failureReason { lines.append("  because: \(reason)") }
            if let suggestion = texts.recoverySuggestion { lines.append("  suggestion: \(suggestion)") }
        }
        self.init(
            name: name, value: value, traceback: lines,
            engineInfo: [
                MetadataMember.engineUUID.description: .string(messages.uuid.text),
                MetadataMember.engineID.description: .int(messages.engineID.number),
                "method": .string(method),
            ])
        self.typedError = (relayed.map { $0.travelling } ?? TravellingError(error)).map { ($0.type, $0.value) }
        self.localizedTexts = [
            "reason": texts.failureReason, "suggestion": texts.recoverySuggestion, "help": texts.helpAnchor,
        ].compactMapValues { $0 }
    }

    /// The error's text: the localized description of an error that has one, else the error as text.
    private static func text(of error: any Error) -> String {
        if let text = (error as? any LocalizedError)?.errorDescription { return text }
        // The plain text of Foundation's own errors says nothing.
        return error is any CustomNSError ? error.localizedDescription : String(describing: error)
    }

    /// How many lines are kept of the traceback of another task's error that a function passed on.
    private static let relayedLines = 40

    private static func name(of error: any Error) -> String {
        switch error {
        case let error as any PythonNamedError: error.pythonName
        // Another name than that of a misspelt variable: the engine may be another build, without the function.
        case let error as FunctionCallError where error.code == .notFound: ErrorName.functionNotFound.rawValue
        case let error as FunctionCallError: error.pythonName
        case is PickleError: ErrorName.typeError.rawValue
        default: String(describing: type(of: error))
        }
    }
}

extension ErrorTexts {
    fileprivate init(_ error: any Error) {
        let error = error as? any LocalizedError
        self.init(
            failureReason: error?.failureReason, recoverySuggestion: error?.recoverySuggestion, helpAnchor: error?.helpAnchor)
    }
}

extension PickleValue {
    /// The value in a few words, however large it is.
    fileprivate var brief: String {
        switch self {
        case .none: "None"
        case .bool(let value): value ? "True" : "False"
        case .int(let value): String(value)
        case .float(let value): String(value)
        case .string(let text): "'\(text.prefix(40))\(text.utf8.count > 160 || text.count > 40 ? "…" : "")'"
        case .bytes(let bytes), .byteArray(let bytes): "\(bytes.readableBytes) bytes"
        case .list(let elements): "a list of \(elements.count)"
        case .tuple(let elements): "a tuple of \(elements.count)"
        case .dictionary(let entries): "a dictionary of \(entries.count)"
        case .set(let elements), .frozenSet(let elements): "a set of \(elements.count)"
        case .array(let array): "an array of shape \(array.shape)"
        case .global(let global): global.description
        case .object(let object): "a \(object.global?.name ?? "object")"
        default: "a value"
        }
    }
}
