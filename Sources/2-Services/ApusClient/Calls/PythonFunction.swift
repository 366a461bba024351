import ApusFunctions
import Pickle

/// A function that Python engines know or can make: by its name, or as source text.
///
/// ```swift
/// let root: Double = try await client[0].apply("math.sqrt", 2.0)
/// let doubled: [Int] = try await view.map(.source("lambda x: 2 * x"), 0..<10)
/// ```
public struct PythonFunction: Sendable, Hashable, ExpressibleByStringLiteral {
    private enum Form: Hashable {
        case imported(module: String, name: String)
        case expression(String)
        /// A function with a condition, as a request carries it.
        case dependent(PickleValue)
    }

    private let form: Form

    /// A function by its full name: the engine imports the module. Without a dot the name is looked up in the engine's namespace,
    /// where `execute` puts what it defines.
    public init(_ name: String) {
        if let dot = name.lastIndex(of: "."), dot > name.startIndex {
            self.form = .imported(module: String(name[..<dot]), name: String(name[name.index(after: dot)...]))
        } else {
            self.form = .expression(name)
        }
    }

    public init(stringLiteral value: String) { self.init(value) }

    private init(form: Form) { self.form = form }

    /// A function by a name that engines know without an import.
    ///
    /// The name is of an object in the engine's namespace, or of a Swift function that the engine's program has and this one has
    /// not, whole ("Statistics.mean") or shorter.
    public static func named(_ name: String) -> PythonFunction { PythonFunction(form: .expression(name)) }

    /// A function as a Python expression, such as `lambda x: x + 1`, evaluated in the engine's namespace.
    public static func source(_ expression: String) -> PythonFunction {
        PythonFunction(form: .expression("(" + expression + ")"))
    }

    func dependent(on condition: PickleValue, arguments: [PickleValue], keywords: [(String, PickleValue)]) -> PythonFunction {
        PythonFunction(
            form: .dependent(
                DependentCall(function: self.pickled, condition: condition, arguments: arguments, keywords: keywords).pickled))
    }

    /// Whether only Python can know the function; a plain name may be that of a Swift function.
    var isPython: Bool {
        switch self.form {
        case .imported: true
        case .expression(let text): text.hasPrefix("(")
        case .dependent: false
        }
    }

    var pickled: PickleValue {
        switch self.form {
        case .imported(let module, let name): .global(module: module, name: name)
        case .expression(let text): .reference(text)
        case .dependent(let pickled): pickled
        }
    }
}
