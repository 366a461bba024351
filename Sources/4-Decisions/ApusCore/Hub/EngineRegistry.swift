package import ApusWire
internal import DequeModule

/// Keeps the registered engines: gives them their ids, waits for their hearts, and decides when they are gone.
///
/// A value: events in, effects out. An engine asks to be registered and gets its id at once; it becomes visible with its
/// first heartbeat, or is dropped if there is none in time. Its end may be reported from several sides; the first report counts.
/// An engine that asks again under a uuid that the registry has known gets its old id: one that was started again in place,
/// or one that was given up and lives. Protocol sections 4.1 and 4.3.
package struct EngineRegistry: Sendable {
    /// The content of a `registration_request`.
    package struct Request: Sendable, Equatable {
        package var uuid: EngineUUID
        /// The id that the engine asks for, as engines under MPI ask for their rank.
        package var wantedID: EngineID?
        /// Whether the engine can give tasks back that it has not started.
        package var understandsRecall: Bool
        package var abilities: EngineAbilities
        /// The engine's resources, which tasks may need.
        package var resources: [String: Double]
        /// The place whose processes' memory the engine can map (``SharedMemory/place``); nil if it can map none.
        package var memoryPlace: String?
        /// The request's member `apus` without the parts that name the process, for a controller that takes over from this one;
        /// nil for ipyparallel's engines.
        package var announcement: JSONValue?
        /// Identifies the engine's process, so that an engine that asks again is told from another of the same uuid; nil if not
        /// sent.
        package var process: String?
        /// Whether an earlier controller registered it, so that it does not ask itself.
        package var isExpected = false
        /// Whether the engine replaces any engine of the same uuid, because its launcher gives that uuid to one process at a
        /// time.
        package var replaces: Bool

        package init(
            _ uuid: EngineUUID, wantedID: EngineID? = nil, understandsRecall: Bool = false, abilities: EngineAbilities = .stock,
            resources: [String: Double] = [:], memoryPlace: String? = nil, announcement: JSONValue? = nil,
            process: String? = nil, replaces: Bool = false
        ) {
            self.process = process
            self.replaces = replaces
            self.announcement = announcement
            self.abilities = abilities
            self.uuid = uuid
            self.wantedID = wantedID
            self.understandsRecall = understandsRecall
            self.resources = resources
            self.memoryPlace = memoryPlace
        }
    }

    package struct Engine: Sendable, Equatable {
        package let id: EngineID
        package let uuid: EngineUUID
        package let understandsRecall: Bool
        package fileprivate(set) var abilities: EngineAbilities
        package let resources: [String: Double]
        package let memoryPlace: String?
        package fileprivate(set) var announcement: JSONValue?
        package let process: String?
        /// Whether the engine's launcher reports how its process ended.
        package let isWatched: Bool

        package init(
            id: EngineID, uuid: EngineUUID, understandsRecall: Bool, abilities: EngineAbilities = .stock,
            resources: [String: Double] = [:], memoryPlace: String? = nil, announcement: JSONValue? = nil, process: String? = nil,
            isWatched: Bool = false
        ) {
            self.process = process
            self.isWatched = isWatched
            self.announcement = announcement
            self.abilities = abilities
            self.id = id
            self.uuid = uuid
            self.understandsRecall = understandsRecall
            self.resources = resources
            self.memoryPlace = memoryPlace
        }
    }

    /// How the hub learnt that an engine is gone; this decides whether answers may still come.
    package enum Departure: Sendable, Equatable {
        /// The engine, or its nanny, asked to be unregistered. It may still answer.
        case unregistered
        /// The engine published that it shuts down. It may still answer.
        case shutDown
        case heartStopped
        case disconnected
        /// The engine's uuid was registered again, by a new process or by the same one after it had missed something.
        case replaced
        /// The engine's process ended in this way.
        case ended(EngineEnd)

        /// Whether the engine may still answer.
        package var mayStillAnswer: Bool { self == .unregistered || self == .shutDown }
    }

    package enum Event: Sendable, Equatable {
        case registrationRequested(Request)
        /// `apus_functions_request`: the engine has other functions than at its registration. The values replace those of the
        /// registration.
        case abilitiesChanged(EngineUUID, EngineAbilities, announcement: JSONValue)
        case heartFound(EngineUUID)
        case heartStopped(EngineUUID)
        /// `unregistration_request`, from any peer. Ignored without an id.
        ///
        /// - Parameter by: The name of the sender's socket, which for an engine is its uuid; nil: the socket has no name. A goodbye of an
        ///   engine whose id another engine has is ignored: a controller that was killed may have given the first one the id.
        case unregistrationRequested(EngineID?, by: EngineUUID? = nil)
        /// The connections of the engine are gone.
        case disconnected(EngineUUID)
        /// The engine says how its process ends. All of its answers came before this event.
        case ended(EngineUUID, EngineEnd)
        /// The launcher says how the engine's process has ended. The engine's last messages may still come, until its connections
        /// have dropped.
        case processEnded(EngineUUID, EngineEnd)
        /// An iopub `shutdown_reply` of this session.
        case shutdownReplySeen(EngineUUID)
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// Accept the registration with this id, and flush the reply.
        case accept(EngineID, EngineUUID)
        /// Reply with an error: the uuid is in use.
        case refuse(EngineUUID)
        /// Ask the heart monitor for this heart.
        case expectHeart(EngineUUID)
        /// Tell the heart monitor to forget this heart.
        case forgetHeart(EngineUUID)
        /// Close every connection of the engine of this uuid, so that no message comes from it or waits for it, and a new
        /// connection may use the uuid.
        case cutConnections(EngineUUID)
        /// Tell the schedulers of the engine, then publish its `registration_notification`.
        case announce(Engine)
        /// Tell the schedulers that the engine's abilities have changed.
        case describe(Engine)
        /// Give the engine no more tasks: it is gone, and `withdraw` follows when the cause is known.
        case retire(Engine)
        /// Tell the schedulers that the engine is gone, then publish its `unregistration_notification`.
        case withdraw(Engine, Departure)
        /// Fail the requests that were sent directly to the engine and not answered.
        case strand(Engine)
        /// The engine, which an earlier controller registered, has not come back, or has come as another: what it was given is lost.
        case dropExpected(EngineUUID)
        /// Write `state` to the engines file.
        case saveState
        /// Call again with `timerFired` at this time. Replaces the time set before.
        case setTimer(MonotonicTime)
    }

    private struct Pending: Sendable {
        var engine: Engine
        let deadline: MonotonicTime
        /// Whether an earlier controller registered it.
        let isExpected: Bool
    }

    /// How long an engine may take from its registration to its first heartbeat.
    package let registrationTimeout: Duration
    /// How long the registry waits for the second sign of an engine's death: for the launcher's report after the connections have
    /// dropped, or for the connections to drop after the report.
    package static let lastWords: Duration = .milliseconds(50)
    /// How long after its goodbye an engine may answer requests that it had before.
    package static let lastAnswers: Duration = .seconds(5)

    private(set) var nextID = 0
    private var byID: [EngineID: Engine] = [:]
    private var byUUID: [EngineUUID: Engine] = [:]
    /// Engines that were accepted and whose hearts have not beaten yet. Their ids are taken.
    private var pending: [EngineUUID: Pending] = [:]
    /// The pending engines by id.
    private var pendingIDs: [EngineID: EngineUUID] = [:]
    /// Engines that are gone with a goodbye, and until when they may still answer.
    private var leaving: [(engine: Engine, until: MonotonicTime)] = []
    /// Registered engines with one of two signs of death, and until when to wait for the other: their connections have dropped,
    /// or (then with an `end`) their launcher has reported the end.
    private var dying: [(engine: Engine, until: MonotonicTime, end: EngineEnd?)] = []
    /// Engines that are gone and may come back: the id and, if the engine was ever visible, how it went.
    private var former: [EngineUUID: (id: EngineID, departure: Departure?)] = [:]
    /// The same engines, the one that has been gone longest first.
    private var formerInOrder: Deque<EngineUUID> = []
    /// How many engines that are gone are remembered.
    private static let formerLimit = 16_384
    private var timer = MonotonicTime.distantFuture

    package init(heartbeatPeriod: Duration = .milliseconds(3000), registrationTimeout: Duration? = nil) {
        self.registrationTimeout = registrationTimeout ?? max(.seconds(30), .seconds((heartbeatPeriod * 10).components.seconds))
    }

    // MARK: State

    /// Registered engines, in order of id.
    package var engines: [Engine] { self.byID.values.sorted { $0.id < $1.id } }
    /// Engines of an earlier controller that have not come yet.
    var expected: [Engine] { self.pending.values.filter(\.isExpected).map(\.engine) }
    package var count: Int { self.byID.count }

    package subscript(id: EngineID) -> Engine? { self.byID[id] }

    package subscript(uuid: EngineUUID) -> Engine? { self.byUUID[uuid] }

    /// The announcement of an engine, visible or not yet; nil if the engine sent none, or there is no such engine.
    package func announcement(of uuid: EngineUUID) -> JSONValue? {
        (self.byUUID[uuid] ?? self.pending[uuid]?.engine)?.announcement
    }

    /// Whether the engine is registered, about to be, or said goodbye a moment ago.
    package func knows(_ uuid: EngineUUID) -> Bool {
        self.byUUID[uuid] != nil || self.pending[uuid] != nil || self.leaving.contains { $0.engine.uuid == uuid }
    }

    /// Whether the registry remembers any engine that is gone.
    package var remembersAny: Bool { !self.former.isEmpty }

    /// Whether the engine was registered here and no longer is. Its answers come too late: its tasks were failed, or given to
    /// other engines. An engine that only an earlier controller knew was not given up: its answers are accepted.
    package func hasGivenUp(_ uuid: EngineUUID) -> Bool { self.former[uuid] != nil && !self.knows(uuid) }

    /// The id that the engine has, or had when it was last here.
    package func lastID(of uuid: EngineUUID) -> EngineID? {
        self.byUUID[uuid]?.id ?? self.pending[uuid]?.engine.id ?? self.former[uuid]?.id
    }

    /// How the engine went, if it is not here.
    package func departure(of uuid: EngineUUID) -> Departure? { self.former[uuid]?.departure }

    /// Gives out no ids below this one, because an earlier run of the controller gave them.
    /// A number from a file that is too large for an id counts as the largest id that an engine may ask for.
    package mutating func skipIDs(below id: Int) { self.nextID = max(self.nextID, min(id, Self.largestWish)) }

    /// The largest id that an engine may ask for, so that there are always larger ones.
    private static let largestWish = Int(Int32.max)

    // MARK: Events

    package mutating func handle(_ event: Event, at now: MonotonicTime) -> [Effect] {
        switch event {
        case .registrationRequested(let request): self.register(request, at: now)
        case .abilitiesChanged(let uuid, let abilities, let words): self.describe(uuid, abilities, words)
        case .heartFound(let uuid): self.complete(uuid)
        case .heartStopped(let uuid): self.withdraw(self.byUUID[uuid], .heartStopped, at: now)
        case .unregistrationRequested(let id, let sender): self.unregister(id, by: sender, at: now)
        case .disconnected(let uuid): self.disconnect(uuid, at: now)
        case .ended(let uuid, let end): self.end(uuid, end, at: now)
        case .processEnded(let uuid, let end): self.endProcess(of: uuid, end, at: now)
        case .shutdownReplySeen(let uuid): self.withdraw(self.byUUID[uuid], .shutDown, at: now)
        case .timerFired: self.fireTimer(at: now)
        }
    }

    private mutating func register(_ request: Request, at now: MonotonicTime) -> [Effect] {
        let uuid = request.uuid
        var effects: [Effect] = []
        if let waiting = self.pending[uuid]?.engine {
            guard request.takesThePlace(of: waiting) else { return [.refuse(uuid)] }
            effects = self.cancel(waiting)
        } else if let registered = self.byUUID[uuid] {
            guard request.takesThePlace(of: registered) else { return [.refuse(uuid)] }
            effects = self.withdraw(registered, .replaced, at: now)
        } else if let left = self.leaving.firstIndex(where: { $0.engine.uuid == uuid }) {
            effects = [.strand(self.leaving.remove(at: left).engine)]
        }
        let id = self.formerID(of: uuid) ?? self.newID(request.wantedID)
        let engine = Engine(
            id: id, uuid: uuid, understandsRecall: request.understandsRecall, abilities: request.abilities,
            resources: request.resources, memoryPlace: request.memoryPlace, announcement: request.announcement,
            process: request.process, isWatched: request.replaces)
        let deadline = now + self.registrationTimeout
        self.pending[uuid] = Pending(engine: engine, deadline: deadline, isExpected: request.isExpected)
        self.pendingIDs[id] = uuid
        // Present connections under this uuid are old, and would be taken for those that the engine makes next.
        return effects + [.cutConnections(uuid), .accept(id, uuid), .expectHeart(uuid)] + self.wake(at: deadline)
    }

    /// The id that the engine had, if it is still free. Forgets the former engine.
    private mutating func formerID(of uuid: EngineUUID) -> EngineID? {
        guard let id = self.former.removeValue(forKey: uuid)?.id else { return nil }
        self.formerInOrder.removeAll { $0 == uuid }
        return self.isTaken(id) ? nil : id
    }

    private mutating func remember(_ engine: Engine, _ departure: Departure?) {
        guard self.former.updateValue((engine.id, departure), forKey: engine.uuid) == nil else { return }
        self.formerInOrder.append(engine.uuid)
        if self.formerInOrder.count > Self.formerLimit { self.former[self.formerInOrder.removeFirst()] = nil }
    }

    /// The wanted id if it is free, else the next. Ids count up, and past every wanted id that was given.
    private mutating func newID(_ wanted: EngineID?) -> EngineID {
        if let wanted, wanted.number >= 0, wanted.number < Self.largestWish, !self.isTaken(wanted) {
            self.nextID = max(self.nextID, wanted.number + 1)
            return wanted
        }
        let id = EngineID(self.nextID)
        self.nextID += 1
        return id
    }

    private func isTaken(_ id: EngineID) -> Bool {
        self.byID[id] != nil || self.pendingIDs[id] != nil
    }

    /// Makes a pending engine visible, at its first heartbeat.
    private mutating func complete(_ uuid: EngineUUID) -> [Effect] {
        guard let engine = self.pending.removeValue(forKey: uuid)?.engine else { return [] }
        self.pendingIDs[engine.id] = nil
        self.insert(engine)
        return [.saveState, .announce(engine)]
    }

    private mutating func describe(_ uuid: EngineUUID, _ abilities: EngineAbilities, _ words: JSONValue) -> [Effect] {
        func described(_ engine: Engine) -> Engine {
            var engine = engine
            (engine.abilities, engine.announcement) = (abilities, words)
            return engine
        }
        if let pending = self.pending[uuid] {
            self.pending[uuid]?.engine = described(pending.engine)
            return []
        }
        guard let known = self.byUUID[uuid], known.abilities != abilities else { return [] }
        self.insert(described(known))
        return [.saveState, .describe(described(known))]
    }

    private mutating func insert(_ engine: Engine) {
        self.byID[engine.id] = engine
        self.byUUID[engine.uuid] = engine
    }

    private mutating func unregister(_ id: EngineID?, by sender: EngineUUID?, at now: MonotonicTime) -> [Effect] {
        guard let id, sender == nil || sender == self.pendingIDs[id] ?? self.byID[id]?.uuid else { return [] }
        if let cancelled = self.pendingIDs[id].flatMap({ self.pending[$0] }) { return self.cancel(cancelled.engine) }
        return self.withdraw(self.byID[id], .unregistered, at: now)
    }

    private mutating func disconnect(_ uuid: EngineUUID, at now: MonotonicTime) -> [Effect] {
        if let cancelled = self.pending[uuid] { return self.cancel(cancelled.engine) }
        if let left = self.leaving.firstIndex(where: { $0.engine.uuid == uuid }) {
            return [.strand(self.leaving.remove(at: left).engine)]
        }
        guard let engine = self.byUUID[uuid], engine.isWatched else {
            return self.withdraw(self.byUUID[uuid], .disconnected, at: now)
        }
        if let dying = self.dying.first(where: { $0.engine.uuid == uuid }) {
            return dying.end.map { self.withdraw(engine, .ended($0), at: now) } ?? []
        }
        return self.awaitOtherSign(of: engine, nil, at: now)
    }

    private mutating func endProcess(of uuid: EngineUUID, _ end: EngineEnd, at now: MonotonicTime) -> [Effect] {
        guard let engine = self.byUUID[uuid] else { return self.end(uuid, end, at: now) }
        if let dying = self.dying.first(where: { $0.engine.uuid == uuid }) {
            return dying.end == nil ? self.withdraw(engine, .ended(end), at: now) : []
        }
        return self.awaitOtherSign(of: engine, end, at: now)
    }

    /// Waits for the second of the two signs of an engine's death.
    private mutating func awaitOtherSign(of engine: Engine, _ end: EngineEnd?, at now: MonotonicTime) -> [Effect] {
        let until = now + Self.lastWords
        self.dying.append((engine, until, end))
        return [.retire(engine)] + self.wake(at: until)
    }

    private mutating func end(_ uuid: EngineUUID, _ end: EngineEnd, at now: MonotonicTime) -> [Effect] {
        if let cancelled = self.pending[uuid] { return self.cancel(cancelled.engine) }
        if let left = self.leaving.firstIndex(where: { $0.engine.uuid == uuid }) {
            return [.strand(self.leaving.remove(at: left).engine)]
        }
        return self.withdraw(self.byUUID[uuid], .ended(end), at: now)
    }

    private mutating func cancel(_ engine: Engine) -> [Effect] {
        let wasExpected = self.pending.removeValue(forKey: engine.uuid)?.isExpected ?? false
        self.remember(engine, nil)
        self.pendingIDs[engine.id] = nil
        return [.forgetHeart(engine.uuid)] + (wasExpected ? [.saveState, .dropExpected(engine.uuid)] : [])
    }

    private mutating func withdraw(_ engine: Engine?, _ departure: Departure, at now: MonotonicTime) -> [Effect] {
        guard let engine else { return [] }
        self.byID[engine.id] = nil
        self.byUUID[engine.uuid] = nil
        var departure = departure
        if let index = self.dying.firstIndex(where: { $0.engine.uuid == engine.uuid }) {
            self.dying.remove(at: index)
            // The connections have dropped or the process has ended, so no answers follow a goodbye that is read now.
            if departure.mayStillAnswer { departure = .disconnected }
        }
        self.remember(engine, departure)
        var effects: [Effect] = [.forgetHeart(engine.uuid)]
        // The engine may live, and send answers that nobody waits for any more.
        if departure == .heartStopped { effects.append(.cutConnections(engine.uuid)) }
        effects += [.saveState, .withdraw(engine, departure)]
        guard departure.mayStillAnswer else { return effects + [.strand(engine)] }
        let until = now + Self.lastAnswers
        self.leaving.append((engine, until))
        return effects + self.wake(at: until)
    }

    private mutating func fireTimer(at now: MonotonicTime) -> [Effect] {
        self.timer = .distantFuture
        var effects: [Effect] = []
        for stalled in self.pending.values.filter({ $0.deadline <= now }).map(\.engine).sorted(by: { $0.id < $1.id }) {
            effects += self.cancel(stalled)
        }
        effects += self.leaving.filter { $0.until <= now }.map { .strand($0.engine) }
        self.leaving.removeAll { $0.until <= now }
        for dead in self.dying.filter({ $0.until <= now }) {
            effects += self.withdraw(dead.engine, dead.end.map { .ended($0) } ?? .disconnected, at: now)
        }
        let deadlines = self.pending.values.map(\.deadline) + self.leaving.map(\.until) + self.dying.map(\.until)
        let next = deadlines.min() ?? .distantFuture
        return effects + self.wake(at: next)
    }

    private mutating func wake(at deadline: MonotonicTime) -> [Effect] {
        guard deadline < self.timer else { return [] }
        self.timer = deadline
        return [.setTimer(deadline)]
    }
}

extension EngineRegistry.Request {
    /// Whether this request replaces a registered engine of the same uuid, which is then an earlier process in the same place, or
    /// this process itself. If not, this is a second engine of the same name.
    fileprivate func takesThePlace(of engine: EngineRegistry.Engine) -> Bool {
        if self.replaces { return true }
        guard let process = self.process else { return false }
        // The process of an engine that an earlier controller registered is not known; the engine that asks now is taken for that
        // engine.
        return engine.process == process || (engine.process == nil && engine.announcement != nil)
    }
}
