import ApusWire

/// The settings of a controller. Most defaults are ipyparallel's.
public struct ControllerOptions: Sendable, Codable {
    /// The address that clients connect to; `*` for every interface of the machine. An IPv6 address may stand in brackets, which
    /// are removed: `[::1]` becomes `::1`.
    public var clientAddress = "127.0.0.1" {
        didSet { self.clientAddress = HostAddress.withoutBrackets(self.clientAddress) }
    }
    /// The address that engines connect to, in the same form as ``clientAddress``.
    public var engineAddress = "127.0.0.1" {
        didSet { self.engineAddress = HostAddress.withoutBrackets(self.engineAddress) }
    }
    /// The host name to write into the connection files; by default this machine's.
    public var location = HostAddress.hostName
    /// The SSH tunnel that clients are told to use; empty for none.
    public var clientSSH = ""
    /// The SSH tunnel that engines are told to use; empty for none.
    public var engineSSH = ""
    /// Ports to use on either side, in order; when they are used up, free ones are taken.
    public var ports: [Int] = []
    /// Ports to use for engines before those of ``ports``.
    public var enginePorts: [Int] = []
    /// Ports to use for clients before those of ``ports``.
    public var clientPorts: [Int] = []
    /// Milliseconds between heartbeats.
    public var heartbeatPeriod = 3000
    /// How many heartbeats in a row an engine may miss.
    public var maximumMisses = 10
    /// How tasks are placed: `leastload`, `lru`, `plainrandom`, `twobin`, `weighted`, `pure` or `none`.
    public var scheme = "leastload"
    /// How many unfinished tasks one engine may hold; 0 for any number. Nil adapts: short tasks queue at an engine, long ones do
    /// not.
    public var highWaterMark: Int?
    /// How long a load-balanced task waits while no engine is registered, before it ends with an error that says so; nil: for
    /// ever. A task may have a time of its own.
    public var engineTimeout: Duration?
    /// How soon an engine that has refused a task for a condition (`@depend`) is offered the task again, when nothing is known to
    /// have changed at the engine; nil: only after a change.
    public var dependencyInterval: Duration? = .seconds(10)
    /// Seconds that an engine may take from its registration to its first sign of life; nil: thirty, or ten heartbeats.
    public var registrationTimeout: Int?
    /// The depth of the broadcast tree, which has 2 to this power leaves.
    public var broadcastDepth = 1
    /// The key that signs messages; nil: a random one; empty: nothing is signed.
    public var key: String?
    /// How messages are signed: `hmac-` and the name of a hash, such as `hmac-sha256`.
    public var signatureScheme = "hmac-sha256"
    /// The session id of the controller's own messages; nil for a random one.
    public var sessionID: String?
    /// The user name in the controller's messages; nil for the user whose process it is.
    public var username: String?
    /// The largest message that is taken, in bytes; nil for half of the machine's memory. From a peer that has not shown yet that
    /// it has the key, at most 16 MiB are taken.
    public var maximumMessageSize: Int?
    /// How many bytes may wait for a client that does not read before its connection is cut; nil for a quarter of the machine's memory.
    /// Results that such a client has missed are in the records of its tasks.
    public var maximumUnread: Int?
    /// The Python interpreter that runs dask's scheduler when a client asks for one, a path or a name; nil: the active environment's, else
    /// `python3` on the path.
    public var python: String?
    /// Where the records of tasks are kept.
    public var database = Database.memory()

    /// Creates the default options.
    public init() {}

    /// Every value that ``scheme`` may have.
    public static let schemes = ["leastload", "lru", "plainrandom", "twobin", "weighted", "pure", "none"]

    /// Where a controller keeps the records of tasks, by which results can be looked up and tasks run again.
    public enum Database: Sendable, Hashable, Codable {
        /// In memory, for the last finished tasks: at most this many records, and this many bytes of messages. When there are
        /// more bytes, large buffers of requests are dropped first, and then whole records.
        case memory(records: Int = 1024, bytes: Int = 256 << 20)
        /// In a SQLite file, which outlives the controller; nil for `tasks.db` in the profile's folder, or `tasks-ID.db` for a cluster
        /// with an id. At most this many records of tasks that have ended, and this many bytes in all; beyond, those that ended
        /// first are deleted.
        ///
        /// What is recorded outlives the process at once. A power cut can take the last moments with it, those that the system had
        /// not written to the disk yet (half a minute at most on Linux); with `waitsForDisk` nothing that was acknowledged, at the
        /// cost of a wait for the disk (`fsync`) for each batch of tasks.
        case sqlite(path: String?, waitsForDisk: Bool = false, records: Int = 1_000_000, bytes: Int = 2 << 30)
        /// Nowhere; requests for records are answered with an error.
        case none
    }
}
