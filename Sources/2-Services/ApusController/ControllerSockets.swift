import ApusTransport
import ApusWire
import NIOCore

/// The controller's sockets, which are all bound. The connection files have a port for each.
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

    /// Whether the port comes from the pool for engines, and not from the pool for clients.
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

/// The sending side of every socket of the controller.
struct Outlets {
    let registration = Outlet(.registration)
    let notification = Outlet(.notification)
    let heartbeatPing = Outlet(.heartbeatPing)
    let heartbeatPong = Outlet(.heartbeatPong)
    let muxClient = Outlet(.muxClient)
    let muxEngine = Outlet(.muxEngine)
    let controlClient = Outlet(.controlClient)
    let controlEngine = Outlet(.controlEngine)
    let taskClient = Outlet(.taskClient)
    let taskEngine = Outlet(.taskEngine)
    let iopubClient = Outlet(.iopubClient)
    let iopubEngine = Outlet(.iopubEngine)
    let broadcastClient = Outlet(.broadcastClient)
    /// One for each leaf of the broadcast tree.
    let leaves: [Outlet]
    /// The outlets to which every engine connects under its uuid.
    var engineSide: [Outlet] { [self.taskEngine, self.muxEngine, self.controlEngine] }
    /// All outlets, in the order in which they are flushed.
    let all: [Outlet]

    /// - Parameter broadcastDepth: The tree has 2 to this power leaves, at most 256.
    init(broadcastDepth: Int) {
        self.leaves = (0..<(1 << min(max(broadcastDepth, 0), 8))).map { _ in Outlet(.broadcastEngine) }
        self.all =
            [
                self.taskEngine, self.taskClient, self.muxEngine, self.muxClient, self.controlEngine, self.controlClient,
                self.broadcastClient, self.iopubClient, self.registration, self.notification, self.heartbeatPing,
                self.heartbeatPong, self.iopubEngine,
            ] + self.leaves
    }

    /// The outlet of a port; nil for the leaves' port, which has several.
    subscript(port: ControllerSocket) -> Outlet? {
        switch port {
        case .registration: self.registration
        case .notification: self.notification
        case .heartbeatPing: self.heartbeatPing
        case .heartbeatPong: self.heartbeatPong
        case .muxClient: self.muxClient
        case .muxEngine: self.muxEngine
        case .controlClient: self.controlClient
        case .controlEngine: self.controlEngine
        case .taskClient: self.taskClient
        case .taskEngine: self.taskEngine
        case .iopubClient: self.iopubClient
        case .iopubEngine: self.iopubEngine
        case .broadcastClient: self.broadcastClient
        case .broadcastEngine: nil
        }
    }

    func flush() { for outlet in self.all { outlet.flush() } }
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
