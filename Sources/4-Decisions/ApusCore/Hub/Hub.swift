package import ApusWire

/// Decides about the engines of a cluster: which are registered, whose hearts beat, which are connected, and how one of these
/// changes the others.
///
/// A value: events in, effects out. The hub joins three values that do not know each other: ``EngineRegistry`` gives ids and
/// notices ends, ``HeartMonitor`` pings, ``EngineConnections`` watches sockets. The hub turns effects of one into events of the
/// others.
package struct Hub: Sendable {
    package enum Event: Sendable, Equatable {
        /// A request to the registry, or a report of an engine's end, from a message or a launcher.
        case registry(EngineRegistry.Event)
        case connected(EngineUUID, EngineConnections.Line)
        case disconnected(EngineUUID, EngineConnections.Line)
        /// A ping was answered, and whether with the signature of an engine of this cluster.
        case heartBeat(EngineUUID, ping: String, isSigned: Bool)
        /// The time of the last `setTimer` for this timer has come. The driver fires `hearts` once to begin.
        case timerFired(Timer)
    }

    /// The timers of the hub.
    package enum Timer: Sendable, Hashable { case registry, hearts, connections }

    package enum Effect: Sendable, Equatable {
        /// Accept the registration with this id, and flush the reply.
        case accept(EngineID, EngineUUID)
        /// Reply with an error: the uuid is in use.
        case refuse(EngineUUID)
        /// Close every connection of the engine of this uuid, so that no message comes from it or waits for it, and a new
        /// connection may use the uuid.
        case cutConnections(EngineUUID)
        /// Tell the schedulers of the engine, then publish its `registration_notification`.
        case announce(EngineRegistry.Engine)
        /// Tell the schedulers that the engine's abilities have changed.
        case describe(EngineRegistry.Engine)
        /// Give the engine no more tasks: it is gone, and `withdraw` follows when the cause is known.
        case retire(EngineRegistry.Engine)
        /// Tell the schedulers that the engine is gone, then publish its `unregistration_notification`.
        case withdraw(EngineRegistry.Engine, EngineRegistry.Departure)
        /// Fail the requests that were sent directly to the engine and not answered.
        case strand(EngineRegistry.Engine)
        /// Tell the schedulers that an engine of an earlier controller's has not come back, or has come as another.
        case dropExpected(EngineUUID)
        /// Write `state` to the engines file.
        case saveState
        /// Publish this text as a message of one frame, and flush it.
        case ping(String)
        /// Tell the engine that answers pings under this name to register again: it was given up and lives, or only an earlier
        /// controller knew it.
        case askToRegister(EngineUUID)
        /// Count the answer to a ping that just came as dropped: it is unsigned, and its engine signs answers.
        case dropHeartBeat
        /// Call again with `timerFired` at this time. Replaces the time set before for the same timer.
        case setTimer(Timer, MonotonicTime)
    }

    /// The engines that are and were registered.
    package private(set) var registry: EngineRegistry
    private var hearts: HeartMonitor
    private var connections = EngineConnections()

    package init(registry: EngineRegistry, hearts: HeartMonitor) {
        self.registry = registry
        self.hearts = hearts
    }

    /// Gives out no ids below this one, because an earlier run of the controller gave them.
    package mutating func skipIDs(below id: Int) { self.registry.skipIDs(below: id) }

    // MARK: Events

    package mutating func handle(_ event: Event, at now: MonotonicTime) -> [Effect] {
        var effects: [Effect] = []
        switch event {
        case .registry(let event): self.tellRegistry(event, at: now, &effects)
        case .connected(let engine, let line): self.tellConnections(.connected(engine, line), at: now, &effects)
        case .disconnected(let engine, let line): self.tellConnections(.disconnected(engine, line), at: now, &effects)
        case .heartBeat(let engine, let ping, let isSigned): self.take(ping, of: engine, isSigned, at: now, &effects)
        case .timerFired(.registry): self.tellRegistry(.timerFired, at: now, &effects)
        case .timerFired(.hearts): self.tellHearts(.timerFired, at: now, &effects)
        case .timerFired(.connections): self.tellConnections(.timerFired, at: now, &effects)
        }
        return effects
    }

    /// Takes an answer to a ping. Any peer that connects to the port can repeat a ping, as stock engines do; Apus's engines sign
    /// theirs.
    private mutating func take(
        _ ping: String, of engine: EngineUUID, _ isSigned: Bool, at now: MonotonicTime, _ effects: inout [Effect]
    ) {
        guard self.registry.knows(engine) else {
            // Only an Apus engine that has the key is asked to register.
            if isSigned { self.tellConnections(.strangerBeat(engine), at: now, &effects) }
            return
        }
        if !isSigned, self.registry.announcement(of: engine)?["heart"]?.string == HeartAnswer.signed.rawValue {
            return effects.append(.dropHeartBeat)
        }
        self.tellHearts(.answered(engine, ping), at: now, &effects)
    }

    private mutating func tellRegistry(_ event: EngineRegistry.Event, at now: MonotonicTime, _ effects: inout [Effect]) {
        for effect in self.registry.handle(event, at: now) {
            switch effect {
            case .accept(let id, let uuid): effects.append(.accept(id, uuid))
            case .refuse(let uuid): effects.append(.refuse(uuid))
            case .expectHeart(let uuid):
                self.tellConnections(.expected(uuid), at: now, &effects)
                self.tellHearts(.expected(uuid), at: now, &effects)
            case .forgetHeart(let uuid):
                self.tellConnections(.settled(uuid), at: now, &effects)
                self.tellHearts(.forgotten(uuid), at: now, &effects)
            case .cutConnections(let uuid):
                effects.append(.cutConnections(uuid))
                self.tellConnections(.cut(uuid), at: now, &effects)
                self.tellHearts(.forgotten(uuid), at: now, &effects)
            case .announce(let engine):
                self.tellConnections(.settled(engine.uuid), at: now, &effects)
                effects.append(.announce(engine))
            case .describe(let engine): effects.append(.describe(engine))
            case .retire(let engine): effects.append(.retire(engine))
            case .withdraw(let engine, let departure): effects.append(.withdraw(engine, departure))
            case .strand(let engine): effects.append(.strand(engine))
            case .dropExpected(let uuid): effects.append(.dropExpected(uuid))
            case .saveState: effects.append(.saveState)
            case .setTimer(let time): effects.append(.setTimer(.registry, time))
            }
        }
    }

    private mutating func tellHearts(_ event: HeartMonitor.Event, at now: MonotonicTime, _ effects: inout [Effect]) {
        for effect in self.hearts.handle(event, at: now) {
            switch effect {
            case .ping(let text): effects.append(.ping(text))
            case .heartFound(let uuid): self.tellRegistry(.heartFound(uuid), at: now, &effects)
            case .heartStopped(let uuid): self.tellRegistry(.heartStopped(uuid), at: now, &effects)
            case .setTimer(let time): effects.append(.setTimer(.hearts, time))
            }
        }
    }

    private mutating func tellConnections(_ event: EngineConnections.Event, at now: MonotonicTime, _ effects: inout [Effect]) {
        for effect in self.connections.handle(event, at: now) {
            switch effect {
            case .reachable(let uuid):
                self.tellHearts(.assumed(uuid), at: now, &effects)
                self.tellRegistry(.heartFound(uuid), at: now, &effects)
            case .gone(let uuid): self.tellRegistry(.disconnected(uuid), at: now, &effects)
            case .askToRegister(let uuid): effects.append(.askToRegister(uuid))
            case .setTimer(let time): effects.append(.setTimer(.connections, time))
            }
        }
    }

    /// Throws if the stored values contradict each other; for tests.
    package func checkInvariants() throws(BrokenInvariant) { try self.connections.checkInvariants() }
}
