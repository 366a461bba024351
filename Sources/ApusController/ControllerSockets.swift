import ApusTransport
import ApusWire
import NIOCore

/// The controller's sockets, all bound, each with its place in the connection files.
enum ControllerSocket: String, CaseIterable, Sendable {
    case registration, notification, heartbeatPing, heartbeatPong
    case muxClient, muxEngine, controlClient, controlEngine, taskClient, taskEngine, iopubClient, iopubEngine, broadcastClient
    /// One socket for each leaf of the broadcast tree.
    case broadcastEngine

    var role: SocketRole {
        switch self {
        case .notification, .heartbeatPing, .iopubClient: .publisher
        case .iopubEngine: .subscriber
        default: .router
        }
    }

    /// The identity by which a peer that routes knows this socket.
    var identity: String {
        switch self {
        case .muxClient: "mux_in"
        case .muxEngine: "mux_out"
        case .controlClient: "control_in"
        case .controlEngine: "control_out"
        case .taskClient: "task_in"
        case .taskEngine: "task_out"
        default: ""
        }
    }

    /// Whose pool the port comes from.
    var isForEngines: Bool {
        switch self {
        case .registration, .heartbeatPing, .heartbeatPong, .muxEngine, .controlEngine, .taskEngine, .iopubEngine,
            .broadcastEngine:
            true
        default: false
        }
    }

    /// The order in which ports are taken from the pools, which peers with fixed ports rely on.
    static let bindingOrder: [ControllerSocket] = [
        .registration, .controlEngine, .muxEngine, .taskEngine, .iopubEngine, .heartbeatPing, .heartbeatPong,
    ]
    static let clientBindingOrder: [ControllerSocket] = [
        .controlClient, .muxClient, .taskClient, .iopubClient, .notification, .broadcastClient,
    ]
}

/// Ports in the order in which they are to be used.
struct PortPools {
    private var common: ArraySlice<Int>
    private var engine: ArraySlice<Int>
    private var client: ArraySlice<Int>

    init(_ options: ControllerOptions) {
        self.common = options.ports[...]
        self.engine = options.enginePorts[...]
        self.client = options.clientPorts[...]
    }

    /// The next port of the pool, else of the common one, else 0 for any free one.
    mutating func next(forEngines: Bool) -> Int {
        if forEngines, let port = self.engine.popFirst() { return port }
        if !forEngines, let port = self.client.popFirst() { return port }
        return self.common.popFirst() ?? 0
    }
}
