public import Pickle

/// The engine that runs the current function, and the names it keeps between calls.
///
/// A remote function finds its engine's context in ``current``:
///
/// ```swift
/// @Remote func addToTotal(_ x: Double) throws -> Double {
///     guard let engine = EngineContext.current else { return x }
///     let total = (try engine.namespace.get("total", as: Double.self) ?? 0) + x
///     try engine.namespace.set("total", to: total)
///     return total
/// }
/// ```
public struct EngineContext: Sendable {
    /// The engine that runs this task; `nil` where no engine does, as when a remote function is called here as any other.
    @TaskLocal public static var current: EngineContext?

    /// The engine's number in its cluster.
    public let engineID: Int
    /// The text by which the cluster names the engine. A restarted engine has a new one, unless its launcher keeps it.
    public let uuid: String
    /// The values that clients push to the engine and pull from it.
    public let namespace: any EngineNamespace
    /// The function's turn, which it gives up while it waits for other tasks; nil for functions that cannot wait.
    package var turn: (any EngineTurn)?
    /// How deep the task is nested in tasks that submitted each other; 0 for a task that a client outside the engines submitted.
    package var depth = 0
    /// The engine's access to its cluster, of a type that this module cannot name.
    package var engine: (any Sendable)?

    /// A context for code that calls remote functions itself, such as a test of one that uses names.
    public init(engineID: Int, uuid: String, namespace: any EngineNamespace) {
        self.engineID = engineID
        self.uuid = uuid
        self.namespace = namespace
    }
}

/// The right of an asynchronous function to run on its engine, which runs one function at a time.
package protocol EngineTurn: Sendable {
    /// Counts the function among those that wait, before it sends the tasks for which it will wait.
    ///
    /// - Throws: When too many of the engine's functions wait. An error before any task is sent ends a recursion that would go on
    ///   for ever; an error at the wait would leave the sent tasks running without the function.
    func expectWait() throws

    /// Begins a wait: the function gives up its turn, and the engine may run others. One function may have several waits under
    /// way.
    ///
    /// - Throws: When too many of the engine's functions wait.
    func beginWait() throws

    /// Ends a wait and returns when the function has its turn again; at once if it has other waits under way, or was cancelled.
    func endWait() async

    /// Notes that the function was thrown another task's error as itself. If the function ends with that error, the report of its
    /// own task says where the error came from.
    func met(_ error: TravellingError, of task: any RelayedError)
}

/// Named values that an engine keeps between calls.
///
/// Each call is atomic, and two of them are not: an engine that runs several functions at once may change a value between one
/// function's `get` and its `set`.
public protocol EngineNamespace: Sendable {
    /// The names that have a value, in alphabetical order.
    var names: [String] { get }

    /// The value of a name as it travels; `nil` if it has none.
    func pickled(_ name: String) -> PickleValue?

    /// Gives a name a value; nil removes the value.
    func setPickled(_ name: String, to value: PickleValue?)
}

extension EngineNamespace {
    /// The value of a name; `nil` if it has none.
    ///
    /// - Throws: `PickleError` if the value is of another type.
    public func get<Value: Decodable>(_ name: String, as type: Value.Type = Value.self) throws -> Value? {
        try self.pickled(name).map { try decodeValue(type, from: $0) }
    }

    /// Gives a name a value.
    ///
    /// - Throws: What encoding the value throws.
    public func set(_ name: String, to value: some Encodable) throws {
        self.setPickled(name, to: try encodeValue(value))
    }

    /// Takes a name's value away, if it has one.
    public func remove(_ name: String) { self.setPickled(name, to: nil) }
}
