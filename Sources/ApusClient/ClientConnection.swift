import ApusTransport
import ApusWire
import Logging
import NIOCore
import Locks

/// A client's sockets and what it waits for on them.
///
/// Requests are made and signed on the caller's thread, handed over under a lock, and leave in batches from the event loop; replies
/// are taken on the event loop and wake their waiters from there. So callers on many threads share one client without meeting.
final class ClientConnection: Sendable {
    /// The controller's sockets that take a client's requests.
    enum Channel: Int, CaseIterable, Sendable {
        case query, mux, task, control, broadcast

        /// Whether what is sent there is work, and not about it.
        var takesTasks: Bool { self != .query && self != .control }
    }

    let info: ClientConnectionInfo
    let session: Session
    let logger: Logger
    private let eventLoop: any EventLoop
    /// How long the controller may be out of reach before those who wait are told.
    private let patience: Duration
    private let nextNumber = Atomic<UInt64>(1)
    /// When, in the event loop's nanoseconds, the next batch may leave.
    private let nextDrain = Atomic<UInt64>(0)
    /// Nanoseconds between batches.
    private static let drainInterval: UInt64 = 100_000
    private let state: Mutex<State>

    private struct State {
        var sockets: [Channel: any TransportSocket] = [:]
        var subscribers: [any TransportSocket] = []
        /// Sockets that have reached the controller, so that nothing published from now on is missed.
        var connected: Set<String> = []
        var directory = EngineDirectory()
        /// The session of the hub that answered last; another one has another.
        var hubSession: String?
        /// Sockets that have lost the controller: since when, and who its hub was.
        var lost: [Channel: (date: WireDate, hub: String?)] = [:]
        /// What the controller can do beyond ipyparallel's.
        var features: Set<ControllerFeature> = []
        var pending: [MessageID: PendingTask] = [:]
        var outbound: [(channel: Channel, frames: [ByteBuffer])] = []
        var drainIsScheduled = false
        /// Why nothing can be sent any more.
        var ended: ApusError?
        var engineWatchers: [@Sendable () -> Void] = []
        var replay = ReplayMemory()
        var badMessages = 0
        var history = TaskHistory()
    }

    // MARK: Connecting

    /// Reaches the hub and then its other sockets.
    ///
    /// - Throws: ``ApusError`` with code `controllerUnreachable` when the hub does not answer in time.
    init(
        _ info: ClientConnectionInfo, transport: any Transport, eventLoop: any EventLoop, timeout: Duration, patience: Duration,
        username: String?, logger: Logger
    ) async throws {
        self.patience = patience
        self.info = info
        self.logger = logger
        self.eventLoop = eventLoop
        let host: String
        do {
            let signer = try Signer(key: info.common.key, scheme: info.common.signatureScheme)
            self.session = Session(username: username ?? Session.currentUser, signer: signer)
            try HostAddress.requireNoTunnel(info.common)
            host = try HostAddress.reachable(interface: info.common.interface, location: info.common.location)
        } catch {
            throw ApusError(.badConnectionFile, "the connection file cannot be used: \(error)", cause: nil)
        }
        self.state = Mutex(State())
        let address = "\(host):\(info.common.registration)"
        self.open(.query, at: Endpoint(host: host, port: info.common.registration), transport)
        do {
            let answered: Void? = try await withDeadline(timeout) {
                try await self.refreshEngines()
                self.open(.mux, at: Endpoint(host: host, port: info.mux), transport)
                if info.taskScheme != "none" { self.open(.task, at: Endpoint(host: host, port: info.task), transport) }
                self.open(.control, at: Endpoint(host: host, port: info.control), transport)
                if let broadcast = info.broadcast { self.open(.broadcast, at: Endpoint(host: host, port: broadcast), transport) }
                self.subscribe("iopub", at: Endpoint(host: host, port: info.iopub), transport)
                self.subscribe("notification", at: Endpoint(host: host, port: info.notification), transport)
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

    private func open(_ channel: Channel, at endpoint: Endpoint, _ transport: any Transport) {
        let socket = transport.makeSocket(.dealer, options: SocketOptions(), on: self.eventLoop) { [weak self] event in
            self?.handle(event, on: channel)
        }
        self.state.withLock { $0.sockets[channel] = socket }
        socket.connect(to: endpoint)
    }

    private func subscribe(_ name: String, at endpoint: Endpoint, _ transport: any Transport) {
        let socket = transport.makeSocket(.subscriber, options: SocketOptions(), on: self.eventLoop) { [weak self] event in
            self?.handle(event, from: name)
        }
        self.state.withLock { $0.subscribers.append(socket) }
        socket.connect(to: endpoint)
    }

    private func everySocketIsConnected() async throws {
        while true {
            let count = self.state.withLock { state in
                state.sockets.count + state.subscribers.count - state.connected.count
            }
            if count == 0 { return }
            try await self.engineChange()
        }
    }

    /// Waits until something about engines or connections has changed, or half a second.
    func engineChange() async throws {
        _ = try await withDeadline(.milliseconds(500)) {
            let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
            self.state.withLock { $0.engineWatchers.append { continuation.finish() } }
            for await _ in stream {}
        }
        try Task.checkCancellation()
    }

    private func announceChange() {
        let watchers = self.state.withLock { state in
            defer { state.engineWatchers = [] }
            return state.engineWatchers
        }
        for watcher in watchers { watcher() }
    }

    // MARK: Engines

    var engines: [EngineID: EngineUUID] { self.state.withLock { $0.directory.engines } }

    func engineID(of uuid: EngineUUID) -> EngineID? { self.state.withLock { $0.directory.id(of: uuid) } }

    func withDirectory<Result: Sendable>(_ body: (inout EngineDirectory) -> Result) -> Result {
        self.state.withLock { body(&$0.directory) }
    }

    /// Whether all these engines can map this process's memory.
    func sharesMemory(with engines: [EngineUUID]) -> Bool {
        guard let place = SharedMemory.place else { return false }
        return self.state.withLock { $0.directory.shareMemory(engines, of: place) }
    }

    /// Asks the hub who is registered.
    func refreshEngines() async throws {
        let reply = try await self.request(.connectionRequest, content: [:], on: .query)
        guard let directory = EngineDirectory(reply) else {
            throw ApusError(.hubError, "the hub answered a connection request without a list of engines")
        }
        let features = (reply["apus"]?["features"]?.array ?? []).compactMap {
            $0.string.flatMap { ControllerFeature(rawValue: $0) }
        }
        self.state.withLock { state in
            state.features = Set(features)
            state.directory.replace(with: directory)
        }
        self.announceChange()
    }

    func knows(_ feature: ControllerFeature) -> Bool { self.state.withLock { $0.features.contains(feature) } }

    /// - Throws: ``ApusError`` with code `notSupported` when the controller cannot do this.
    func require(_ feature: ControllerFeature) throws {
        guard self.knows(feature) else {
            throw ApusError(
                .notSupported,
                "this controller knows no \(feature.name); Apus's own does ('apus controller'), ipyparallel's does not")
        }
    }

    // MARK: Sending

    /// Sends a request and gives the task that its reply completes.
    func submit(
        _ type: MessageType, on channel: Channel, to target: EngineUUID? = nil, metadata: ByteBuffer = MessageParts.emptyObject,
        content: ByteBuffer = MessageParts.emptyObject, buffers: [ByteBuffer] = [], waitsForOutput: Bool = false,
        limitedOn: [EngineUUID]? = nil
    ) -> PendingTask {
        let number = self.nextNumber.wrappingAdd(1, ordering: .relaxed).oldValue
        let now = WireDate.now
        let id = self.session.messageID(number: number)
        let message = self.session.message(
            type, id: id, identities: target.map { [ByteBuffer(string: $0.text)] } ?? [], metadata: metadata, content: content,
            buffers: buffers, date: now)
        let task = PendingTask(
            id: id, targets: target.map { [$0] } ?? [], submitted: now, outputPolicy: waitsForOutput ? .awaited : .counted,
            limitedOn: limitedOn, channel: channel)
        self.send(message, on: channel, for: CollectionOfOne(task))
        return task
    }

    /// Sends a request that the controller copies to every target (protocol article, "Broadcast"), and gives the task of each
    /// copy, in the order of the targets; only one of all where the replies are to be made one.
    func broadcast(
        _ type: MessageType, to targets: [EngineUUID], isCoalescing: Bool, metadata: ByteBuffer, content: ByteBuffer,
        buffers: [ByteBuffer], waitsForOutput: Bool, limitedOn: [EngineUUID]?
    ) -> [PendingTask] {
        let id = self.session.messageID(number: self.nextNumber.wrappingAdd(1, ordering: .relaxed).oldValue)
        let now = WireDate.now
        let message = self.session.message(type, id: id, metadata: metadata, content: content, buffers: buffers, date: now)
        let tasks: [PendingTask]
        if isCoalescing {
            tasks = [
                PendingTask(
                    id: id, targets: targets, submitted: now, outputPolicy: .ignored, limitedOn: limitedOn,
                    channel: .broadcast)
            ]
        } else {
            tasks = targets.map { target in
                PendingTask(
                    id: MessageID("\(id.text)_\(target.text)"), targets: [target], submitted: now,
                    outputPolicy: waitsForOutput ? .awaited : .counted, limitedOn: limitedOn.map { _ in [target] },
                    channel: .broadcast)
            }
        }
        self.send(message, on: .broadcast, for: tasks)
        return tasks
    }

    private func send(_ message: Message, on channel: Channel, for tasks: some Collection<PendingTask>) {
        let (ended, mustSchedule) = self.state.withLock { state -> (ApusError?, Bool) in
            if let ended = state.ended { return (ended, false) }
            for task in tasks { state.pending[task.id] = task }
            if channel.takesTasks { for task in tasks { state.history.append(task) } }
            state.outbound.append((channel: channel, frames: message.frames))
            defer { state.drainIsScheduled = true }
            return (nil, !state.drainIsScheduled)
        }
        if let ended { for task in tasks { task.fail(ended) } }
        if mustSchedule { self.scheduleDrain() }
    }

    /// Whether any of the engines owes an answer to something that was sent to it directly.
    func isAwaiting(anyOf targets: [EngineUUID]) -> Bool {
        let targets = Set(targets)
        return self.state.withLock { state in
            state.pending.values.contains { !$0.isDone && !targets.isDisjoint(with: $0.targets) }
        }
    }

    /// A request after a pause leaves at once; those that follow closely leave together a moment later. An event loop runs what
    /// is asked of it before it looks at its sockets again, so whoever submits in a loop would keep it from reading.
    private func scheduleDrain() {
        let next = self.nextDrain.load(ordering: .relaxed)
        if NIODeadline.now().uptimeNanoseconds >= next { return self.eventLoop.execute { self.drain() } }
        self.eventLoop.scheduleTask(deadline: .uptimeNanoseconds(next)) { self.drain() }
    }

    private func drain() {
        let (outbound, sockets) = self.state.withLock { state in
            defer {
                state.outbound = []
                state.drainIsScheduled = false
            }
            return (state.outbound, state.sockets)
        }
        self.nextDrain.store(
            NIODeadline.now().uptimeNanoseconds + Self.drainInterval, ordering: .relaxed)
        for (channel, frames) in outbound { sockets[channel]?.send(frames) }
        for socket in sockets.values { socket.flush() }
    }

    /// Sends a request whose answer is content, not a task's result, and waits for it.
    ///
    /// - Throws: The error that the answer carries, as ``RemoteError``.
    func request(_ type: MessageType, content: JSONObject, on channel: Channel, to target: EngineUUID? = nil) async throws
        -> JSONValue
    {
        try await self.answer(to: type, JSONValue.object(content).packed, on: channel, to: target).content
    }

    /// The same with the answer's buffers.
    func requestWithBuffers(_ type: MessageType, content: JSONObject, on channel: Channel) async throws -> (
        content: JSONValue, buffers: [ByteBuffer]
    ) {
        try await self.answer(to: type, JSONValue.object(content).packed, on: channel, to: nil)
    }

    /// A question that the connection lost is asked again; what changes something may have been done, and only its asker can know
    /// whether to ask again.
    private func answer(
        to type: MessageType, _ content: ByteBuffer, on channel: Channel, to target: EngineUUID?
    ) async throws -> (content: JSONValue, buffers: [ByteBuffer]) {
        while true {
            do { return try await self.answer(to: self.submit(type, on: channel, to: target, content: content)) } catch {
                guard (error as? ApusError)?.code == .connectionLost, Self.questions.contains(type) else { throw error }
            }
        }
    }

    /// Requests that change nothing.
    private static let questions: Set<MessageType> = [
        .connectionRequest, .queueRequest, .loadRequest, .resultRequest, .historyRequest, .databaseRequest,
    ]

    private func answer(to task: PendingTask) async throws -> (content: JSONValue, buffers: [ByteBuffer]) {
        try await task.wait()
        self.state.withLock { _ = $0.pending.removeValue(forKey: task.id) }
        switch task.outcome {
        case .failed(let error): throw error
        case .reply(let message, _):
            let content: JSONValue
            do { content = try JSONValue(parsing: message.content) } catch {
                throw ApusError(.badResult, "an answer cannot be read: \(error)")
            }
            if content["status"]?.string == "error" { throw RemoteError(ErrorContent(content), engineID: nil, engineUUID: nil) }
            return (content, Array(message.buffers))
        case nil: throw ApusError(.closed, "the client was closed")
        }
    }

    // MARK: Receiving, on the event loop

    private func handle(_ event: SocketEvent, on channel: Channel) {
        switch event {
        case .received(let messages):
            if channel == .query { self.noteHub(messages) }
            self.takeReplies(messages)
        case .peerConnected:
            self.noteConnected("\(channel)")
            self.noteReturn(of: channel)
        case .peerDisconnected:
            self.logger.debug("connection lost", metadata: ["socket": "\(channel)"])
            self.noteLoss(of: channel)
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "\(channel)"])
        }
    }

    private func handle(_ event: SocketEvent, from subscriber: String) {
        switch event {
        case .received(let messages):
            for frames in messages {
                guard let message = self.accept(frames) else { continue }
                if subscriber == "iopub" { self.takeOutput(message) } else { self.takeNotification(message) }
            }
        case .peerConnected: self.noteConnected(subscriber)
        case .peerDisconnected: self.logger.debug("connection lost", metadata: ["socket": "\(subscriber)"])
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "\(subscriber)"])
        }
    }

    private func noteConnected(_ name: String) {
        self.state.withLock { _ = $0.connected.insert(name) }
        self.announceChange()
    }

    private func noteHub(_ messages: [[ByteBuffer]]) {
        guard let session = messages.last.flatMap({ try? Message(frames: $0) })?.header.textMember("session") else { return }
        self.state.withLock { $0.hubSession = session }
    }

    var hubSession: String? { self.state.withLock { $0.hubSession } }

    private func noteLoss(of channel: Channel) {
        let isFirst = self.state.withLock { state in
            guard state.ended == nil, state.lost[channel] == nil else { return false }
            state.lost[channel] = (.now, state.hubSession)
            return true
        }
        if isFirst, channel == .query { self.failWhenUnreachable() }
    }

    /// Tells those who wait when the controller stays away; again and again, for they may ask again.
    private func failWhenUnreachable() {
        self.eventLoop.scheduleTask(in: .nanoseconds(Int64(self.patience / .nanoseconds(1)))) { [weak self] in
            guard let self, self.ended == nil, self.state.withLock({ $0.lost[.query] != nil }) else { return }
            self.failEverything(
                ApusError(
                    .controllerGone,
                    "the controller at \(self.info.common.interface):\(self.info.common.registration) has been out of reach for "
                        + "\(self.patience). Should it come back, the results of tasks that have ended are in its database (getResult)"
                ))
            self.failWhenUnreachable()
        }
    }

    /// Sees to what was on its way when the channel lost the controller.
    private func noteReturn(of channel: Channel) {
        let (loss, waiting) = self.state.withLock { state -> ((date: WireDate, hub: String?)?, [PendingTask]) in
            guard let loss = state.lost.removeValue(forKey: channel) else { return (nil, []) }
            // What was sent later waits in the socket, and goes to the controller that is there now.
            return (loss, state.pending.values.filter { $0.channel == channel && !$0.isDone && $0.submitted <= loss.date })
        }
        guard let loss, !waiting.isEmpty else { return }
        if channel.takesTasks {
            Task { await self.recover(waiting, earlierHub: loss.hub) }
        } else {
            self.forget(waiting.map { $0.id })
            for task in waiting { task.fail(Self.unanswered) }
        }
    }

    /// The message, or nil when it is malformed or not the controller's: then it is counted, logged and dropped.
    private func accept(_ frames: [ByteBuffer]) -> Message? {
        do {
            let message = try Message(frames: frames)
            guard self.session.signer.accepts(message.signature, for: message.parts) else {
                throw WireError("a signature is wrong")
            }
            return message
        } catch {
            let count = self.state.withLock { state in
                state.badMessages += 1
                return state.badMessages
            }
            if count == 1 { self.logger.warning("a message from the controller was dropped: \(error)") }
            return nil
        }
    }

    private func takeReplies(_ messages: [[ByteBuffer]]) {
        var accepted: [(MessageID, Message)] = []
        accepted.reserveCapacity(messages.count)
        for frames in messages {
            guard let message = self.accept(frames) else { continue }
            guard let parent = MessageHeader.messageID(scanning: message.parent) else { continue }
            accepted.append((parent, message))
        }
        let tasks: [PendingTask?] = self.state.withLock { state in
            accepted.map { id, message in
                guard state.replay.remember(message.signature) else { return nil }
                if let task = state.pending[id] { return task }
                // Replies that became one answer the request; each of them had a copy of it for its parent.
                return message.metadata.textMember("original_msg_id").flatMap { state.pending[MessageID($0)] }
            }
        }
        var complete: [MessageID] = []
        for (index, task) in tasks.enumerated() {
            guard let task else { continue }
            if task.take(reply: accepted[index].1) {
                complete.append(task.id)
            } else if !task.isDone {
                // Its output is on its way, unless something dropped it.
                self.eventLoop.scheduleTask(in: .seconds(5)) { task.giveUpOutput() }
            }
        }
        if !complete.isEmpty { self.forget(complete) }
    }

    func forget(_ ids: [MessageID]) {
        self.state.withLock { state in for id in ids { state.pending.removeValue(forKey: id) } }
    }

    private func takeOutput(_ message: Message) {
        guard let parent = MessageHeader.messageID(scanning: message.parent),
            let header = try? MessageHeader(scanning: message.header),
            let task = self.state.withLock({ $0.pending[parent] })
        else { return }
        if task.take(output: header.type, message) { self.forget([parent]) }
    }

    private func takeNotification(_ message: Message) {
        guard let header = try? MessageHeader(scanning: message.header), let content = try? JSONValue(parsing: message.content)
        else { return }
        switch header.type {
        case .registrationNotification:
            guard let id = content["id"]?.int, let uuid = content["uuid"]?.string else { return }
            self.withDirectory { $0.add(EngineID(id), EngineUUID(uuid), content) }
            self.announceChange()
        case .unregistrationNotification:
            guard let id = content["id"]?.int, let uuid = content["uuid"]?.string else { return }
            self.withDirectory { $0.remove(EngineID(id), EngineUUID(uuid)) }
            self.announceChange()
            // The engine's last replies come by another connection and may be read after this; they get a moment.
            self.eventLoop.scheduleTask(in: .milliseconds(100)) { self.failTasks(on: EngineUUID(uuid), EngineID(id)) }
        case .shutdownNotification:
            self.end(ApusError(.controllerGone, "the controller has shut down"), failingAfter: .milliseconds(200))
        default: break
        }
    }

    private func failTasks(on uuid: EngineUUID, _ id: EngineID) {
        let lost = self.state.withLock { state -> [PendingTask] in
            let lost = state.pending.values.filter { $0.targets.contains(uuid) }
            for task in lost { state.pending.removeValue(forKey: task.id) }
            return lost
        }
        for task in lost {
            task.fail(ApusError(.engineDied, "engine \(id) died while running task '\(task.id)'; the task gave no result"))
        }
    }

    // MARK: Ending

    private func end(_ reason: ApusError, failingAfter delay: TimeAmount) {
        self.state.withLock { state in
            if state.ended == nil { state.ended = reason }
            state.directory = EngineDirectory()
        }
        self.announceChange()
        self.eventLoop.scheduleTask(in: delay) { self.failEverything(reason) }
    }

    private func failEverything(_ reason: ApusError) {
        let lost = self.state.withLock { state in
            defer { state.pending = [:] }
            return Array(state.pending.values)
        }
        for task in lost { task.fail(reason) }
    }

    var pendingTasks: [PendingTask] { self.state.withLock { Array($0.pending.values) } }

    func withHistory<Result: Sendable>(_ body: (inout TaskHistory) -> Result) -> Result {
        self.state.withLock { body(&$0.history) }
    }

    /// The tasks of these ids that are pending, or whose results somebody still holds.
    func tasks(_ ids: Set<MessageID>) -> [MessageID: PendingTask] {
        self.state.withLock { state in
            var tasks = state.history.tasks(ids)
            for id in ids { if let task = state.pending[id] { tasks[id] = task } }
            return tasks
        }
    }

    func task(_ id: MessageID) -> PendingTask? { self.tasks([id])[id] }

    var ended: ApusError? { self.state.withLock { $0.ended } }

    /// Closes the sockets. Whoever waits for a result gets an error with code `closed`.
    func close(linger: Duration = .milliseconds(500)) async {
        let reason = ApusError(.closed, "the client was closed")
        let sockets = self.state.withLock { state in
            if state.ended == nil { state.ended = reason }
            defer {
                state.sockets = [:]
                state.subscribers = []
            }
            return Array(state.sockets.values) + state.subscribers
        }
        for socket in sockets { await socket.close(linger: .nanoseconds(Int64(linger / .nanoseconds(1)))) }
        self.failEverything(reason)
        self.announceChange()
    }
}
