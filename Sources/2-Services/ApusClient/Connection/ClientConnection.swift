import ApusCore
import ApusTransport
import ApusWire
import Locks
import Logging
import MemoryFiles
import NIOCore

/// A client's sockets, and the tasks that wait for what comes by them.
///
/// A ``ClientSession`` decides what each message, and each silence, means; the connection performs its effects. Requests are made
/// and signed on the caller's thread, handed over under a lock, and sent in batches from the event loop. Replies are taken on the
/// event loop, which wakes the callers that wait for them. So callers on many threads share one client and seldom wait for each
/// other.
///
/// | where | what is done |
/// |---|---|
/// | `ClientConnection+Sending` | requests, from the caller to the sockets |
/// | `ClientConnection+Receiving` | messages, from the sockets to events |
/// | `ClientConnection+Effects` | events, through the session, to effects |
/// | `ClientConnection+Failures` | the words for why a task has no outcome |
final class ClientConnection: Sendable {
    typealias Channel = ClientSession.Channel

    let info: ClientConnectionInfo
    let session: Session
    let logger: Logger
    let eventLoop: any EventLoop
    /// How long the controller may be out of reach before tasks that wait for it fail.
    let patience: Duration
    private let limits: MessageLimits
    let gate: Mutex<Gate>
    let nextNumber = Atomic<UInt64>(1)
    /// When, in the event loop's nanoseconds, the next batch may leave.
    let nextDrain = Atomic<UInt64>(0)
    /// What callers and the event loop share. Only this class looks at it.
    let state: Mutex<State>

    struct State {
        var core: ClientSession
        /// The effects of the event that is being handled; empty between events. The array is kept so that a reply costs no new
        /// memory.
        var effects: [ClientSession.Effect] = []
        /// The core's timer, where it runs.
        var timer: Scheduled<Void>?
        /// The tasks that are pending in the core, each in the slot that the core gave it; nil where a slot is free.
        private(set) var tasks: [PendingTask?] = []
        /// The requests of load-balanced and direct tasks, by the same slots, in case a controller was killed before it had one; else
        /// empty.
        private(set) var requests: [[ByteBuffer]] = []
        var sockets: [Channel: any TransportSocket] = [:]
        var outbound: [(channel: Channel, frames: [ByteBuffer])] = []
        var drainIsScheduled = false
        var changeWatchers: [@Sendable () -> Void] = []
        var engineTimeout: Duration?
        var history = TaskHistory()
        var raisedErrors = RaisedErrors()
        /// Maps that send tasks as others end.
        var maps: [ObjectIdentifier: MapRun] = [:]

        mutating func keep(_ task: PendingTask, in slot: ClientSession.Slot, _ request: [ByteBuffer]) {
            if slot == self.tasks.count {
                self.tasks.append(task)
                self.requests.append(request)
            } else {
                self.tasks[slot] = task
                self.requests[slot] = request
            }
        }

        /// The task that an effect names.
        func task(_ slot: ClientSession.Slot) -> PendingTask {
            guard let task = self.tasks[slot] else { preconditionFailure("slot \(slot) is named, and has no task") }
            return task
        }

        /// The task that an effect names and ends.
        mutating func removeTask(_ slot: ClientSession.Slot) -> PendingTask {
            guard let task = self.tasks[slot].take() else { preconditionFailure("slot \(slot) is named, and has no task") }
            self.requests[slot] = []
            return task
        }
    }

    // MARK: Life

    /// Reaches the hub and then its other sockets.
    ///
    /// - Throws: ``ApusError`` with code `controllerUnreachable` when the hub does not answer in time.
    init(
        _ info: ClientConnectionInfo, transport: any Transport, eventLoop: any EventLoop, timeout: Duration, patience: Duration,
        outputPatience: Duration = .seconds(5), username: String?, maximumMessageSize: Int? = nil, logger: Logger
    ) async throws {
        let largest = maximumMessageSize ?? MessageSize.standard
        self.patience = patience
        self.info = info
        self.logger = logger
        self.eventLoop = eventLoop
        let host: String
        do {
            let signer = try Signer(key: info.common.key, scheme: info.common.signatureScheme)
            self.session = Session(username: username ?? Session.currentUser, signer: signer)
            self.gate = Mutex(Gate(signer: signer, logger: logger))
            self.limits = MessageLimits(known: largest, strangers: MessageSize.strangers) { signer.accepts(frames: $0) }
            try HostAddress.requireNoTunnel(info.common)
            host = try HostAddress.reachable(interface: info.common.interface, location: info.common.location)
        } catch {
            throw ApusError(.badConnectionFile, "the connection file cannot be used: \(error)", cause: nil)
        }
        self.state = Mutex(State(core: ClientSession(patience: patience, outputPatience: outputPatience)))
        let address = "\(host):\(info.common.registration)"
        self.open(.query, host, info.common.registration, transport)
        do {
            let answered: Void? = try await withDeadline(timeout) {
                try await self.refreshEngines()
                self.open(.mux, host, info.mux, transport)
                if info.taskScheme != "none" { self.open(.task, host, info.task, transport) }
                self.open(.control, host, info.control, transport)
                if let broadcast = info.broadcast { self.open(.broadcast, host, broadcast, transport) }
                self.open(.iopub, host, info.iopub, transport)
                self.open(.notification, host, info.notification, transport)
                try await self.everySocketIsConnected()
                // What was published between the first answer and the subscription is in the second answer.
                try await self.refreshEngines()
            }
            guard answered != nil else {
                throw ApusError(
                    .controllerUnreachable,
                    """
                    nothing that speaks for this cluster answered at \(address) within \(timeout). Is the controller running there, and is \
                    the connection file its own (a key of another run is never answered)? 'apus list' shows the clusters that run
                    """)
            }
        } catch {
            await self.close()
            throw error
        }
    }

    private func open(_ channel: Channel, _ host: String, _ port: Int, _ transport: any Transport) {
        let role: SocketRole = channel.takesRequests ? .dealer : .subscriber
        let socket = transport.makeSocket(role, options: SocketOptions(limits: self.limits), on: self.eventLoop) {
            [weak self] event in
            self?.handle(event, on: channel)
        }
        self.state.withLock { $0.sockets[channel] = socket }
        socket.connect(to: Endpoint(host: host, port: port))
    }

    private func everySocketIsConnected() async throws {
        while true {
            let change = self.nextEngineChange()
            if self.state.withLock({ $0.core.connected.isSuperset(of: $0.sockets.keys) }) { return }
            try await change.wait(atMost: .milliseconds(500))
        }
    }

    /// Closes the sockets. Callers that wait for a result get an error with code `closed`.
    func close(linger: Duration = .milliseconds(500)) async {
        self.handle(.closing)
        let sockets = self.state.withLock { state in
            defer { state.sockets = [:] }
            return Array(state.sockets.values)
        }
        for socket in sockets { await socket.close(linger: TimeAmount(clamping: linger)) }
        self.handle(.closed)
    }

    /// Why nothing can be sent any more; nil while it can.
    var ended: ApusError? { self.state.withLock { $0.core.ending }.map { Self.error($0) } }

    // MARK: Engines

    /// The next change of engines or connections after this value was made.
    struct EngineChange: Sendable {
        fileprivate let stream: AsyncStream<Void>

        /// Waits until the change has come, or the time is over.
        func wait(atMost time: Duration) async throws {
            _ = try await withDeadline(time) { for await _ in self.stream {} }
            try Task.checkCancellation()
        }
    }

    func nextEngineChange() -> EngineChange {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
        self.state.withLock { $0.changeWatchers.append { continuation.finish() } }
        return EngineChange(stream: stream)
    }

    /// Asks the hub which engines are registered.
    func refreshEngines() async throws {
        let question = self.state.withLock { $0.core.askForEngines() }
        let reply: JSONValue
        do { reply = try await self.request(.connectionRequest, content: [:], on: .query) } catch {
            self.handle(.enginesAnswered(question, nil))
            throw error
        }
        self.handle(.enginesAnswered(question, reply))
        guard reply["engines"]?.object != nil else {
            throw ApusError(.hubError, "the hub answered a connection request without a list of engines")
        }
    }

    var engines: [EngineID: EngineUUID] { self.withDirectory { $0.engines } }

    func engineID(of uuid: EngineUUID) -> EngineID? { self.withDirectory { $0.id(of: uuid) } }

    func withDirectory<Result: Sendable>(_ body: (EngineDirectory) -> Result) -> Result {
        self.state.withLock { body($0.core.directory) }
    }

    /// Whether all these engines can map this process's memory.
    func sharesMemory(with engines: [EngineUUID]) -> Bool {
        guard let place = SharedMemory.place else { return false }
        return self.withDirectory { $0.shareMemory(engines, of: place) }
    }

    /// Whether any of the engines owes an answer to a request that was sent to it directly.
    func isAwaiting(anyOf targets: [EngineUUID]) -> Bool {
        let targets = Set(targets)
        return self.state.withLock { $0.core.isAwaiting(anyOf: targets) }
    }

    /// Whether there is no engine, and a load-balanced task that has not ended, or a map that has yet to send tasks, waits for
    /// one.
    func lacksEngines(for tasks: [PendingTask], isMap: Bool) -> Bool {
        self.engines.isEmpty && (isMap || tasks.contains { $0.channel == .task && !$0.isDone })
    }

    var noEngineIsComing: String? { self.state.withLock { $0.core.noEngineIsComing } }

    /// See ``Client/engineTimeout``.
    var engineTimeout: Duration? {
        get { self.state.withLock { $0.engineTimeout } }
        set { self.state.withLock { $0.engineTimeout = newValue } }
    }

    // MARK: The controller

    var hubSession: String? { self.state.withLock { $0.core.hub } }

    func knows(_ feature: ControllerFeature) -> Bool { self.state.withLock { $0.core.features.contains(feature) } }

    /// - Throws: ``ApusError`` with code `notSupported` when the controller cannot do this.
    func require(_ feature: ControllerFeature) throws {
        guard self.knows(feature) else {
            throw ApusError(
                .notSupported,
                "this controller knows no \(feature.name); Apus's own does ('apus controller'), ipyparallel's does not")
        }
    }

    // MARK: Tasks and maps

    var pendingTasks: [PendingTask] { self.state.withLock { $0.tasks.compactMap { $0 } } }

    /// The tasks of these ids that are pending, or whose results are still held.
    func tasks(_ ids: Set<MessageID>) -> [MessageID: PendingTask] {
        self.state.withLock { state in
            var tasks = state.history.tasks(ids)
            for id in ids { if let slot = state.core.slot(of: id) { tasks[id] = state.task(slot) } }
            return tasks
        }
    }

    func task(_ id: MessageID) -> PendingTask? { self.tasks([id])[id] }

    func withHistory<Result: Sendable>(_ body: (inout TaskHistory) -> Result) -> Result {
        self.state.withLock { body(&$0.history) }
    }

    /// Notes that a map will send tasks as others end, until it is finished.
    func began(_ map: MapRun) { self.state.withLock { $0.maps[ObjectIdentifier(map)] = map } }
    func finished(_ map: MapRun) { self.state.withLock { _ = $0.maps.removeValue(forKey: ObjectIdentifier(map)) } }
    /// Maps some of whose calls have no outcome.
    var maps: [MapRun] { self.state.withLock { Array($0.maps.values) } }

    func withRaisedErrors<Result: Sendable>(_ body: (inout RaisedErrors) -> Result) -> Result {
        self.state.withLock { body(&$0.raisedErrors) }
    }
}
