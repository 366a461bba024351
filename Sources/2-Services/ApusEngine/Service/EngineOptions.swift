package import ApusCore
package import ApusFunctions
package import ApusWire

/// The settings of an engine, other than its controller's addresses.
package struct EngineOptions: Sendable {
    /// The engine's name on the wire: letters, digits, underscores and dashes. A new one at every start, unless the launcher
    /// gives one.
    package var uuid = EngineUUID(Session.newID())
    /// Whether the engine replaces a registered engine of the same uuid. True where a launcher gave the uuid, because launchers
    /// run one process at a time under a uuid.
    package var replaces = false
    /// The id to ask the hub for, such as an MPI rank; nil: any id.
    package var wantedID: EngineID?
    /// What the engine owns that tasks may ask for, and how much: `gpu`: 1.
    package var resources: [String: Double] = [:]
    package var session = EngineSession.Options()
    /// Captures what functions print; nil leaves the process's streams alone, as an engine inside another program must.
    package var capture: OutputCapture?
    /// Whether the process is the engine's own, so that signals that clients send may be raised in it.
    package var ownsProcess = false
    /// Finds the functions that requests name.
    package var lookUp: @Sendable (String) throws(FunctionCallError) -> FunctionRecord = {
        (name) throws(FunctionCallError) in try FunctionRegistry.shared.lookup(name)
    }
    /// How many functions may wait at a time for tasks that they submitted.
    package var waitingLimit = 10_000
    /// How to run Python; nil: the engine runs Swift functions only.
    package var python: PythonOptions?
    /// The largest message that is taken, in bytes; nil: as the environment says, or half of the machine's memory.
    package var maximumMessageSize: Int?
    /// The functions that the hub is told of, by their whole names.
    package var functionNames = FunctionRegistry.shared.names
    /// The fingerprint of this program's build; a request with a closure names the build of its sender.
    package var build = BuildFingerprint.current

    /// Schedules the engine's work in a simulation: called with each turn, on the engine's event loop, and calls the turn there
    /// when its time has come. Nil: the work is done on a thread of its own.
    package var pace: (@Sendable (_ turn: @escaping @Sendable () -> Void) -> Void)?

    package init() {}
}
