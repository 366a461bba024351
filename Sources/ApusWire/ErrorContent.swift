/// The names of errors on the wire: Python's class names, so that users of either side read the error they know.
public struct ErrorName: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }
    private init(_ rawValue: String) { self.rawValue = rawValue }

    public var description: String { self.rawValue }

    /// The engine died before it answered.
    public static let engineError = ErrorName("EngineError")
    /// The task waited longer for what it depends on than it was allowed to.
    public static let taskTimeout = ErrorName("TaskTimeout")
    /// The task was aborted before it started.
    public static let taskAborted = ErrorName("TaskAborted")
    /// What the task depends on can never come.
    public static let impossibleDependency = ErrorName("ImpossibleDependency")
    /// The task depends on itself, or on a task that the scheduler was never given.
    public static let invalidDependency = ErrorName("InvalidDependency")
    /// The task needs an engine; none is registered, and it is not to wait for one, or no longer.
    public static let noEnginesRegistered = ErrorName("NoEnginesRegistered")
    /// A condition of the function does not hold on this engine; see ``RemoteFunction/depending(on:_:)``.
    public static let unmetDependency = ErrorName("UnmetDependency")
    /// There is no value of that name.
    public static let nameError = ErrorName("NameError")
    /// There is no entry for that key; from the hub: no such task.
    public static let keyError = ErrorName("KeyError")
    /// A place beyond the end; from the hub: a request that makes no sense.
    public static let indexError = ErrorName("IndexError")
    /// An argument of the wrong type, or one too many or too few.
    public static let typeError = ErrorName("TypeError")
    /// An argument whose value makes no sense.
    public static let valueError = ErrorName("ValueError")
    /// The code was interrupted: by a signal, an abort, or its run-time limit.
    public static let keyboardInterrupt = ErrorName("KeyboardInterrupt")
    /// The peer cannot do what was asked.
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
