package import ApusWire

/// Decides over the engines of a cluster: who is registered, whose heart beats, who is connected, and what one of these means for the
/// others.
///
/// A value: events in, effects out. It joins three values that know nothing of each other: ``EngineRegistry`` gives ids and notices
/// ends, ``HeartMonitor`` pings, ``EngineConnections`` watches sockets. What one of them finds is told to the others here.
package struct Hub: Sendable {
    package enum Event: Sendable, Equatable {
        /// What the registry is asked, or told of an engine's end, by messages and by those who launch engines.
        case registry(EngineRegistry.Event)
        case connected(EngineUUID, EngineConnections.Line)
        case disconnected(EngineUUID, EngineConnections.Line)
        /// A ping was answered, and whether with the signature of an engine of this cluster.
        case heartBeat(EngineUUID, ping: String, isSigned: Bool)
        /// The time has come that was last named for this. Hearts have themselves been woken for the first time by their driver.
        case timerFired(Timer)
    }

    /// What times are named for.
    package enum Timer: Sendable, Hashable { case registry, hearts, connections }

    package enum Effect: Sendable, Equatable {
        /// Reply to the registration request that all is well, with this id; and see that the reply is sent.
        case accept(EngineID, EngineUUID)
        /// Reply with an error: the uuid is in use.
        case refuse(EngineUUID)
        /// Close every connection of the engine of this uuid, so that nothing more comes from it or waits for it, and a new
        /// connection may bear the uuid.
        case cutConnections(EngineUUID)
        /// Tell the schedulers of the engine, then publish its `registration_notification`.
        case announce(EngineRegistry.Engine)
        /// Tell the schedulers that the engine can run other things than before.
        case describe(EngineRegistry.Engine)
        /// Give the engine no more tasks: it is gone, and how is about to be told.
        case retire(EngineRegistry.Engine)
        /// Tell the schedulers that it is gone, then publish its `unregistration_notification`.
        case withdraw(EngineRegistry.Engine, EngineRegistry.Departure)
        /// What was sent to the engine directly and not answered will not be answered.
        case strand(EngineRegistry.Engine)
        /// Write `state` to the engines file.
        case saveState
        /// Publish this text as a message of one frame, and see that it leaves.
        case ping(String)
        /// Tell the one that answers pings under this name to register again: it was given up and lives, or this controller took the
        /// place of one that knew it.
        case askToRegister(EngineUUID)
        /// Count the answer to a ping that just came as dropped: its engine signs its own.
        case dropHeartBeat
        /// Come back with `timerFired` at this time. Replaces the time named before for the same.
        case setTimer(Timer, MonotonicTime)
    }

    /// The engines that there are and were, to be asked.
    package private(set) var registry: EngineRegistry
    private var hearts: HeartMonitor
    private var connections = EngineConnections()

    package init(registry: EngineRegistry, hearts: HeartMonitor) {
        self.registry = registry
        self.hearts = hearts
    }

    /// Gives out no ids below this one: they were given in an earlier life of the controller.
    package mutating func skipIDs(below id: Int) { self.registry.skipIDs(below: id) }

    // MARK: What happens

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

    /// Whoever connects to the port can repeat a ping. Stock engines do no more; ours bind it to themselves.
    private mutating func take(
        _ ping: String, of engine: EngineUUID, _ isSigned: Bool, at now: MonotonicTime, _ effects: inout [Effect]
    ) {
        guard self.registry.knows(engine) else {
            // Only an engine of ours that has the key is worth an answer.
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

    /// Looks for contradictions in what is kept; for tests.
    package func checkInvariants() throws(BrokenInvariant) { try self.connections.checkInvariants() }
}
