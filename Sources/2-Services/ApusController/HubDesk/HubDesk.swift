import ApusCore
import ApusStore
import ApusWire
import Logging
import NIOCore

/// The registered engines, and how earlier ones ended. Every desk may read the roster; only the hub desk, in this file, changes
/// it.
final class EngineRoster {
    fileprivate var hub: Hub
    /// Each registered engine's identity and id, kept so that not every message has to make bytes of a text.
    fileprivate var names: [EngineUUID: (identity: ByteBuffer, id: EngineID)] = [:]
    private let logger: Logger

    init(_ options: ControllerOptions, logger: Logger) {
        self.hub = Hub(
            registry: EngineRegistry(
                heartbeatPeriod: .milliseconds(options.heartbeatPeriod),
                registrationTimeout: options.registrationTimeout.map { .seconds($0) }),
            hearts: HeartMonitor(period: .milliseconds(options.heartbeatPeriod), allowedMisses: options.maximumMisses))
        self.logger = logger
    }

    func isRegistered(_ engine: EngineUUID) -> Bool { self.names[engine] != nil }
    /// The identity of a registered engine's sockets.
    func identity(of engine: EngineUUID) -> ByteBuffer? { self.names[engine]?.identity }
    /// The engine's name in messages for people.
    func name(of engine: EngineUUID) -> String { self.names[engine].map { "engine \($0.id)" } ?? "engine '\(engine)'" }
    /// The place whose memory the engine can map (``SharedMemory/place``); nil for none.
    func memoryPlace(of engine: EngineUUID) -> String? { self.hub.registry[engine]?.memoryPlace }

    /// Registered engines, in order of id.
    var all: [EngineRegistry.Engine] { self.hub.registry.engines }
    var state: EngineRegistry.State { self.hub.registry.state }
    subscript(engine: EngineUUID) -> EngineRegistry.Engine? { self.hub.registry[engine] }

    /// Whether a reply of the engine may still be passed on. A reply of an engine that was given up comes too late: its client
    /// was told that the engine is gone, or has the reply of another engine.
    func isTimely(_ reply: Message, from engine: @autoclosure () -> EngineUUID) -> Bool {
        guard self.hub.registry.remembersAny, case let engine = engine(), self.hub.registry.hasGivenUp(engine) else {
            return true
        }
        self.logger.debug(
            "a late answer was dropped",
            metadata: ["uuid": "\(engine)", "parent": "\(MessageHeader.messageID(scanning: reply.parent)?.text ?? "?")"])
        return false
    }

    /// Why a task that an engine held has no result (protocol article, "An engine's end").
    func died(_ uuid: EngineUUID, _ task: TaskID, _ function: String?, tries: Int?) -> ErrorContent {
        let why = self.hub.registry.departure(of: uuid).map { ": \($0.report)" } ?? ""
        return ErrorContent(
            .engineError, "\(self.lastName(of: uuid)) died while running \(Self.text(task, function, tries))\(why)")
    }

    /// Why a task that an engine may have run for the controller before this one has no result.
    func lostAnswer(_ uuid: EngineUUID, _ task: TaskID, _ function: String?, tries: Int?) -> ErrorContent {
        ErrorContent(
            .engineError,
            "\(self.lastName(of: uuid)) may have run \(Self.text(task, function, tries)); "
                + "the answer was lost with the controller, which was killed")
    }

    /// Why a request to one engine was not delivered: the engine is gone, and its client had not heard of that yet, or this
    /// controller never had such an engine.
    func undelivered(to uuid: EngineUUID, _ task: TaskID, _ function: String?) -> ErrorContent {
        let what = Self.text(task, function, nil)
        guard let departure = self.hub.registry.departure(of: uuid) else {
            return ErrorContent(.engineError, "\(self.lastName(of: uuid)) is not registered; \(what) was not delivered")
        }
        return ErrorContent(
            .engineError, "\(self.lastName(of: uuid)) was gone before \(what) could be delivered: \(departure.report)")
    }

    private func lastName(of uuid: EngineUUID) -> String {
        self.hub.registry.lastID(of: uuid).map { "engine \($0)" } ?? "engine '\(uuid)'"
    }

    private static func text(_ task: TaskID, _ function: String?, _ tries: Int?) -> String {
        let times = tries.map { $0 == 1 ? ", tried once" : ", tried \($0) times" } ?? ""
        return function.map { "\($0) (task '\(task)'\(times))" } ?? "task '\(task)'\(times)"
    }
}

/// Registers engines, watches their hearts and connections, and answers queries (protocol article, "Registration sequence",
/// "Heartbeat" and "Queries"). When an engine comes or goes, the desk tells the desks that give it work, and then the clients.
final class HubDesk {
    private let engines: EngineRoster
    private let tasks: TaskDesk
    private let direct: DirectDesk
    private let broadcasts: BroadcastDesk
    private let dask: DaskDesk
    private let session: ControllerSession
    private let gate: Gate
    private let recorder: Recorder
    private let records: RecordQueries
    private let registration: Outlet
    private let heartbeatPing: Outlet
    private let heartbeatPong: Outlet
    private let control: Outlet
    /// Where engines are sent to, which must know who is registered.
    private let engineSide: [Outlet]
    private let options: ControllerOptions
    private let work: LoopTasks
    private let loop: any EventLoop
    private let logger: Logger
    /// Called when an engine comes or goes, for the code that launched it.
    private let onPresence: (@Sendable (EnginePresence) -> Void)?
    /// Ends the controller.
    private let stop: @Sendable () -> Void

    /// When this desk was made, and with it the controller.
    private let began = NIODeadline.now()
    private let notices: EngineNotices
    private let file: EnginesFile
    /// The identities to which the reply to each registration goes, until the hub has decided.
    private var registrations: [EngineUUID: [ByteBuffer]] = [:]
    private var timers: [Hub.Timer: Scheduled<Void>] = [:]
    /// The addresses that a registration's reply has for engines and clients; nil until the sockets are bound.
    private var addresses: (client: ClientConnectionInfo, engine: EngineConnectionInfo)?

    init(
        _ options: ControllerOptions, engines: EngineRoster, tasks: TaskDesk, direct: DirectDesk, broadcasts: BroadcastDesk,
        dask: DaskDesk, session: ControllerSession, gate: Gate, recorder: Recorder, store: any TaskStore, outlets: Outlets,
        work: LoopTasks,
        on loop: any EventLoop, logger: Logger, onStateChange: (@Sendable (EngineRegistry.State) -> Void)?,
        onPresence: (@Sendable (EnginePresence) -> Void)?, stop: @escaping @Sendable () -> Void
    ) {
        self.options = options
        self.engines = engines
        self.tasks = tasks
        self.direct = direct
        self.broadcasts = broadcasts
        self.dask = dask
        self.session = session
        self.gate = gate
        self.recorder = recorder
        self.records = RecordQueries(store, engines: engines, tasks: tasks)
        self.registration = outlets.registration
        self.heartbeatPing = outlets.heartbeatPing
        self.heartbeatPong = outlets.heartbeatPong
        self.control = outlets.controlEngine
        self.engineSide = outlets.engineSide
        self.work = work
        self.loop = loop
        self.logger = logger
        self.onPresence = onPresence
        self.stop = stop
        self.notices = EngineNotices(session: session, outlet: outlets.notification, on: loop)
        self.file = EnginesFile(engines, on: loop, write: onStateChange)
    }

    // MARK: Life

    /// Starts the heartbeat, and answers registrations from now on with these addresses.
    func begin(_ client: ClientConnectionInfo, _ engine: EngineConnectionInfo) {
        self.addresses = (client, engine)
        self.handle(.timerFired(.hearts))
    }

    /// Expects the engines of an earlier controller, which reconnect but do not register again. Each gets its id back once it can
    /// be reached; one that does not come is forgotten, as after any registration.
    ///
    /// - Parameter withTasks: Whether their tasks will be restored, and they are to say what they hold.
    func restore(_ state: EngineRegistry.State, withTasks: Bool) {
        self.engines.hub.skipIDs(below: state.nextID)
        for (id, uuid) in state.engines {
            guard let number = Int(id), number >= 0 else { continue }
            let words = EngineWords(state.announcements[uuid], known: self.notices.lastAbilities)
            var request = words.request(EngineUUID(uuid), wantedID: EngineID(number))
            request.isExpected = withTasks
            if withTasks {
                self.tasks.expect(request.uuid, request.abilities)
                self.direct.expect(request.uuid, reports: state.announcements[uuid]?["reports"]?.bool == true)
            }
            self.handle(.registry(.registrationRequested(request)))
        }
    }

    /// An engine has said what it holds of what the controller before this one gave it.
    func takeReport(_ message: Message, from engine: EngineUUID) {
        guard let report = (try? JSONValue(parsing: message.content)).flatMap({ EngineReport($0) }) else {
            return self.gate.drop("an engine's report is torn", at: .controlEngine)
        }
        self.tasks.take(report, from: engine)
    }

    /// Has the list of engines written if it has changed.
    func close() { self.file.save() }

    // MARK: Requests

    /// Handles a request to the registration socket.
    func take(_ request: VerifiedRequest) {
        let (message, header) = (request.message, request.header)
        guard let content = try? JSONValue(parsing: message.content) else {
            return self.gate.drop("a content is torn", at: .registration)
        }
        switch header.type {
        case .registrationRequest: self.register(message, content)
        case .unregistrationRequest:
            // The names that our socket gives peers without one begin with a zero byte.
            let name = message.identities.first.flatMap { $0.readableBytesView.first == 0 ? nil : EngineUUID(String(buffer: $0)) }
            self.handle(.registry(.unregistrationRequested(content["id"]?.int.map { EngineID($0) }, by: name)))
        case .functionsRequest: self.answer(message, header) { try self.describe(content) }
        case .connectionRequest, .queueRequest, .loadRequest, .uptimeRequest:
            let queries = HubQueries(engines: self.engines, tasks: self.tasks, direct: self.direct)
            self.answer(message, header) {
                switch header.type {
                case .connectionRequest: queries.connection(self.options)
                case .queueRequest: try queries.queueStatus(content)
                case .uptimeRequest: queries.uptime(since: self.began)
                default: try queries.loads(content)
                }
            }
        // Only requests to engines have `restart`.
        case .shutdownRequest where content["restart"] != nil:
            self.gate.drop("a request to shut down is an engine's", at: .registration)
        case .shutdownRequest: self.shutDown(message, header)
        case .historyRequest, .resultRequest, .databaseRequest, .purgeRequest, .resubmitRequest:
            self.recorder.flush()
            self.work.start(for: self) { await $0.answerFromRecords(message, header, content) }
        case .becomeDaskRequest, .stopDistributedRequest: self.dask.take(message, header, content)
        default:
            let error = ErrorContent(.keyError, "Bad Message Type: '\(header.type)'")
            self.answer(message, header, type: .hubError, error.json)
        }
    }

    private func answer(
        _ request: Message, _ header: MessageHeader, type: MessageType? = nil, _ content: JSONObject, buffers: [ByteBuffer] = []
    ) {
        let reply = self.session.message(
            type ?? header.type.reply, identities: Array(request.identities), parent: request.header, content: content,
            buffers: buffers)
        self.registration.send(reply.frames)
    }

    /// Sends an answer, or a `hub_error` where making the answer throws, as ipyparallel's hub does for bad targets.
    private func answer(_ request: Message, _ header: MessageHeader, _ make: () throws -> JSONObject) {
        do {
            self.answer(request, header, try make())
        } catch let error as HubRequestError {
            self.answer(request, header, type: .hubError, error.content.json)
        } catch {
            self.answer(request, header, type: .hubError, ErrorContent(name: "RuntimeError", value: "\(error)").json)
        }
    }

    private func register(_ message: Message, _ content: JSONValue) {
        guard let uuid = content["uuid"]?.string, !uuid.isEmpty else {
            return self.gate.drop("a registration request names no uuid", at: .registration)
        }
        let words = EngineWords(content["apus"], known: self.notices.lastAbilities)
        var request = words.request(EngineUUID(uuid), wantedID: content["id"]?.int.map { EngineID($0) })
        if let process = content["apus"]?["pid"]?.int, let host = content["apus"]?["host"]?.string {
            request.process = "\(host) \(process)"
        }
        request.replaces = content["apus"]?["replaces"]?.bool ?? false
        self.registrations[request.uuid] = Array(message.identities)
        self.handle(.registry(.registrationRequested(request)))
    }

    /// Handles an engine's message that it now has other functions than at its registration.
    private func describe(_ content: JSONValue) throws -> JSONObject {
        let uuid = EngineUUID(content["uuid"]?.string ?? "")
        guard let functions = content["functions"], functions.array != nil else {
            throw HubRequestError(.valueError, "the request has no list of functions")
        }
        guard case .object(var words)? = self.engines.hub.registry.announcement(of: uuid) else {
            throw HubRequestError(.keyError, "no engine of Apus has the uuid '\(uuid)'")
        }
        words["functions"] = functions
        let abilities = EngineWords(.object(words), known: self.notices.lastAbilities).abilities
        self.handle(.registry(.abilitiesChanged(uuid, abilities, announcement: .object(words))))
        return ["status": "ok"]
    }

    private func shutDown(_ message: Message, _ header: MessageHeader) {
        self.logger.info("a client asked the controller to shut down")
        self.answer(message, header, ["status": "ok"])
        self.registration.flush()
        self.notices.controllerEnds(message)
        // ipyparallel's peers expect that for about a second the engines' last messages and this notice are still delivered.
        self.loop.assumeIsolated().scheduleTask(in: .seconds(1)) { [stop] in stop() }
    }

    /// Answers a request about task records.
    private nonisolated(nonsending) func answerFromRecords(_ message: Message, _ header: MessageHeader, _ content: JSONValue)
        async
    {
        let answer = await self.records.answer(to: header.type, content)
        self.answer(message, header, answer.content, buffers: answer.buffers)
        self.registration.flush()
    }

    // MARK: Signs of life

    /// Handles the answer to a ping: `[engine, text]`, or `[engine, text, signature]` from an engine that signs it.
    func takePong(_ frames: [ByteBuffer]) {
        guard (2...3).contains(frames.count) else {
            return self.gate.drop("a heartbeat has \(frames.count) frames", at: .heartbeatPong)
        }
        let uuid = EngineUUID(String(buffer: frames[0]))
        let isSigned = frames.count == 3 && self.session.signer.accepts(heart: frames[2], of: uuid.text, ping: frames[1])
        self.handle(.heartBeat(uuid, ping: String(buffer: frames[1]), isSigned: isSigned))
    }

    func connected(_ identity: ByteBuffer, by line: EngineConnections.Line) {
        self.handle(.connected(EngineUUID(String(buffer: identity)), line))
    }

    func disconnected(_ identity: ByteBuffer, by line: EngineConnections.Line) {
        self.handle(.disconnected(EngineUUID(String(buffer: identity)), line))
    }

    /// Handles a client that has subscribed to notifications.
    func subscriberConnected() { self.notices.announceAgain(self.engines) }

    // MARK: Signs of an engine's end

    /// Whether a reply of the engine may still be passed on.
    func isTimely(_ reply: Message, from engine: EngineUUID) -> Bool { self.engines.isTimely(reply, from: engine) }

    /// Looks for an engine's end in its control reply, before the reply is passed on: the engine must get no further task once
    /// its client knows of the end.
    func look(at reply: Message, from engine: EngineUUID) {
        guard (try? MessageHeader(scanning: reply.header))?.type == .shutdownReply,
            let content = try? JSONValue(parsing: reply.content), content["status"] == "ok", content["restart"] != true
        else { return }
        self.engineSaidGoodbye(engine)
    }

    /// Handles the message of an engine, or its nanny, that the engine shuts down.
    func engineSaidGoodbye(_ engine: EngineUUID) { self.handle(.registry(.shutdownReplySeen(engine))) }

    /// Handles a launcher's report of how an engine's process ended.
    func engineProcessEnded(_ engine: EngineUUID, _ end: EngineEnd) { self.handle(.registry(.processEnded(engine, end))) }

    /// Handles an engine's own message that its process ends, and how.
    func takeLastWords(_ message: Message, from engine: EngineUUID) {
        guard let header = try? MessageHeader(scanning: message.header), header.session == engine.text,
            let content = try? JSONValue(parsing: message.content)
        else { return self.gate.drop("an engine's last words are not its own", at: .taskEngine) }
        let end = EngineEnd(content)
        // The engine's last replies to direct requests come by other connections, and may not have been read yet.
        self.loop.assumeIsolated().scheduleTask(in: .milliseconds(1)) { [weak self] in
            self?.handle(.registry(.ended(engine, end)))
        }
    }

    /// Looks for contradictions in what the core keeps; for tests.
    func checkInvariants() throws {
        try self.engines.hub.checkInvariants()
        let registered = Set(self.engines.all.map { $0.uuid })
        guard registered == Set(self.engines.names.keys) else {
            throw BrokenInvariant(description: "engines have names that are not registered, or the other way round")
        }
    }

    // MARK: Effects

    private func handle(_ event: Hub.Event) {
        let now = MonotonicTime(nanoseconds: self.loop.now.uptimeNanoseconds)
        for effect in self.engines.hub.handle(event, at: now) { self.perform(effect) }
    }

    private func perform(_ effect: Hub.Effect) {
        switch effect {
        case .accept(let id, let uuid): self.acceptRegistration(uuid, id)
        case .refuse(let uuid): self.refuseRegistration(uuid)
        case .cutConnections(let uuid):
            let identity = ByteBuffer(string: uuid.text)
            self.direct.cut(identity)
            self.tasks.cut(identity)
            self.broadcasts.cut(identity)
            self.heartbeatPong.disconnect(identity)
        case .announce(let engine): self.announce(engine)
        case .describe(let engine): self.tasks.engineChanged(engine)
        case .retire(let engine): self.tasks.engineRetired(engine.uuid)
        case .withdraw(let engine, let departure): self.withdraw(engine, departure)
        case .strand(let engine):
            self.tasks.engineLeft(engine.uuid)
            self.tasks.directRequestsLost(self.direct.strandRequests(of: engine.uuid))
        case .dropExpected(let uuid):
            self.tasks.engineLeft(uuid)
            self.tasks.directRequestsLost(self.direct.answerRequests(of: uuid))
        case .saveState: self.file.saveSoon()
        case .ping(let text):
            self.heartbeatPing.send([ByteBuffer(string: text)])
            self.heartbeatPing.flush()
        case .askToRegister(let uuid):
            let message = self.session.message(
                .registerAgainRequest, identities: [ByteBuffer(string: uuid.text), ControllerSession.identity],
                content: ["uuid": .string(uuid.text)])
            self.control.send(message.frames)
        case .dropHeartBeat: self.gate.drop("a heartbeat is not signed by its engine", at: .heartbeatPong)
        case .setTimer(let timer, let time):
            self.timers[timer]?.cancel()
            self.timers[timer] = self.loop.assumeIsolated().scheduleTask(deadline: .uptimeNanoseconds(time.nanoseconds)) {
                [weak self] in self?.handle(.timerFired(timer))
            }
        }
    }

    private func acceptRegistration(_ uuid: EngineUUID, _ id: EngineID) {
        guard let identities = self.registrations.removeValue(forKey: uuid), let addresses else { return }
        // The clients' addresses are for functions that submit tasks of their own. The key is left out, for an engine has it.
        var client = addresses.client.json.object ?? [:]
        client["key"] = nil
        let reply = self.session.message(
            .registrationReply, identities: identities,
            content: [
                "id": .int(id.number), "status": "ok", "hb_period": .int(self.options.heartbeatPeriod),
                "connection_info": .object(addresses.engine.addresses),
                "apus": ["client": .object(client), "heart": .string(HeartAnswer.signed.rawValue)],
            ])
        self.registration.send(reply.frames)
        self.registration.flush()
    }

    private func refuseRegistration(_ uuid: EngineUUID) {
        guard let identities = self.registrations.removeValue(forKey: uuid) else { return }
        let error = ErrorContent(
            .keyError, "uuid '\(uuid)' is already registered; an engine needs a new one at each start")
        let reply = self.session.message(.registrationReply, identities: identities, content: error.json)
        self.registration.send(reply.frames)
    }

    private func announce(_ engine: EngineRegistry.Engine) {
        let identity = ByteBuffer(string: engine.uuid.text)
        self.engines.names[engine.uuid] = (identity, engine.id)
        for outlet in self.engineSide { outlet.note(.registered(identity)) }
        self.direct.engineJoined(engine.uuid)
        self.logger.info("engine \(engine.id) registered", metadata: ["uuid": "\(engine.uuid)"])
        self.tasks.engineJoined(engine)
        self.broadcasts.engineJoined(engine.uuid)
        self.notices.engineJoined(engine)
        self.onPresence?(.joined(engine.uuid, engine.id))
    }

    private func withdraw(_ engine: EngineRegistry.Engine, _ departure: EngineRegistry.Departure) {
        self.engines.names[engine.uuid] = nil
        for outlet in self.engineSide { outlet.note(.withdrawn(ByteBuffer(string: engine.uuid.text))) }
        self.logger.info("engine \(engine.id) is gone", metadata: ["uuid": "\(engine.uuid)", "reason": "\(departure)"])
        let hadWork = !self.tasks.assigned(to: engine.uuid).isEmpty || self.direct.queueCount(of: engine.uuid) > 0
        defer { self.onPresence?(.left(engine.uuid, departure, hadWork: hadWork)) }
        // The scheduler first, so that a task's end is sent before the notice of its engine's end.
        guard !departure.mayStillAnswer else {
            self.tasks.engineRetired(engine.uuid)
            self.broadcasts.engineLeft(engine, departure)
            return self.notices.engineLeft(engine)
        }
        var begun: Set<TaskID>?
        if case .ended(let end) = departure { begun = end.begun }
        self.tasks.engineLeft(engine.uuid, begun: begun)
        let answered = self.direct.answerRequests(of: engine.uuid)
        self.tasks.directRequestsLost(answered)
        self.broadcasts.engineLeft(engine, departure)
        // At the notice clients end their direct requests by themselves, so it is delayed: the replies that say why come by other
        // connections.
        self.notices.engineLeft(engine, after: answered.isEmpty ? .zero : .milliseconds(10))
    }
}
