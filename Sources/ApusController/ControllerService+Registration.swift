package import ApusCore
import ApusStore
import ApusTransport
import ApusWire
import DequeModule
import Logging
import NIOCore

// Engines come and go: registration, hearts, connections (protocol article, "Registration sequence" and "Heartbeat").
extension ControllerService {
    // MARK: Requests

    func register(_ message: Message, _ content: JSONValue) {
        guard let uuid = content["uuid"]?.string, !uuid.isEmpty else {
            return self.dropped("a registration request names no uuid", at: .registration)
        }
        var request = self.request(EngineUUID(uuid), content["id"]?.int.map { EngineID($0) }, content["apus"])
        if let process = content["apus"]?["pid"]?.int, let host = content["apus"]?["host"]?.string {
            request.process = "\(host) \(process)"
        }
        request.replaces = content["apus"]?["replaces"]?.bool ?? false
        self.registrations[request.uuid] = Array(message.identities)
        self.perform(self.registry.handle(.registrationRequested(request), at: self.now))
    }

    /// - Parameter apus: What the engine says of itself; nil from ipyparallel's.
    private func request(_ uuid: EngineUUID, _ wantedID: EngineID?, _ apus: JSONValue?) -> EngineRegistry.Request {
        // Without what differs from engine to engine: most say the same.
        let words = apus?.object?.filter { !["pid", "host", "replaces"].contains($0.key) }
        return EngineRegistry.Request(
            uuid, wantedID: wantedID, understandsRecall: apus?["recall"]?.bool ?? false, abilities: self.abilities(in: apus),
            resources: ResourceAmounts.reading(apus?["resources"] ?? .null), memoryPlace: apus?["memory"]?.string,
            announcement: words.map { .object($0) })
    }

    /// What the engine can run by its own words.
    private func abilities(in apus: JSONValue?) -> EngineAbilities {
        guard let apus, let python = apus["python"]?.bool else { return .stock }
        var names: Set<String> = []
        for function in apus["functions"]?.array ?? [] {
            // It is found by its whole name, and by what is left of it behind each dot.
            var name = (function.string ?? "")[...]
            while !name.isEmpty {
                names.insert(String(name))
                name = name.firstIndex(of: ".").map { name[name.index(after: $0)...] } ?? ""
            }
        }
        let abilities = EngineAbilities(runsPython: python, functions: names, build: apus["build"]?.string)
        // Engines of one program share one set of names.
        if let known = self.announcements.last?.engine.abilities, known == abilities { return known }
        return abilities
    }

    /// An engine has other functions than it said when it registered.
    func describe(_ content: JSONValue) throws -> JSONObject {
        let uuid = EngineUUID(content["uuid"]?.string ?? "")
        guard let functions = content["functions"], functions.array != nil else {
            throw HubRequestError(.valueError, "the request has no list of functions")
        }
        guard case .object(var words)? = self.registry.announcement(of: uuid) else {
            throw HubRequestError(.keyError, "no engine of Apus has the uuid '\(uuid)'")
        }
        words["functions"] = functions
        let changed = EngineRegistry.Event.abilitiesChanged(
            uuid, self.abilities(in: .object(words)), announcement: .object(words))
        self.perform(self.registry.handle(changed, at: self.now))
        return ["status": "ok"]
    }

    func unregister(_ content: JSONValue) {
        self.perform(self.registry.handle(.unregistrationRequested(content["id"]?.int.map { EngineID($0) }), at: self.now))
    }

    /// Expects the engines of an earlier controller, which reconnect but do not register again: each has its id as soon as it
    /// is reachable, and is forgotten like any that registers and does not come.
    package func restore(_ state: EngineRegistry.State) {
        self.registry.skipIDs(below: state.nextID)
        for (id, uuid) in state.engines {
            guard let number = Int(id), number >= 0 else { continue }
            let request = self.request(EngineUUID(uuid), EngineID(number), state.announcements[uuid])
            self.perform(self.registry.handle(.registrationRequested(request), at: self.now))
        }
    }

    /// `[engine, text]`, the answer to a ping; from an engine that signs them `[engine, text, signature]`.
    func takePong(_ frames: [ByteBuffer]) {
        guard (2...3).contains(frames.count) else {
            return self.dropped("a heartbeat has \(frames.count) frames", at: .heartbeatPong)
        }
        let uuid = EngineUUID(String(buffer: frames[0]))
        // Whoever connects to the port can repeat a ping. Stock engines do no more; ours bind it to themselves.
        let isSigned =
            frames.count == 3 && self.session.signer.accepts(heart: frames[2], of: uuid.text, ping: frames[1])
        guard self.registry.knows(uuid) else {
            // Only an engine of ours that has the key is worth an answer.
            return isSigned ? self.askToRegister(uuid, identity: frames[0]) : ()
        }
        if !isSigned, self.registry.announcement(of: uuid)?["heart"]?.string == HeartAnswer.signed.rawValue {
            return self.dropped("a heartbeat is not signed by its engine", at: .heartbeatPong)
        }
        self.perform(self.heart.handle(.answered(uuid, String(buffer: frames[1])), at: self.now))
    }

    /// Whether the engine may answer still. What one that was given up sends comes too late, for whoever asked was told that it is
    /// gone, or has the answer of another.
    func isTimely(_ reply: Message, from engine: @autoclosure () -> EngineUUID) -> Bool {
        guard self.registry.remembersAny, case let engine = engine(), self.registry.hasGivenUp(engine) else { return true }
        self.logger.debug(
            "a late answer was dropped",
            metadata: ["uuid": "\(engine)", "parent": "\(MessageHeader.messageID(scanning: reply.parent)?.text ?? "?")"])
        return false
    }

    /// Tells an engine that answers pings, and that nobody knows, to register again: it was given up and lives, or this controller
    /// took the place of one that knew it. Stock engines pass over the message.
    private func askToRegister(_ uuid: EngineUUID, identity: ByteBuffer) {
        let pongs = self.strangers[uuid, default: 0] + 1
        self.strangers[uuid] = pongs
        // The first may come before its control socket has connected again. A stock engine logs each, so they become rare.
        guard pongs <= 8 || pongs.nonzeroBitCount == 1 else { return }
        let message = self.session.message(
            .registerAgainRequest, identities: [identity, Self.ownIdentity], content: ["uuid": .string(uuid.text)])
        self.send(message.frames, on: .controlEngine)
    }

    /// Begins to ping.
    func beat() { self.perform(self.heart.handle(.timerFired, at: self.now)) }

    // MARK: Connections

    /// The sockets whose connections show that an engine's own process lives; its control socket may be a helper's.
    private static let vital: Set<ControllerSocket> = [.muxEngine, .taskEngine, .heartbeatPong]
    /// Those among them that prove it: at the heartbeat port anyone may have taken the engine's name.
    private static let shell: Set<ControllerSocket> = [.muxEngine, .taskEngine]
    /// How long a heart alone counts as an engine that is connecting anew.
    private static let heartAlone = TimeAmount.seconds(3)

    func noteConnection(_ identity: ByteBuffer, at socket: ControllerSocket) {
        guard Self.vital.contains(socket) else { return }
        let uuid = EngineUUID(String(buffer: identity))
        self.connections[uuid, default: []].insert(socket)
        if Self.shell.contains(socket) { self.stay(uuid) }
        self.completeIfReachable(uuid)
    }

    func noteDisconnection(_ identity: ByteBuffer, at socket: ControllerSocket) {
        if socket == .heartbeatPong { self.strangers[EngineUUID(String(buffer: identity))] = nil }
        if socket == .taskClient, let number = self.clientNumbers.removeValue(forKey: identity) {
            self.logger.debug("a client left", metadata: ["client": "\(number)"])
        }
        guard Self.vital.contains(socket) else { return }
        let uuid = EngineUUID(String(buffer: identity))
        // Connections that were cut, to make room for an engine that comes back, say nothing when they drop.
        guard self.connections[uuid]?.remove(socket) != nil else { return }
        if self.connections[uuid]?.isEmpty == true { self.connections[uuid] = nil }
        self.noteAbsence(of: uuid)
    }

    /// Nobody waits any longer to see whether the engine is gone.
    private func stay(_ uuid: EngineUUID) { self.partings.removeValue(forKey: uuid)?.forEach { $0.cancel() } }

    private func noteAbsence(of uuid: EngineUUID) {
        guard Self.shell.isDisjoint(with: self.connections[uuid] ?? []) else { return }
        // One socket may lose its connection and come back. All at once is a process that ended; a moment tells the two apart.
        let wait = self.connections[uuid] == nil ? TimeAmount.milliseconds(30) : Self.heartAlone
        let parting = self.eventLoop.assumeIsolated().scheduleTask(in: wait) {
            self.assumeIsolated { service in
                let connected = service.connections[uuid] ?? []
                guard Self.shell.isDisjoint(with: connected) else { return }
                if !connected.isEmpty, wait < Self.heartAlone { return service.noteAbsence(of: uuid) }
                service.stay(uuid)
                service.perform(service.registry.handle(.disconnected(uuid), at: service.now))
                service.flushSockets()
                service.scheduleFlush()
            }
        }
        self.partings[uuid, default: []].append(parting)
    }

    /// Closes what an engine's uuid is connected by. The drop of these connections says nothing of the one that comes next.
    private func cutConnections(_ uuid: EngineUUID) {
        let identity = ByteBuffer(string: uuid.text)
        for socket in Self.namingEngines { self.sockets[socket]?.disconnect(identity) }
        for leaf in self.broadcastLeaves { leaf.disconnect(identity) }
        self.connections[uuid] = nil
        self.stay(uuid)
        self.strangers[uuid] = nil
        self.perform(self.heart.handle(.forgotten(uuid), at: self.now))
    }

    /// The sockets that know an engine by its uuid.
    private static let namingEngines: [ControllerSocket] = [.muxEngine, .taskEngine, .controlEngine, .heartbeatPong]

    /// An engine whose heart has connected is alive, and can be used once its shell has connected too: nobody need wait for a ping.
    private func completeIfReachable(_ uuid: EngineUUID) {
        guard self.connections[uuid] == Self.vital, self.expectedHearts.contains(uuid) else { return }
        self.perform(self.heart.handle(.assumed(uuid), at: self.now))
        self.perform(self.registry.handle(.heartFound(uuid), at: self.now))
        self.flushSockets()
    }

    // MARK: Effects

    private func perform(_ effects: [HeartMonitor.Effect]) {
        for effect in effects {
            switch effect {
            case .ping(let text):
                self.send([ByteBuffer(string: text)], on: .heartbeatPing)
                self.sockets[.heartbeatPing]?.flush()
            case .heartFound(let uuid): self.perform(self.registry.handle(.heartFound(uuid), at: self.now))
            case .heartStopped(let uuid): self.perform(self.registry.handle(.heartStopped(uuid), at: self.now))
            case .setTimer(let time):
                self.eventLoop.assumeIsolated().scheduleTask(deadline: .uptimeNanoseconds(time.nanoseconds)) { [weak self] in
                    self?.assumeIsolated { $0.beat() }
                }
            }
        }
    }

    func perform(_ effects: [EngineRegistry.Effect]) {
        for effect in effects {
            switch effect {
            case .accept(let id, let uuid): self.answerRegistration(uuid, id)
            case .refuse(let uuid): self.refuseRegistration(uuid)
            case .expectHeart(let uuid):
                self.expectedHearts.insert(uuid)
                self.perform(self.heart.handle(.expected(uuid), at: self.now))
                self.completeIfReachable(uuid)
            case .forgetHeart(let uuid):
                self.expectedHearts.remove(uuid)
                self.perform(self.heart.handle(.forgotten(uuid), at: self.now))
            case .cutConnections(let uuid): self.cutConnections(uuid)
            case .announce(let engine): self.announce(engine)
            case .describe(let engine): self.perform(.engineChanged(engine.uuid, engine.abilities))
            case .retire(let engine): self.perform(.engineRetired(engine.uuid))
            case .withdraw(let engine, let departure): self.withdraw(engine, departure)
            case .strand(let engine): self.strand(engine)
            case .saveState: self.saveStateSoon()
            case .setTimer(let time):
                self.registryTimer?.cancel()
                self.registryTimer = self.eventLoop.assumeIsolated().scheduleTask(deadline: .uptimeNanoseconds(time.nanoseconds))
                { [weak self] in
                    self?.assumeIsolated { service in
                        service.perform(service.registry.handle(.timerFired, at: service.now))
                        service.flushSockets()
                        service.scheduleFlush()
                    }
                }
            }
        }
    }

    private func answerRegistration(_ uuid: EngineUUID, _ id: EngineID) {
        guard let identities = self.registrations.removeValue(forKey: uuid), let engineInfo, let clientInfo else { return }
        // For functions that submit tasks of their own. The key is not sent: who can read this has it.
        var client = clientInfo.json.object ?? [:]
        client["key"] = nil
        let reply = self.session.message(
            .registrationReply, identities: identities,
            content: [
                "id": .int(id.number), "status": "ok", "hb_period": .int(self.options.heartbeatPeriod),
                "connection_info": .object(engineInfo.addresses),
                "apus": ["client": .object(client), "heart": .string(HeartAnswer.signed.rawValue)],
            ])
        self.send(reply.frames, on: .registration)
        self.sockets[.registration]?.flush()
    }

    private func refuseRegistration(_ uuid: EngineUUID) {
        guard let identities = self.registrations.removeValue(forKey: uuid) else { return }
        let error = Self.keyError("uuid '\(uuid)' is already registered; an engine needs a new one at each start")
        let reply = self.session.message(.registrationReply, identities: identities, content: error.json)
        self.send(reply.frames, on: .registration)
    }

    private func announce(_ engine: EngineRegistry.Engine) {
        self.expectedHearts.remove(engine.uuid)
        self.engines[engine.uuid] = KnownEngine(
            identity: ByteBuffer(string: engine.uuid.text), id: engine.id, understandsRecall: engine.understandsRecall)
        self.direct.add(engine.uuid)
        self.logger.info("engine \(engine.id) registered", metadata: ["uuid": "\(engine.uuid)"])
        self.perform(
            .engineJoined(
                engine.uuid, understandsRecall: engine.understandsRecall, abilities: engine.abilities, resources: engine.resources
            ))
        _ = self.broadcast.handle(.engineJoined(engine.uuid))
        self.announcements.append((engine, .now()))
        self.forgetOldAnnouncements()
        self.publish(.registrationNotification, engine)
        self.onPresence?(.joined(engine.uuid, engine.id))
    }

    /// Tells a client that has just subscribed what it may have missed.
    ///
    /// Clients learn who is there by their connection request and subscribe after its answer, so an engine that registers in
    /// between would stay unknown to them. To those who know it already it is no news.
    func announceAgain() {
        self.forgetOldAnnouncements()
        for announcement in self.announcements {
            if let engine = self.registry[announcement.engine.uuid] { self.publish(.registrationNotification, engine) }
        }
    }

    private func forgetOldAnnouncements() {
        // As long as a client may take to connect all its sockets.
        let limit = NIODeadline.now() - .seconds(10)
        while let first = self.announcements.first, first.time < limit { self.announcements.removeFirst() }
    }

    private func withdraw(_ engine: EngineRegistry.Engine, _ departure: EngineRegistry.Departure) {
        self.engines[engine.uuid] = nil
        self.logger.info("engine \(engine.id) is gone", metadata: ["uuid": "\(engine.uuid)", "reason": "\(departure)"])
        let hadWork = self.hasWork(engine.uuid)
        defer { self.onPresence?(.left(engine.uuid, departure, hadWork: hadWork)) }
        // The scheduler speaks first, so that a task's end is under way before its engine's is known.
        guard !departure.mayStillAnswer else {
            self.perform(.engineRetired(engine.uuid))
            self.broadcastLost(engine, departure)
            return self.publish(.unregistrationNotification, engine)
        }
        var begun: Set<TaskID>?
        if case .ended(let end) = departure { begun = end.begun }
        self.perform(.engineLeft(engine.uuid, begun: begun))
        self.sockets[.taskClient]?.flush()
        let hasAnswered = self.answerDirectRequests(of: engine.uuid)
        self.broadcastLost(engine, departure)
        // At the notice clients end their direct requests by themselves. The answers that say why come by other connections.
        self.publish(.unregistrationNotification, engine, after: hasAnswered ? .milliseconds(10) : .zero)
    }

    private func strand(_ engine: EngineRegistry.Engine) {
        self.perform(.engineLeft(engine.uuid))
        for (task, _) in self.direct.remove(engine.uuid) {
            self.letGo(of: task)
            self.changes.append(.stranded(task, on: engine.uuid, at: .now))
            self.keepIfWanted(task, nil)
        }
        self.performFollowUps()
        self.scheduleFlush()
    }

    private func publish(_ type: MessageType, _ engine: EngineRegistry.Engine, after delay: TimeAmount = .zero) {
        var content: JSONObject = ["id": .int(engine.id.number), "uuid": .string(engine.uuid.text)]
        if engine.announcement != nil {
            var apus: JSONObject = ["limits": .bool(engine.abilities.keepsLimits)]
            if let place = engine.memoryPlace { apus["memory"] = .string(place) }
            content["apus"] = .object(apus)
        }
        let notice = self.session.message(type, content: content)
        self.laterNotices.append(notice)
        guard delay > .zero else { return self.publishNotices() }
        self.eventLoop.assumeIsolated().scheduleTask(in: delay) { [weak self] in self?.assumeIsolated { $0.publishNotices() } }
    }

    /// Publishes what is to be published, in order.
    private func publishNotices() {
        for notice in self.laterNotices { self.send(notice.frames, on: .notification) }
        self.laterNotices = []
        self.sockets[.notification]?.flush()
    }
}
