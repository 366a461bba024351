internal import ApusWire

/// An engine that has joined and not left.
struct EngineState: Sendable {
    var uuid: EngineUUID
    /// Its number among all engines that ever joined, from 1; 0 in a free slot. Kept when it leaves and comes back.
    var serial: Int32
    var understandsRecall: Bool
    /// The engine's abilities, as an index into the scheduler's kinds.
    var kind: Int32 = -1
    /// Whether the engine may answer its tasks but gets no more: it has said goodbye, or is expected.
    var isRetired = false
    /// Whether the engine was an earlier controller's and has not come back. Until then it counts as retired.
    var isExpected = false
    /// Whether the engine was asked to give tasks back and has not answered.
    var isRecalling = false
    /// When the engine may next be asked to give tasks back; limits how often an engine that gives none back is asked.
    var nextRecall = MonotonicTime(nanoseconds: 0)
    /// How many of the engine's tasks do not wait for others.
    var load: Int32 = 0
    /// The engine's tasks are linked from `first` to `last` in the order sent.
    var first: Int32 = -1
    var last: Int32 = -1
    /// See `EngineHeap.Key`.
    var lastUsed: Int64
    var depth = AdaptiveDepth()
    /// Groups whose rule names the engine.
    var groups: [Int32] = []
    var resources: [String: Double] = [:]

    init(uuid: EngineUUID, serial: Int32, understandsRecall: Bool) {
        self.uuid = uuid
        self.serial = serial
        self.understandsRecall = understandsRecall
        self.lastUsed = -Int64(serial)
    }
}

extension TaskScheduler {
    /// How long a retired engine may take to answer what it holds, in nanoseconds.
    static let retirement: UInt64 = 5_000_000_000

    // MARK: Coming and going

    mutating func join(
        _ uuid: EngineUUID, understandsRecall: Bool, _ abilities: EngineAbilities, resources: [String: Double]
    ) {
        let engine: Int32
        let wasKnown: Bool
        if let expected = self.engineSlots[uuid] {
            // The hub's list and its notification may both name an engine.
            guard self.engines[Int(expected)].isExpected else { return }
            engine = expected
            wasKnown = true
            self.engines[Int(engine)].isExpected = false
            self.engines[Int(engine)].isRetired = false
            self.engines[Int(engine)].understandsRecall = understandsRecall
        } else {
            // An engine that comes back keeps its serial number, by which tasks that failed there, follow others there, or target
            // it know the engine.
            let known = self.departed.remove(uuid)
            wasKnown = known != nil
            if known == nil { self.lastSerial += 1 }
            engine = self.place(
                EngineState(uuid: uuid, serial: known ?? self.lastSerial, understandsRecall: understandsRecall))
            self.engineSlots[uuid] = engine
        }
        self.engines[Int(engine)].resources = resources
        self.lastTargets = ([], [])
        self.registered[self.engines[Int(engine)].serial] = engine
        // An engine that comes back may hold tasks.
        self.countDeep(engine, before: 0, after: self.engines[Int(engine)].load)
        if wasKnown {
            self.findGroups(naming: engine)
            // The engine may be another process with the same uuid.
            self.touch(uuid)
        }
        self.endAbsence()
        self.countKind(of: engine, abilities)
        self.refresh(engine)
        self.roomy.append(engine)
        for group in self.excludingGroups {
            if case .excluding(_, asLastResort: true) = self.groups[Int(group)].rule { self.awaken(group) }
        }
        if !resources.isEmpty { self.awakenThoseInNeed() }
    }

    /// A slot for the engine.
    mutating func place(_ state: EngineState) -> Int32 {
        if let free = self.freeEngines.popLast() {
            self.engines[Int(free)] = state
            return free
        }
        self.engines.append(state)
        return Int32(self.engines.count - 1)
    }

    /// Finds the groups whose rule names an engine that came back.
    private mutating func findGroups(naming engine: Int32) {
        let serial = self.engines[Int(engine)].serial
        for (rule, group) in self.groupByRule {
            if case .only(let serials) = rule, serials.contains(serial) { self.engines[Int(engine)].groups.append(group) }
        }
        // The order of a dictionary differs between runs.
        self.engines[Int(engine)].groups.sort()
    }

    /// Replaces the engine's abilities.
    mutating func change(_ uuid: EngineUUID, _ abilities: EngineAbilities) {
        guard let engine = self.engineSlots[uuid], !self.engines[Int(engine)].isRetired else { return }
        self.discountKind(of: engine)
        self.countKind(of: engine, abilities)
        self.touch(uuid)
        self.roomy.append(engine)
    }

    /// Has tasks that need resources looked at again, because an engine that owns some has joined.
    private mutating func awakenThoseInNeed() {
        for group in self.groups.indices where self.groups[group].live > 0 {
            guard case .only = self.groups[group].rule else { continue }
            for entry in self.groups[group].queue.entries where self.waits(entry, in: Int32(group)) {
                let index = self.tasks[Int(entry.slot)].details
                if index >= 0, !self.details[Int(index)].resources.isEmpty { self.awakened.append(self.handle(entry.slot)) }
            }
        }
    }

    /// The serial numbers of the registered engines that own at least these amounts.
    func owners(of resources: [String: Double]) -> [Int32] {
        self.registered.filter { _, engine in
            resources.allSatisfy { name, amount in self.engines[Int(engine)].resources[name, default: 0] >= amount }
        }.keys.sorted()
    }

    /// Gives the engine no more tasks, and takes it for gone once it holds none or its time to answer is over.
    mutating func retire(_ uuid: EngineUUID, at now: MonotonicTime, effects: inout [Effect]) {
        guard let engine = self.engineSlots[uuid], !self.engines[Int(engine)].isRetired else { return }
        if self.engines[Int(engine)].first < 0 { return self.leave(uuid, at: now, effects: &effects) }
        self.deregister(engine)
        let deadline = now.advanced(byNanoseconds: Self.retirement)
        self.retirements.append((uuid, deadline))
        self.wake(at: deadline, effects: &effects)
    }

    /// Removes an engine. Each task that it holds fails, or is given to another engine.
    mutating func leave(_ uuid: EngineUUID, begun: Set<TaskID>? = nil, at now: MonotonicTime, effects: inout [Effect]) {
        guard let engine = self.engineSlots.removeValue(forKey: uuid) else { return }
        if !self.engines[Int(engine)].isRetired { self.deregister(engine) }
        self.retirements.removeAll { $0.engine == uuid }
        let serial = self.engines[Int(engine)].serial
        while case let slot = self.engines[Int(engine)].first, slot >= 0 {
            self.detach(slot, from: engine)
            if let begun, !begun.contains(self.tasks[Int(slot)].id), self.rule(for: slot) != nil {
                // The engine had not begun the task.
                if self.tasks[Int(slot)].isAborted {
                    self.fail(slot, .aborted, at: now, effects: &effects)
                } else {
                    self.log.note(self.tasks[Int(slot)].id, .givenBack(uuid), at: now)
                    self.awakened.append(self.handle(slot))
                }
            } else {
                self.loseEngine(of: slot, uuid, serial: serial, at: now, effects: &effects)
            }
        }
        self.roomy.removeAll { $0 == engine }
        self.departed.insert(uuid, serial: serial)
        self.engines[Int(engine)] = EngineState(uuid: EngineUUID(""), serial: 0, understandsRecall: false)
        self.freeEngines.append(engine)
        self.settle(uuid)
    }

    /// Takes the engine out of all from which engines are chosen. Tasks for which it was the last possible engine are looked at
    /// again.
    private mutating func deregister(_ engine: Int32) {
        let serial = self.engines[Int(engine)].serial
        self.engines[Int(engine)].isRetired = true
        self.countDeep(engine, before: self.engines[Int(engine)].load, after: 0)
        self.registered[serial] = nil
        if self.registered.isEmpty { self.absenceBegins = true }
        self.discountKind(of: engine)
        self.refresh(engine)
        let naming = self.engines[Int(engine)].groups
        self.engines[Int(engine)].groups = []
        for group in naming {
            guard case .only(let serials) = self.groups[Int(group)].rule else { continue }
            if serials.allSatisfy({ self.registered[$0] == nil }) { self.awaken(group) }
        }
        for group in self.excludingGroups {
            guard case .excluding(let serials, _) = self.groups[Int(group)].rule else { continue }
            if serials.count(where: { self.registered[$0] != nil }) == self.registered.count { self.awaken(group) }
        }
    }

    /// Has every task in a group looked at again when the event's other work is done.
    private mutating func awaken(_ group: Int32) {
        for entry in self.groups[Int(group)].queue.entries where self.waits(entry, in: group) {
            self.awakened.append(self.handle(entry.slot))
        }
    }

    // MARK: Room

    func hasRoom(_ engine: Int32, at now: MonotonicTime) -> Bool {
        let index = Int(engine)
        if self.engines[index].isRetired || self.engines[index].serial == 0 { return false }
        let load = self.engines[index].load
        if let fixedLimit { return load < fixedLimit }
        return load == 0 || (load < self.limit(of: engine) && !self.engines[index].depth.looksLong(at: now))
    }

    private func limit(of engine: Int32) -> Int32 {
        if let fixedLimit { return fixedLimit }
        // A task that cannot be taken back must not be queued behind another.
        return self.engines[Int(engine)].understandsRecall ? self.engines[Int(engine)].depth.limit : 1
    }

    mutating func setLoad(of engine: Int32, _ load: Int32) {
        self.countDeep(engine, before: self.engines[Int(engine)].load, after: load)
        self.engines[Int(engine)].load = load
        self.refresh(engine)
    }

    private mutating func countDeep(_ engine: Int32, before: Int32, after: Int32) {
        guard self.fixedLimit == nil, self.engines[Int(engine)].understandsRecall, !self.engines[Int(engine)].isRecalling,
            self.registered[self.engines[Int(engine)].serial] != nil
        else { return }
        if before < 2, after >= 2 { self.deepEngines += 1 }
        if before >= 2, after < 2 { self.deepEngines -= 1 }
    }

    /// Puts the engine into the heap for its load, or into none if it is full or retired.
    private mutating func refresh(_ engine: Int32) {
        let load = self.engines[Int(engine)].load
        if self.engines[Int(engine)].isRetired {
            self.idle.remove(engine)
            self.partly.remove(engine)
        } else if load == 0 {
            self.partly.remove(engine)
            self.idle.update(engine, EngineHeap.Key(load: 0, lastUsed: self.engines[Int(engine)].lastUsed))
        } else {
            self.idle.remove(engine)
            if load < self.limit(of: engine) {
                let key = EngineHeap.Key(load: self.scheme == .lru ? 0 : load, lastUsed: self.engines[Int(engine)].lastUsed)
                self.partly.update(engine, key)
            } else {
                self.partly.remove(engine)
            }
        }
    }
}
