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
    private let limits: MessageLimits
    private let eventLoop: any EventLoop
    /// How long the controller may be out of reach before those who wait are told.
    private let patience: Duration
    /// How long output may follow the reply that it belongs to.
    private let outputPatience: Duration
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
        /// Why no engine is coming, by the words of whoever starts them; nil while one may.
        var noEngineIsComing: String?
        var engineTimeout: Duration?
        /// Whether it has been said that tasks wait while no engine is registered. Said again after engines have been there.
        var hasWarnedOfNoEngines = false
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
        /// What has come: answers, and what is published.
        var replay = ReplayMemory(lanes: 2)
        var badMessages = 0
        var history = TaskHistory()
        var raisedErrors = RaisedErrors()
        /// Maps that send tasks as others end.
        var maps: [ObjectIdentifier: MapRun] = [:]
    }

    // MARK: Connecting

    /// Reaches the hub and then its other sockets.
    ///
    /// - Throws: ``ApusError`` with code `controllerUnreachable` when the hub does not answer in time.
    init(
        _ info: ClientConnectionInfo, transport: any Transport, eventLoop: any EventLoop, timeout: Duration, patience: Duration,
        outputPatience: Duration = .seconds(5), username: String?, maximumMessageSize: Int? = nil, logger: Logger
    ) async throws {
        let largest = maximumMessageSize ?? MessageSize.standard
        self.patience = patience
        self.outputPatience = outputPatience
        self.info = info
        self.logger = logger
        self.eventLoop = eventLoop
        let host: String
        do {
            let signer = try Signer(key: info.common.key, scheme: info.common.signatureScheme)
            self.session = Session(username: username ?? Session.currentUser, signer: signer)
            self.limits = MessageLimits(known: largest, strangers: MessageSize.strangers) { frames in
                guard let message = try? Message(frames: frames) else { return false }
                return signer.accepts(message.signature, for: message.parts)
            }
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
        let socket = transport.makeSocket(.dealer, options: SocketOptions(limits: self.limits), on: self.eventLoop) {
            [weak self] event in
            self?.handle(event, on: channel)
        }
        self.state.withLock { $0.sockets[channel] = socket }
        socket.connect(to: endpoint)
    }

    private func subscribe(_ name: String, at endpoint: Endpoint, _ transport: any Transport) {
        let socket = transport.makeSocket(.subscriber, options: SocketOptions(limits: self.limits), on: self.eventLoop) {
            [weak self] event in
            self?.handle(event, from: name)
        }
        self.state.withLock { $0.subscribers.append(socket) }
        socket.connect(to: endpoint)
    }

    private func everySocketIsConnected() async throws {
        while true {
            let change = self.nextEngineChange()
            let count = self.state.withLock { state in
                state.sockets.count + state.subscribers.count - state.connected.count
            }
            if count == 0 { return }
            try await change.wait(atMost: .milliseconds(500))
        }
    }

    /// The next change of engines or connections, from now on.
    struct EngineChange: Sendable {
        fileprivate let stream: AsyncStream<Void>

        /// Waits until there has been one, or the time is over.
        func wait(atMost time: Duration) async throws {
            _ = try await withDeadline(time) { for await _ in self.stream {} }
            try Task.checkCancellation()
        }
    }

    func nextEngineChange() -> EngineChange {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
        self.state.withLock { $0.engineWatchers.append { continuation.finish() } }
        return EngineChange(stream: stream)
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

    /// Asks the hub who is registered. Notifications that come meanwhile may be newer than the answer, and hold.
    func refreshEngines() async throws {
        let question = self.state.withLock { $0.directory.ask() }
        defer { self.state.withLock { $0.directory.close(question) } }
        let reply = try await self.request(.connectionRequest, content: [:], on: .query)
        let features = (reply["apus"]?["features"]?.array ?? []).compactMap {
            $0.string.flatMap { ControllerFeature(rawValue: $0) }
        }
        let isAnswer = self.state.withLock { state in
            state.features = Set(features)
            state.noEngineIsComing = reply["apus"]?["no_engine_is_coming"]?.string
            let isAnswer = state.directory.take(reply, to: question)
            if !state.directory.engines.isEmpty { state.hasWarnedOfNoEngines = false }
            return isAnswer
        }
        guard isAnswer else {
            throw ApusError(.hubError, "the hub answered a connection request without a list of engines")
        }
        self.announceChange()
        self.warnOfNoEnginesSoon()
    }

    private func take(_ news: EngineDirectory.News) {
        self.state.withLock { state in
            state.directory.take(news)
            if !state.directory.engines.isEmpty { state.hasWarnedOfNoEngines = false }
        }
        self.announceChange()
        self.warnOfNoEnginesSoon()
    }

    /// A moment after the last engine has gone: what it had may end with it, and another may take its place.
    private func warnOfNoEnginesSoon() {
        guard self.state.withLock({ $0.directory.engines.isEmpty && !$0.pending.isEmpty && !$0.hasWarnedOfNoEngines }) else {
            return
        }
        self.eventLoop.scheduleTask(in: .seconds(1)) { [weak self] in self?.warnOfNoEngines() }
    }

    /// Says once, until engines have been there again, that tasks wait while there are none.
    private func warnOfNoEngines() {
        let waiting = self.state.withLock { state -> Int in
            guard state.directory.engines.isEmpty, !state.hasWarnedOfNoEngines, state.ended == nil, state.lost[.query] == nil
            else {
                return 0
            }
            let count = state.pending.values.count { $0.channel == .task && !$0.isDone }
            if count > 0 { state.hasWarnedOfNoEngines = true }
            return count
        }
        guard waiting > 0 else { return }
        self.logger.warning(
            "\(NoEngineText.isRegistered): \(waiting) task\(waiting == 1 ? " waits" : "s wait") for one; \(NoEngineText.remedy)")
    }

    /// Whether there is no engine and something that has not ended waits for one: a load-balanced task, or a map that has yet to send some.
    func lacksEngines(for tasks: [PendingTask], isMap: Bool) -> Bool {
        self.engines.isEmpty && (isMap || tasks.contains { $0.channel == .task && !$0.isDone })
    }

    var noEngineIsComing: String? { self.state.withLock { $0.noEngineIsComing } }

    /// See ``Client/engineTimeout``.
    var engineTimeout: Duration? {
        get { self.state.withLock { $0.engineTimeout } }
        set { self.state.withLock { $0.engineTimeout = newValue } }
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
            id: id, targets: target.map { [$0] } ?? [], submitted: now,
            // Of what is no work the reply is all that comes.
            outputPolicy: !channel.takesTasks ? .ignored : waitsForOutput ? .awaited : .counted, limitedOn: limitedOn,
            channel: channel, requestBytes: buffers.reduce(0) { $0 + $1.readableBytes })
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
        let (ended, mustSchedule, mustWarn) = self.state.withLock { state -> (ApusError?, Bool, Bool) in
            if let ended = state.ended { return (ended, false, false) }
            for task in tasks { state.pending[task.id] = task }
            if channel.takesTasks { for task in tasks { state.history.append(task) } }
            state.outbound.append((channel: channel, frames: message.frames))
            defer { state.drainIsScheduled = true }
            return (nil, !state.drainIsScheduled, channel == .task && state.directory.engines.isEmpty)
        }
        if let ended { for task in tasks { task.fail(ended) } }
        if mustWarn { self.warnOfNoEngines() }
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
        // Also where the asker is cancelled: nobody else waits for this answer.
        defer { self.forget([task.id]) }
        try await task.wait()
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
            self.takeReplies(messages, from: channel)
        case .tooLarge(let frames, let limit): self.failTooLarge(frames, limit: limit)
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
                guard let message = self.accept(frames),
                    self.state.withLock({ $0.replay.remember(message.signature, lane: 1) })
                else { continue }
                if subscriber == "iopub" { self.takeOutput(message) } else { self.takeNotification(message) }
            }
        case .tooLarge(_, let limit):
            self.logger.warning("\(MessageSize.refusal(limit: limit))", metadata: ["socket": "\(subscriber)"])
        case .peerConnected:
            let isBack = !self.noteConnected(subscriber)
            // What was published meanwhile is lost.
            if isBack, subscriber == "notification" { self.refreshEnginesSoon() }
        case .peerDisconnected: self.logger.debug("connection lost", metadata: ["socket": "\(subscriber)"])
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "\(subscriber)"])
        }
    }

    /// False when it was connected before.
    @discardableResult
    private func noteConnected(_ name: String) -> Bool {
        let isNew = self.state.withLock { $0.connected.insert(name).inserted }
        self.announceChange()
        return isNew
    }

    private func refreshEnginesSoon() {
        Task {
            do { try await self.refreshEngines() } catch {
                self.logger.debug("who is registered now could not be asked: \(error)")
            }
        }
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
        self.eventLoop.scheduleTask(in: TimeAmount(clamping: self.patience)) { [weak self] in
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

    private func takeReplies(_ messages: [[ByteBuffer]], from channel: Channel) {
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
                if let task = state.pending[id] {
                    // Who the hub is, only a signed and new answer to a question of ours can say.
                    if channel == .query, let session = message.header.textMember("session") { state.hubSession = session }
                    return task
                }
                // Replies that became one answer the request; each of them had a copy of it for its parent.
                return message.metadata.textMember("original_msg_id").flatMap { state.pending[MessageID($0)] }
            }
        }
        var complete: [MessageID] = []
        var incomplete: [PendingTask] = []
        for (index, task) in tasks.enumerated() {
            guard let task else { continue }
            if task.take(reply: accepted[index].1) { complete.append(task.id) } else { incomplete.append(task) }
        }
        if !complete.isEmpty { self.forget(complete) }
        if !incomplete.isEmpty { self.giveUpOutput(of: incomplete) }
    }

    /// Waits a while for output that follows a reply, and then no longer: something may have dropped it, or an engine died between the
    /// two. Tasks whose results are there already, for nobody needs their output, are kept as long and no longer.
    private func giveUpOutput(of tasks: [PendingTask]) {
        self.eventLoop.scheduleTask(in: .nanoseconds(Int64(self.outputPatience / .nanoseconds(1)))) { [weak self] in
            for task in tasks { task.giveUpOutput() }
            self?.forget(tasks.map { $0.id })
        }
    }

    /// Tells whoever waits for an answer that it is larger than this client takes.
    private func failTooLarge(_ frames: [ByteBuffer], limit: Int) {
        guard let message = self.accept(frames), let id = MessageHeader.messageID(scanning: message.parent) else { return }
        let task = self.state.withLock { state in
            state.pending.removeValue(forKey: id)
                ?? message.metadata.textMember("original_msg_id").flatMap { state.pending.removeValue(forKey: MessageID($0)) }
        }
        task?.fail(
            ApusError(.badResult, "the result of task '\(task?.id ?? id)' cannot be taken: \(MessageSize.refusal(limit: limit))"))
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
            self.take(.added(EngineID(id), EngineUUID(uuid), content))
        case .unregistrationNotification:
            guard let id = content["id"]?.int, let uuid = content["uuid"]?.string else { return }
            self.take(.removed(EngineID(id), EngineUUID(uuid)))
            // The engine's last replies come by another connection and may be read after this; they get a moment. An engine
            // that comes back under the uuid has what is sent to it from now on.
            let lost = self.tasks(on: EngineUUID(uuid))
            self.eventLoop.scheduleTask(in: .milliseconds(100)) { self.failTasks(lost, on: EngineID(id)) }
        case .shutdownNotification:
            self.end(ApusError(.controllerGone, "the controller has shut down"), failingAfter: .milliseconds(200))
        default: break
        }
    }

    private func tasks(on uuid: EngineUUID) -> [MessageID] {
        self.state.withLock { $0.pending.values.filter { $0.targets.contains(uuid) }.map(\.id) }
    }

    private func failTasks(_ ids: [MessageID], on id: EngineID) {
        let lost = self.state.withLock { state in ids.compactMap { state.pending.removeValue(forKey: $0) } }
        for task in lost {
            task.fail(ApusError(.engineDied, "engine \(id) died while running task '\(task.id)'; the task gave no result"))
        }
    }

    // MARK: Ending

    private func end(_ reason: ApusError, failingAfter delay: TimeAmount) {
        self.state.withLock { state in
            if state.ended == nil { state.ended = reason }
            state.directory.removeAll()
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

    /// Notes that a map will send tasks as others end, until it is finished.
    func began(_ map: MapRun) { self.state.withLock { $0.maps[ObjectIdentifier(map)] = map } }
    func finished(_ map: MapRun) { self.state.withLock { _ = $0.maps.removeValue(forKey: ObjectIdentifier(map)) } }
    /// Maps some of whose calls have no outcome.
    var maps: [MapRun] { self.state.withLock { Array($0.maps.values) } }

    func withRaisedErrors<Result: Sendable>(_ body: (inout RaisedErrors) -> Result) -> Result {
        self.state.withLock { body(&$0.raisedErrors) }
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
        for socket in sockets { await socket.close(linger: TimeAmount(clamping: linger)) }
        self.failEverything(reason)
        self.announceChange()
    }
}
