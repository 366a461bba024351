/// The names of errors on the wire: Python's class names, so that users of either side read the error they know.
public struct ErrorName: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }
    private init(_ rawValue: String) { self.rawValue = rawValue }

    public var description: String { self.rawValue }

    public static let engineError = ErrorName("EngineError")
    public static let taskTimeout = ErrorName("TaskTimeout")
    public static let taskAborted = ErrorName("TaskAborted")
    public static let impossibleDependency = ErrorName("ImpossibleDependency")
    public static let invalidDependency = ErrorName("InvalidDependency")
    public static let unmetDependency = ErrorName("UnmetDependency")
    public static let nameError = ErrorName("NameError")
    public static let keyError = ErrorName("KeyError")
    public static let indexError = ErrorName("IndexError")
    public static let typeError = ErrorName("TypeError")
    public static let valueError = ErrorName("ValueError")
    public static let keyboardInterrupt = ErrorName("KeyboardInterrupt")
    public static let notImplementedError = ErrorName("NotImplementedError")
    /// Apus only: the engine has no function of that name, or is of another build.
    public static let functionNotFound = ErrorName("FunctionNotFound")
}

/// The content of a reply that says something failed (protocol article, "Error content").
package struct ErrorContent: Sendable, Hashable {
    package var name: String
    package var value: String
    package var traceback: [String]
    /// Which engine and how it was called; empty for errors that no user code raised.
    package var engineInfo: JSONObject

    package init(name: String, value: String, traceback: [String] = [], engineInfo: JSONObject = [:]) {
        self.name = name
        self.value = value
        self.traceback = traceback
        self.engineInfo = engineInfo
    }

    package init(_ name: ErrorName, _ value: String, engineInfo: JSONObject = [:]) {
        self.init(name: name.rawValue, value: value, traceback: ["\(name.rawValue): \(value)"], engineInfo: engineInfo)
    }

    /// Reads an error content; what is missing is left empty.
    package init(_ content: JSONValue) {
        self.name = content["ename"]?.string ?? "Error"
        self.value = content["evalue"]?.string ?? ""
        switch content["traceback"] {
        case .array(let lines): self.traceback = lines.compactMap { $0.string }
        case .string(let text): self.traceback = [text]
        default: self.traceback = []
        }
        self.engineInfo = content["engine_info"]?.object ?? [:]
    }

    package var json: JSONObject {
        [
            "status": "error", "ename": .string(self.name), "evalue": .string(self.value), "traceback": JSONValue(self.traceback),
            "engine_info": .object(self.engineInfo),
        ]
    }
}
