import ApusWire

/// How a controller runs. The defaults are ipyparallel's.
public struct ControllerOptions: Sendable {
    /// The address that clients connect to; `*` for every interface of the machine. One of IPv6 may stand in brackets, which are
    /// left out: `[::1]` is `::1`.
    public var clientAddress = "127.0.0.1" {
        didSet { self.clientAddress = HostAddress.withoutBrackets(self.clientAddress) }
    }
    /// The address that engines connect to, written like that of clients.
    public var engineAddress = "127.0.0.1" {
        didSet { self.engineAddress = HostAddress.withoutBrackets(self.engineAddress) }
    }
    /// The host name to write into the connection files; this machine's unless told.
    public var location = HostAddress.hostName
    /// The tunnel that clients are told to use; empty for none.
    public var clientSSH = ""
    /// The tunnel that engines are told to use; empty for none.
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
    /// How many unfinished tasks one engine may hold; 0 for any number; nil to let short tasks queue and long ones not.
    public var highWaterMark: Int?
    /// How long a load-balanced task waits while no engine is registered, before it ends with an error that says so; nil: for ever.
    /// A task may say another time of itself.
    public var engineTimeout: Duration?
    /// How long after an engine has refused a task for a condition (`@depend`) it is offered the task again, though nothing is known
    /// to have changed there; nil: not before something has.
    public var dependencyInterval: Duration? = .seconds(10)
    /// Seconds that an engine may take from its registration to its first sign of life; nil: thirty, or ten heartbeats.
    public var registrationTimeout: Int?
    /// The depth of the broadcast tree: 2 to this power are its leaves.
    public var broadcastDepth = 1
    /// The key that signs messages; a random one unless told; empty: nothing is signed.
    public var key: String?
    /// How messages are signed: `hmac-` and the name of a hash, such as `hmac-sha256`.
    public var signatureScheme = "hmac-sha256"
    /// The controller's own session id, as its messages carry it; nil for a random one.
    public var sessionID: String?
    /// The user name in the controller's messages; nil for the user whose process it is.
    public var username: String?
    /// The largest message that is taken, in bytes; nil for half of the machine's memory. Of a peer that has not shown yet that it has
    /// the key 16 MiB are taken.
    public var maximumMessageSize: Int?
    /// How many bytes may wait for a client that does not read before its connection is cut; nil for a quarter of the machine's memory.
    /// What such a client missed is in the records of its tasks.
    public var maximumUnread: Int?
    /// Where the records of tasks are kept.
    public var database = Database.memory()

    /// Options of which none is set.
    public init() {}

    /// Every value that ``scheme`` may have.
    public static let schemes = ["leastload", "lru", "plainrandom", "twobin", "weighted", "pure", "none"]

    /// Where a controller keeps the records of tasks, by which results can be looked up and tasks run again.
    public enum Database: Sendable, Hashable {
        /// In memory, of finished tasks the last: at most so many records, and so many bytes of messages. Beyond the bytes, the
        /// large buffers of requests go before whole records do.
        case memory(records: Int = 1024, bytes: Int = 256 << 20)
        /// In a SQLite file, which outlives the controller; nil for `tasks.db` in the profile's folder.
        case sqlite(path: String?)
        /// Nowhere; requests for records are answered with an error.
        case none
    }
}
