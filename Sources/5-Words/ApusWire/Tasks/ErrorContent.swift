/// The names of errors on the wire: Python's class names, so that users of either side read the error they know.
public struct ErrorName: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }
    private init(_ rawValue: String) { self.rawValue = rawValue }

    public var description: String { self.rawValue }

    /// The engine died before it answered.
    public static let engineError = ErrorName("EngineError")
    /// The task's time-out passed while it waited for its dependencies.
    public static let taskTimeout = ErrorName("TaskTimeout")
    /// The task was aborted before it started.
    public static let taskAborted = ErrorName("TaskAborted")
    /// The task's dependency can never be met.
    public static let impossibleDependency = ErrorName("ImpossibleDependency")
    /// The task depends on itself, or on a task that the scheduler was never given.
    public static let invalidDependency = ErrorName("InvalidDependency")
    /// The task needs an engine; none is registered, and it is not to wait for one, or no longer.
    public static let noEnginesRegistered = ErrorName("NoEnginesRegistered")
    /// A condition of the function does not hold on this engine; see ``RemoteFunction/depending(on:_:)``.
    public static let unmetDependency = ErrorName("UnmetDependency")
    /// The hub cannot read its records.
    public static let databaseError = ErrorName("DatabaseError")
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
    /// The code was interrupted: by a signal, an abort or, in Python, its run limit.
    public static let keyboardInterrupt = ErrorName("KeyboardInterrupt")
    /// Apus only: a Swift function ran longer than its run limit.
    public static let runLimitExceeded = ErrorName("RunLimitExceeded")
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
    /// Members beyond ipyparallel's, whose names begin with `apus_`; Python's clients pass over them.
    package var extras: JSONObject

    package init(
        name: String, value: String, traceback: [String] = [], engineInfo: JSONObject = [:], extras: JSONObject = [:]
    ) {
        self.name = name
        self.value = value
        self.traceback = traceback
        self.engineInfo = engineInfo
        self.extras = extras
    }

    package init(_ name: ErrorName, _ value: String, engineInfo: JSONObject = [:]) {
        self.init(name: name.rawValue, value: value, traceback: ["\(name.rawValue): \(value)"], engineInfo: engineInfo)
    }

    /// Reads an error content; missing members are left empty.
    package init(_ content: JSONValue) {
        self.name = content["ename"]?.string ?? "Error"
        self.value = content["evalue"]?.string ?? ""
        switch content["traceback"] {
        case .array(let lines): self.traceback = lines.compactMap { $0.string }
        case .string(let text): self.traceback = [text]
        default: self.traceback = []
        }
        self.engineInfo = content[MetadataMember.engineInfo]?.object ?? [:]
        self.extras = (content.object ?? [:]).filter { $0.key.hasPrefix("apus_") }
    }

    package var json: JSONObject {
        let members: JSONObject = [
            "status": "error", "ename": .string(self.name), "evalue": .string(self.value), "traceback": JSONValue(self.traceback),
            MetadataMember.engineInfo.description: .object(self.engineInfo),
        ]
        return members.merging(self.extras) { known, _ in known }
    }
}

// The members that Apus's engines add for a Swift error.
extension ErrorContent {
    /// A `Codable` error itself: the mangled name of its type, and its pickle in base 64.
    package var typedError: (type: String, value: String)? {
        get {
            guard let type = self.extras[ApusMember.error]?["type"]?.string,
                let value = self.extras[ApusMember.error]?["value"]?.string
            else { return nil }
            return (type, value)
        }
        set { self.extras[ApusMember.error] = newValue.map { ["type": .string($0.type), "value": .string($0.value)] } }
    }

    /// Texts of a localized error besides its description: `reason`, `suggestion`, `help`.
    package var localizedTexts: [String: String] {
        get { (self.extras[ApusMember.texts]?.object ?? [:]).compactMapValues { $0.string } }
        set { self.extras[ApusMember.texts] = newValue.isEmpty ? nil : .object(newValue.mapValues { .string($0) }) }
    }
}
