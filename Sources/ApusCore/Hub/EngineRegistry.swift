package import ApusWire

/// Knows which engines there are: gives them their ids, waits for their hearts, and notices once when they are gone.
///
/// A value: events in, effects out. An engine asks to be registered and gets its id at once; it becomes visible with its
/// first heartbeat, or is dropped if there is none in time. Its end may be told from several sides; the first one counts.
/// Protocol sections 4.1 and 4.3.
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

        package init(
            _ uuid: EngineUUID, wantedID: EngineID? = nil, understandsRecall: Bool = false, abilities: EngineAbilities = .stock,
            resources: [String: Double] = [:], memoryPlace: String? = nil, announcement: JSONValue? = nil
        ) {
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

        package init(
            id: EngineID, uuid: EngineUUID, understandsRecall: Bool, abilities: EngineAbilities = .stock,
            resources: [String: Double] = [:], memoryPlace: String? = nil, announcement: JSONValue? = nil
        ) {
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
        /// Tell the schedulers of the engine, then publish its `registration_notification`.
        case announce(Engine)
        /// Tell the schedulers that the engine can run other things than before.
        case describe(Engine)
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

    /// Whether the engine is registered, or is expected to be soon.
    package func knows(_ uuid: EngineUUID) -> Bool { self.byUUID[uuid] != nil || self.pending[uuid] != nil }

    /// What the engine said of itself, though it may not be visible yet; nil if it said nothing, or nobody has that uuid.
    package func announcement(of uuid: EngineUUID) -> JSONValue? {
        (self.byUUID[uuid] ?? self.pending[uuid]?.engine)?.announcement
    }

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
        case .shutdownReplySeen(let uuid): self.withdraw(self.byUUID[uuid], .shutDown, at: now)
        case .timerFired: self.fireTimer(at: now)
        }
    }

    private mutating func register(_ request: Request, at now: MonotonicTime) -> [Effect] {
        guard self.byUUID[request.uuid] == nil, self.pending[request.uuid] == nil else { return [.refuse(request.uuid)] }
        let id = self.newID(request.wantedID)
        let engine = Engine(
            id: id, uuid: request.uuid, understandsRecall: request.understandsRecall, abilities: request.abilities,
            resources: request.resources, memoryPlace: request.memoryPlace, announcement: request.announcement)
        let deadline = now + self.registrationTimeout
        self.pending[request.uuid] = Pending(engine: engine, deadline: deadline)
        self.pendingIDs[id] = request.uuid
        return [.accept(id, request.uuid), .expectHeart(request.uuid)] + self.wake(at: deadline)
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
        return self.withdraw(self.byUUID[uuid], .disconnected, at: now)
    }

    private mutating func cancel(_ engine: Engine) -> [Effect] {
        self.pending[engine.uuid] = nil
        self.pendingIDs[engine.id] = nil
        return [.forgetHeart(engine.uuid)]
    }

    private mutating func withdraw(_ engine: Engine?, _ departure: Departure, at now: MonotonicTime) -> [Effect] {
        guard let engine else { return [] }
        self.byID[engine.id] = nil
        self.byUUID[engine.uuid] = nil
        let effects: [Effect] = [.forgetHeart(engine.uuid), .saveState, .withdraw(engine, departure)]
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
        let next = (self.pending.values.map(\.deadline) + self.leaving.map(\.until)).min() ?? .distantFuture
        return effects + self.wake(at: next)
    }

    private mutating func wake(at deadline: MonotonicTime) -> [Effect] {
        guard deadline < self.timer else { return [] }
        self.timer = deadline
        return [.setTimer(deadline)]
    }
}
