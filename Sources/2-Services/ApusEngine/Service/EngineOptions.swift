package import ApusCore
package import ApusFunctions
package import ApusWire

/// What an engine is told besides where its controller is.
package struct EngineOptions: Sendable {
    /// The engine's name on the wire, new at every start unless its launcher says otherwise: letters, digits, underscores and dashes.
    package var uuid = EngineUUID(Session.newID())
    /// Whether the engine takes the place of any other of its uuid: its launcher gave it that uuid, and sees that one runs at a time.
    package var replaces = false
    /// The id to ask the hub for, as an MPI rank does; nil: whatever it gives.
    package var wantedID: EngineID?
    /// What it owns that tasks may ask for, and how much: `gpu`: 1.
    package var resources: [String: Double] = [:]
    package var session = EngineSession.Options()
    /// Where what functions print goes; nil leaves the streams as they are, as an engine inside another program must.
    package var capture: OutputCapture?
    /// Whether a client's signals may be raised in this process: it is the engine's own.
    package var ownsProcess = false
    /// Finds the functions that requests name.
    package var lookUp: @Sendable (String) throws(FunctionCallError) -> FunctionRecord = {
        (name) throws(FunctionCallError) in try FunctionRegistry.shared.lookup(name)
    }
    /// How many functions may wait at a time for tasks that they submitted.
    package var waitingLimit = 10_000
    /// How to run Python; nil: the engine runs Swift functions only.
    package var python: PythonOptions?
    /// The largest message that is taken, in bytes; nil for what the environment says, or half of the machine's memory.
    package var maximumMessageSize: Int?
    /// The functions that the hub is told of, by their whole names.
    package var functionNames = FunctionRegistry.shared.names
    /// What this program is; requests with closures name the build that they are of.
    package var build = BuildFingerprint.current

    /// Gives the work its turns, in a simulation: called with each, on the engine's event loop, and calls it there when it is to be
    /// done. Nil: the work is done on a thread of its own.
    package var pace: (@Sendable (_ turn: @escaping @Sendable () -> Void) -> Void)?

    package init() {}
}
