/// The client connection file: the addresses and key by which a client reaches a controller (protocol article, "Connection
/// files").
public struct ClientConnectionInfo: Sendable, Hashable {
    /// Address and key, the same in both files.
    public var common: ConnectionCommon
    /// The port for requests that overtake queued work: aborts, signals, shutdown.
    public var control: Int
    /// The port for requests to engines that are named.
    public var mux: Int
    /// The port for tasks whose engine the scheduler chooses.
    public var task: Int
    /// The port at which the output of engines (text they print, values they display) is published.
    public var iopub: Int
    /// The port at which the hub publishes which engines come and go.
    public var notification: Int
    /// The root of the broadcast tree; nil from controllers older than 7.0, which have no broadcast.
    public var broadcast: Int?
    /// How the controller places tasks: `leastload` and others, `pure`, or `none`.
    public var taskScheme: String

    /// The values of the file; the plain numbers are ports.
    public init(
        common: ConnectionCommon, control: Int, mux: Int, task: Int, iopub: Int, notification: Int, broadcast: Int?,
        taskScheme: String
    ) {
        self.common = common
        self.control = control
        self.mux = mux
        self.task = task
        self.iopub = iopub
        self.notification = notification
        self.broadcast = broadcast
        self.taskScheme = taskScheme
    }

    package init(_ json: JSONValue) throws(WireError) {
        let fields = ConnectionFields(json)
        self.common = try ConnectionCommon(fields)
        self.control = try fields.port("control")
        self.mux = try fields.port("mux")
        self.task = try fields.port("task")
        self.iopub = try fields.port("iopub")
        self.notification = try fields.port("notification")
        self.broadcast = fields.has("broadcast") ? try fields.port("broadcast") : nil
        self.taskScheme = json["task_scheme"]?.string ?? "leastload"
    }

    package var json: JSONValue {
        var members = self.common.json
        members["control"] = .int(self.control)
        members["mux"] = .int(self.mux)
        members["task"] = .int(self.task)
        members["iopub"] = .int(self.iopub)
        members["notification"] = .int(self.notification)
        if let broadcast { members["broadcast"] = .int(broadcast) }
        members["task_scheme"] = .string(self.taskScheme)
        return .object(members)
    }
}

/// The engine connection file: the addresses and key by which an engine reaches a controller.
public struct EngineConnectionInfo: Sendable, Hashable {
    /// Address and key, the same in both files.
    public var common: ConnectionCommon
    /// The port for requests that overtake queued work: aborts, signals, shutdown.
    public var control: Int
    /// The port from which requests come that name the engine.
    public var mux: Int
    /// The port from which the scheduler's tasks come.
    public var task: Int
    /// The port to which the engine publishes the output of its work.
    public var iopub: Int
    /// The port from which heartbeats come.
    public var heartbeatPing: Int
    /// The port at which heartbeats are answered.
    public var heartbeatPong: Int
    /// One port per leaf of the broadcast tree; engine `n` connects to the one at `n` modulo their count. Empty: no broadcast.
    public var broadcast: [Int]

    /// The values of the file; the plain numbers are ports.
    public init(
        common: ConnectionCommon, control: Int, mux: Int, task: Int, iopub: Int, heartbeatPing: Int, heartbeatPong: Int,
        broadcast: [Int]
    ) {
        self.common = common
        self.control = control
        self.mux = mux
        self.task = task
        self.iopub = iopub
        self.heartbeatPing = heartbeatPing
        self.heartbeatPong = heartbeatPong
        self.broadcast = broadcast
    }

    package init(_ json: JSONValue) throws(WireError) {
        let fields = ConnectionFields(json)
        self.common = try ConnectionCommon(fields)
        self.control = try fields.port("control")
        self.mux = try fields.port("mux")
        self.task = try fields.port("task")
        self.iopub = try fields.port("iopub")
        self.heartbeatPing = try fields.port("hb_ping")
        self.heartbeatPong = try fields.port("hb_pong")
        self.broadcast = try fields.ports("broadcast")
    }

    package var json: JSONValue {
        .object(self.common.json.merging(self.addresses) { $1 })
    }

    /// The part that a registration reply repeats as `connection_info`.
    package var addresses: JSONObject {
        [
            "interface": .string(self.common.interface), "registration": .int(self.common.registration),
            "control": .int(self.control),
            "mux": .int(self.mux), "task": .int(self.task), "iopub": .int(self.iopub), "hb_ping": .int(self.heartbeatPing),
            "hb_pong": .int(self.heartbeatPong), "broadcast": .array(self.broadcast.map { .int($0) }),
        ]
    }
}

/// The keys that client and engine files share.
public struct ConnectionCommon: Sendable, Hashable {
    /// `tcp://<address>` without a port; if the address is `*`, `location` names the controller's host.
    public var interface: String
    /// The hub's port for registration and queries.
    public var registration: Int
    /// The key that signs messages; empty: unsigned.
    public var key: String
    /// How messages are signed: `hmac-` and the name of a hash, such as `hmac-sha256`.
    public var signatureScheme: String
    /// The host that the controller runs on.
    public var location: String
    /// `[user@]host[:port]` to tunnel through, or empty.
    public var ssh: String
    /// The controller's public key, where Python's controller encrypts with CURVE, which is not supported here.
    public var curveServerKey: String?

    /// The shared keys; by default no tunnel and no encryption.
    public init(
        interface: String, registration: Int, key: String, signatureScheme: String, location: String, ssh: String = "",
        curveServerKey: String? = nil
    ) {
        self.interface = interface
        self.registration = registration
        self.key = key
        self.signatureScheme = signatureScheme
        self.location = location
        self.ssh = ssh
        self.curveServerKey = curveServerKey
    }

    fileprivate init(_ fields: ConnectionFields) throws(WireError) {
        self.interface = try fields.text("interface")
        guard self.interface.hasPrefix("tcp://") else {
            throw WireError("'interface' is '\(self.interface)'; only tcp:// can be reached from here")
        }
        self.registration = try fields.port("registration")
        self.key = fields.json["key"]?.string ?? ""
        self.signatureScheme = fields.json["signature_scheme"]?.string ?? Signer.defaultScheme
        self.location = fields.json["location"]?.string ?? ""
        self.ssh = fields.json["ssh"]?.string ?? ""
        self.curveServerKey = fields.json["curve_serverkey"]?.string
        for packer in ["pack", "unpack"] {
            let name = fields.json[packer]?.string ?? "json"
            // Newer Python controllers name orjson when that library is installed; its output is JSON.
            guard name == "json" || name == "orjson" else {
                throw WireError(
                    "'\(packer)' is '\(name)'; only json can be read here. Start the controller with Session.packer='json'")
            }
        }
    }

    fileprivate var json: JSONObject {
        [
            "interface": .string(self.interface), "registration": .int(self.registration), "key": .string(self.key),
            "signature_scheme": .string(self.signatureScheme), "location": .string(self.location), "ssh": .string(self.ssh),
            "curve_serverkey": JSONValue(self.curveServerKey), "pack": "json", "unpack": "json",
        ]
    }
}

/// Reads fields of a connection file with errors that name them.
private struct ConnectionFields {
    let json: JSONValue

    init(_ json: JSONValue) { self.json = json }

    func has(_ name: String) -> Bool { self.json[name].map { !$0.isNull } ?? false }

    func text(_ name: String) throws(WireError) -> String {
        guard let text = self.json[name]?.string else { throw WireError("'\(name)' is missing or no text") }
        return text
    }

    func port(_ name: String) throws(WireError) -> Int {
        guard let value = self.json[name] else { throw WireError("'\(name)' is missing") }
        return try self.port(value, name)
    }

    func ports(_ name: String) throws(WireError) -> [Int] {
        switch self.json[name] {
        case nil, .null: return []
        case .array(let values):
            var ports: [Int] = []
            for value in values { ports.append(try self.port(value, name)) }
            return ports
        case .some(let value): return [try self.port(value, name)]
        }
    }

    private func port(_ value: JSONValue, _ name: String) throws(WireError) -> Int {
        guard let port = value.int, (1...65535).contains(port) else { throw WireError("'\(name)' is \(value), which is no port") }
        return port
    }
}
