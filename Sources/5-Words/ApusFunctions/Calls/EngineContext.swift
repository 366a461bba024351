public import Pickle

/// The engine that runs the current function, and the names it keeps between calls.
///
/// A remote function reaches it without a parameter:
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
    /// What names the engine for as long as it lives; a restarted one has another.
    public let uuid: String
    /// The values that clients push to the engine and pull from it.
    public let namespace: any EngineNamespace
    /// The function's turn, which it gives up while it waits for other tasks; nil for functions that cannot wait.
    package var turn: (any EngineTurn)?
    /// How many tasks this one was submitted within, one in the other; 0 for one that a client outside submitted.
    package var depth = 0
    /// What the engine lends to those who know what it is.
    package var engine: (any Sendable)?

    /// A context for code that calls remote functions itself, such as a test of one that uses names.
    public init(engineID: Int, uuid: String, namespace: any EngineNamespace) {
        self.engineID = engineID
        self.uuid = uuid
        self.namespace = namespace
    }
}

/// The turn of an asynchronous function at its engine, which runs one at a time.
package protocol EngineTurn: Sendable {
    /// The function is about to send tasks, for which it will wait: it counts among those that wait from now on.
    ///
    /// - Throws: When too many of the engine's functions wait. Said before anything is sent, it ends a recursion that would go on for
    ///   ever; said at the wait, what was sent goes on without the function.
    func expectWait() throws

    /// The function waits, and the engine may run others. Several waits of one function may be under way.
    ///
    /// - Throws: When too many of the engine's functions wait.
    func beginWait() throws

    /// A wait is over. Returns when the function has its turn again: at once if it waits for more, or was cancelled.
    func endWait() async

    /// The function is thrown another task's error as itself. Should the function end with it, its own task's report says where the
    /// error came from.
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

    /// Gives a name a value, or takes it away.
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
