import ApusWire
import NIOCore

/// Finds the missing module in the reply of an engine that does not meet a task's dependencies.
///
/// `@require` and `@depend` both end as `UnmetDependency` on the wire. The error's text tells a missing module from a condition:
/// ipyparallel's helper `_require` raises the error with the module's name alone; our engines without Python, and the helper of
/// our client, say "no Python module 'm'" and "No module named 'm'". A user's own condition has no such text, and may be met
/// later.
enum MissingModule {
    /// The module's name; nil when the engine refused for another reason.
    static func name(in reply: Message) -> String? {
        guard let content = try? JSONValue(parsing: reply.content) else { return nil }
        let error = ErrorContent(content)
        guard error.name == ErrorName.unmetDependency.rawValue else { return nil }
        for words in ["no Python module '", "No module named '"] {
            guard let start = error.value.firstRange(of: words)?.upperBound else { continue }
            let name = error.value[start...].prefix { $0 != "'" }
            if self.isName(name) { return String(name) }
        }
        guard self.isName(error.value[...]), error.traceback.contains(where: { $0.contains("_require") }) else { return nil }
        return error.value
    }

    /// Whether the text is `numpy`, `a.b`, or `numpy as np`, which ipyparallel's helper also accepts.
    private static func isName(_ text: Substring) -> Bool {
        guard let first = text.unicodeScalars.first, first.properties.isXIDStart || first == "_" else { return false }
        return text.unicodeScalars.allSatisfy { $0.properties.isXIDContinue || $0 == "." || $0 == " " } && text.count <= 200
    }
}
