package import ApusWire
internal import DequeModule

/// Knows which engines there are: gives them their ids, waits for their hearts, and notices once when they are gone.
///
/// A value: events in, effects out. An engine asks to be registered and gets its id at once; it becomes visible with its
/// first heartbeat, or is dropped if there is none in time. Its end may be told from several sides; the first one counts.
/// An engine that asks again under a uuid that the registry has known gets its old id: one that was started again in place,
/// or one that was given up and lives. Protocol sections 4.1 and 4.3.
package struct EngineRegistry: Sendable {
    /// What a `registration_request` says.
    package struct Request: Sendable, Equatable {
        package var uuid: EngineUUID
        /// The id it would like, as engines under MPI have their rank.
        package var wantedID: EngineID?
        /// Whether it can give tasks back that it has not started.
        package var understandsRecall: Bool
        package var abilities: EngineAbilities
        /// What it owns that tasks may ask for.
        package var resources: [String: Double]
        /// Whose memory it can map (``SharedMemory/place``); nil for nobody's.
        package var memoryPlace: String?
        /// All of this in its own words, for a controller that takes over from this one; nil if it says nothing.
        package var announcement: JSONValue?
        /// Which process it is, so that an engine that asks again is told from another of its uuid; nil if it does not say.
        package var process: String?
        /// Whether it takes the place of any engine of its uuid, because its launcher gives that uuid to one process at a time.
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
        /// Whether its launcher tells how its process ended.
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

    /// How the hub learnt that an engine is gone, which says whether answers may still be on their way.
    package enum Departure: Sendable, Equatable {
        /// It, or its nanny, said goodbye. It may be answering still.
        case unregistered
        /// It published that it shuts down. It may be answering still.
        case shutDown
        case heartStopped
        case disconnected
        /// Its uuid was registered again: by the process that took its place, or by itself after it had missed something.
        case replaced
        /// Its process ended, and this is how.
        case ended(EngineEnd)

        /// Whether answers may yet come.
        package var mayStillAnswer: Bool { self == .unregistered || self == .shutDown }
    }

    package enum Event: Sendable, Equatable {
        case registrationRequested(Request)
        /// `apus_functions_request`: the engine has other functions than it said at its registration. All that it says of itself now.
        case abilitiesChanged(EngineUUID, EngineAbilities, announcement: JSONValue)
        case heartFound(EngineUUID)
        case heartStopped(EngineUUID)
        /// `unregistration_request`, from anyone. Without an id it means nothing.
        case unregistrationRequested(EngineID?)
        /// The connection that the engine's answers come by is gone.
        case disconnected(EngineUUID)
        /// The engine says that its process ends, and how. It has answered before what it had to answer.
        case ended(EngineUUID, EngineEnd)
        /// Its launcher says that its process has ended, and how. What it sent last may be on its way here, until its connections
        /// have dropped.
        case processEnded(EngineUUID, EngineEnd)
        /// An iopub `shutdown_reply` of this session.
        case shutdownReplySeen(EngineUUID)
        case timerFired
    }

    package enum Effect: Sendable, Equatable {
        /// Reply to the registration request that all is well, with this id; and see that the reply is sent.
        case accept(EngineID, EngineUUID)
        /// Reply with an error: the uuid is in use.
        case refuse(EngineUUID)
        /// Ask the heart monitor for this heart.
        case expectHeart(EngineUUID)
        /// Tell the heart monitor to forget this heart.
        case forgetHeart(EngineUUID)
        /// Close every connection of the engine of this uuid, so that nothing more comes from it or waits for it, and a new
        /// connection may bear the uuid.
        case cutConnections(EngineUUID)
        /// Tell the schedulers of the engine, then publish its `registration_notification`.
        case announce(Engine)
        /// Tell the schedulers that the engine can run other things than before.
        case describe(Engine)
        /// Give the engine no more tasks: it is gone, and how is about to be told.
        case retire(Engine)
        /// Tell the schedulers that it is gone, then publish its `unregistration_notification`.
        case withdraw(Engine, Departure)
        /// What was sent to the engine directly and not answered will not be answered.
        case strand(Engine)
        /// Write `state` to the engines file.
        case saveState
        /// Call again with `timerFired` at this time. Replaces the time named before.
        case setTimer(MonotonicTime)
    }

    private struct Pending: Sendable {
        var engine: Engine
        let deadline: MonotonicTime
    }

    /// How long an engine may take from its registration to its first heartbeat.
    package let registrationTimeout: Duration
    /// How long after an engine's connections have dropped its launcher may take to tell how its process ended; and how long after that
    /// the connections may take to drop.
    package static let lastWords: Duration = .milliseconds(50)
    /// How long after its goodbye an engine may answer what was sent to it.
    package static let lastAnswers: Duration = .seconds(5)

    private(set) var nextID = 0
    private var byID: [EngineID: Engine] = [:]
    private var byUUID: [EngineUUID: Engine] = [:]
    /// Accepted, and not heard of by heart. Their ids are taken.
    private var pending: [EngineUUID: Pending] = [:]
    /// Who has which of these ids.
    private var pendingIDs: [EngineID: EngineUUID] = [:]
    /// Gone, with a goodbye.
    private var leaving: [(engine: Engine, until: MonotonicTime)] = []
    /// Registered engines whose connections have dropped and whose launchers have yet to say why, or the other way round; and until
    /// when that is waited for.
    private var dying: [(engine: Engine, until: MonotonicTime, end: EngineEnd?)] = []
    /// Engines that are gone, some of which come back: the id and, if it was ever visible, how it went.
    private var former: [EngineUUID: (id: EngineID, departure: Departure?)] = [:]
    /// The same engines, the one that is gone longest first.
    private var formerInOrder: Deque<EngineUUID> = []
    /// How many are remembered.
    private static let formerLimit = 16_384
    private var timer = MonotonicTime.distantFuture

    package init(heartbeatPeriod: Duration = .milliseconds(3000), registrationTimeout: Duration? = nil) {
        self.registrationTimeout = registrationTimeout ?? max(.seconds(30), .seconds((heartbeatPeriod * 10).components.seconds))
    }

    // MARK: What there is

    /// Registered engines, in order of id.
    package var engines: [Engine] { self.byID.values.sorted { $0.id < $1.id } }
    package var count: Int { self.byID.count }

    package subscript(id: EngineID) -> Engine? { self.byID[id] }

    package subscript(uuid: EngineUUID) -> Engine? { self.byUUID[uuid] }

    /// What the engine said of itself, though it may not be visible yet; nil if it said nothing, or nobody has that uuid.
    package func announcement(of uuid: EngineUUID) -> JSONValue? {
        (self.byUUID[uuid] ?? self.pending[uuid]?.engine)?.announcement
    }

    /// Whether the engine is registered, about to be, or said goodbye a moment ago.
    package func knows(_ uuid: EngineUUID) -> Bool {
        self.byUUID[uuid] != nil || self.pending[uuid] != nil || self.leaving.contains { $0.engine.uuid == uuid }
    }

    /// Whether any engine was here that is gone.
    package var remembersAny: Bool { !self.former.isEmpty }

    /// Whether the engine was registered here and is no more. What it still sends comes too late: its tasks were failed, or are
    /// given to others. An engine of an earlier controller's was not given up: its answers are wanted.
    package func hasGivenUp(_ uuid: EngineUUID) -> Bool { self.former[uuid] != nil && !self.knows(uuid) }

    /// The id that the engine has, or had when it was last here.
    package func lastID(of uuid: EngineUUID) -> EngineID? {
        self.byUUID[uuid]?.id ?? self.pending[uuid]?.engine.id ?? self.former[uuid]?.id
    }

    /// How the engine went, if it is not here.
    package func departure(of uuid: EngineUUID) -> Departure? { self.former[uuid]?.departure }

    /// Gives out no ids below this one: they were given in an earlier life of the controller.
    /// What a file says that is no id's number counts as far as ids can be wished for.
    package mutating func skipIDs(below id: Int) { self.nextID = max(self.nextID, min(id, Self.largestWish)) }

    /// The largest id that an engine may wish for, so that there are always more.
    private static let largestWish = Int(Int32.max)

    // MARK: What happens

    package mutating func handle(_ event: Event, at now: MonotonicTime) -> [Effect] {
        switch event {
        case .registrationRequested(let request): self.register(request, at: now)
        case .abilitiesChanged(let uuid, let abilities, let words): self.describe(uuid, abilities, words)
        case .heartFound(let uuid): self.complete(uuid)
        case .heartStopped(let uuid): self.withdraw(self.byUUID[uuid], .heartStopped, at: now)
        case .unregistrationRequested(let id): self.unregister(id, at: now)
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
        self.pending[uuid] = Pending(engine: engine, deadline: deadline)
        self.pendingIDs[id] = uuid
        // What is connected under this uuid now is from before, and would be taken for what connects next.
        return effects + [.cutConnections(uuid), .accept(id, uuid), .expectHeart(uuid)] + self.wake(at: deadline)
    }

    /// The id that the engine had, if it is still free; it is not remembered any longer.
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

    /// The wanted id if it is free; else the next. Ids count up, and past any that was wanted.
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

    /// The first heartbeat.
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

    private mutating func unregister(_ id: EngineID?, at now: MonotonicTime) -> [Effect] {
        guard let id else { return [] }
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

    /// Waits for the other of the two signs of an engine's death.
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
        self.pending[engine.uuid] = nil
        self.remember(engine, nil)
        self.pendingIDs[engine.id] = nil
        return [.forgetHeart(engine.uuid)]
    }

    private mutating func withdraw(_ engine: Engine?, _ departure: Departure, at now: MonotonicTime) -> [Effect] {
        guard let engine else { return [] }
        self.byID[engine.id] = nil
        self.byUUID[engine.uuid] = nil
        var departure = departure
        if let index = self.dying.firstIndex(where: { $0.engine.uuid == engine.uuid }) {
            self.dying.remove(at: index)
            // A goodbye that is read after these signs is not followed by answers.
            if departure.mayStillAnswer { departure = .disconnected }
        }
        self.remember(engine, departure)
        var effects: [Effect] = [.forgetHeart(engine.uuid)]
        // It may live, and be able to send what nobody waits for any more.
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
    /// Whether an engine that has the same uuid is to be forgotten for this one: it is the process before this one, or this very
    /// process. Any other is a second engine of that name.
    fileprivate func takesThePlace(of engine: EngineRegistry.Engine) -> Bool {
        if self.replaces { return true }
        guard let process = self.process else { return false }
        // Of an engine that an earlier controller knew, the process is not known; it is the one that has come to ask.
        return engine.process == process || (engine.process == nil && engine.announcement != nil)
    }
}
