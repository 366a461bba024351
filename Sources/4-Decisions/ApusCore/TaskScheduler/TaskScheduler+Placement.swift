internal import ApusWire

extension TaskScheduler {
    // MARK: Which engines

    /// Which engines may run the task now, apart from room and unfinished dependencies; nil if none ever can.
    ///
    /// Engines where the task failed are left out while another engine may take it. If the task has a time-out they stay left
    /// out, as in ipyparallel, whose users expect such a task to end as timed out.
    func rule(for slot: Int32) -> PlacementRule? {
        let index = self.tasks[Int(slot)].details
        let able = self.ableEngines(for: slot)
        let anyAble = able.map { PlacementRule.only($0) } ?? .any
        guard index >= 0 else { return anyAble }
        if self.details[Int(index)].attempts.isEmpty, self.details[Int(index)].follow == nil,
            self.details[Int(index)].resources.isEmpty
        {
            // The common case, without a copy of the details.
            guard let targets = self.details[Int(index)].targets else { return anyAble }
            if able == nil, !targets.isEmpty, targets.allSatisfy({ self.registered[$0] != nil }) { return .only(targets) }
        }
        let details = self.details[Int(index)]
        var refused = self.engines(in: details) { $0.isRefusal }
        let failed = self.engines(in: details) { $0.isFailure }
        let lacking = self.engines(in: details) { $0.lacksModule }

        var allowed = details.targets
        switch self.following(slot) {
        case .anywhere, .notYet: break
        case .never: return nil
        case .on(let engines): allowed = allowed.map { $0.filter(engines.contains) } ?? engines
        }
        var mayCome = false
        if !details.resources.isEmpty {
            // A task that names no engines can wait for a new engine that owns enough.
            mayCome = allowed == nil
            let owners = self.owners(of: details.resources)
            // A new engine may own as much, but is not expected to have a module that all the owners lack.
            if mayCome, !owners.isEmpty, owners.allSatisfy(lacking.contains) { mayCome = false }
            allowed = allowed.map { $0.filter(owners.contains) } ?? owners
        }
        if let allowed {
            let willing = allowed.filter { self.registered[$0] != nil && !refused.contains($0) }
            // If none of the allowed engines can run the task, one of them gets it all the same, and answers why it cannot. But a
            // task that needs resources waits while a new engine may both own enough and be able to run it.
            let capable = able.map { able in willing.filter(able.contains) } ?? willing
            let left = capable.isEmpty && !mayCome ? willing : capable
            let fresh = left.filter { !failed.contains($0) }
            if !fresh.isEmpty { return .only(fresh) }
            if mayCome, left.isEmpty || details.timeout > 0 { return .only([]) }
            return left.isEmpty || details.timeout > 0 ? nil : .only(left)
        }
        if !lacking.isEmpty, (able ?? Array(self.registered.keys)).allSatisfy(lacking.contains) { return nil }
        if let able { refused = Set(self.registered.keys.filter { !able.contains($0) } + refused).sorted() }
        if failed.isEmpty { return refused.isEmpty ? .any : .excluding(refused, asLastResort: false) }
        let either = Set(refused + failed).sorted()
        if details.timeout > 0 || failed.allSatisfy(refused.contains) || either.count < self.registered.count {
            return .excluding(either, asLastResort: false)
        }
        return .excluding(refused, asLastResort: true)
    }

    /// The serial numbers of registered engines that had the task and where it ended in a chosen way, in order.
    private func engines(in details: TaskDetails, where ended: (TaskDetails.Attempt.Ending) -> Bool) -> [Int32] {
        if details.attempts.isEmpty { return [] }
        let serials = details.attempts.filter { ended($0.ending) && self.registered[$0.engine] != nil }.map(\.engine)
        return Set(serials).sorted()
    }

    mutating func noteAttempt(_ slot: Int32, on serial: Int32, _ ending: TaskDetails.Attempt.Ending) {
        let index = self.makeDetails(of: slot)
        // Each engine has at most two entries: one for a failure and one for another ending.
        let known = self.details[index].attempts.firstIndex {
            $0.engine == serial && $0.ending.isFailure == ending.isFailure
        }
        if let known {
            self.details[index].attempts[known].ending = ending
        } else {
            self.details[index].attempts.append(TaskDetails.Attempt(engine: serial, ending: ending))
        }
    }

    /// Whether the engine was given the task before and has answered without success.
    func hasTried(_ slot: Int32, on serial: Int32) -> Bool {
        let index = self.tasks[Int(slot)].details
        return index >= 0 && self.details[Int(index)].attempts.contains { $0.engine == serial }
    }

    func lastAttempt(of slot: Int32) -> Int32? {
        let index = self.tasks[Int(slot)].details
        return index >= 0 ? self.details[Int(index)].attempts.last?.engine : nil
    }

    // MARK: The queue

    /// Decides whether a task that no engine has is blocked, ready, or impossible.
    mutating func consider(_ slot: Int32) {
        let index = self.tasks[Int(slot)].details
        if index >= 0 {
            if self.details[Int(index)].doom != nil { return self.doomed.append(self.handle(slot)) }
            if self.details[Int(index)].pausedUntil != nil || self.details[Int(index)].awaitsReports
                || !self.details[Int(index)].sought.isEmpty
            {
                return self.leaveQueue(slot)
            }
            if let after = self.details[Int(index)].after {
                if after.isUnreachable { return self.doomed.append(self.handle(slot)) }
                guard after.isMet else { return self.leaveQueue(slot) }
                self.details[Int(index)].after = nil
            }
            if case .notYet = self.following(slot) { return self.leaveQueue(slot) }
            if !self.details[Int(index)].inputs.isEmpty { return self.leaveQueue(slot) }
        }
        if self.needsExpectedEngine(slot) {
            self.suspend(slot)
            return self.leaveQueue(slot)
        }
        guard let rule = self.rule(for: slot) else {
            self.doomed.append(self.handle(slot))
            return
        }
        self.enqueue(slot, rule)
    }

    mutating func enqueue(_ slot: Int32, _ rule: PlacementRule) {
        let group = self.group(for: rule)
        if self.tasks[Int(slot)].status == .ready {
            if self.tasks[Int(slot)].place == group { return }
            self.leaveQueue(slot)
        }
        let entry = ReadyQueue.Entry(
            priority: self.tasks[Int(slot)].priority, depth: self.tasks[Int(slot)].depth, slot: slot,
            sequence: self.tasks[Int(slot)].sequence)
        self.groups[Int(group)].queue.insert(entry)
        self.groups[Int(group)].live += 1
        self.tasks[Int(slot)].status = .ready
        self.tasks[Int(slot)].place = group
    }

    /// Takes a ready task out of its group; a task that is not ready stays as it is. The queue entry is skipped later.
    mutating func leaveQueue(_ slot: Int32) {
        guard self.tasks[Int(slot)].status == .ready else { return }
        let group = self.tasks[Int(slot)].place
        self.tasks[Int(slot)].status = .blocked
        self.tasks[Int(slot)].place = -1
        self.groups[Int(group)].live -= 1
        if self.groups[Int(group)].live == 0 {
            self.close(group)
        } else if self.groups[Int(group)].queue.count > 2 * self.groups[Int(group)].live + 64 {
            let live = self.groups[Int(group)].queue.entries.filter { self.waits($0, in: group) }
            self.groups[Int(group)].queue = ReadyQueue(live)
        }
    }

    func waits(_ entry: ReadyQueue.Entry, in group: Int32) -> Bool {
        let slot = Int(entry.slot)
        return self.tasks[slot].sequence == entry.sequence && self.tasks[slot].status == .ready && self.tasks[slot].place == group
    }

    /// The first task that waits in a group.
    private mutating func head(of group: Int32) -> ReadyQueue.Entry? {
        guard self.groups[Int(group)].live > 0 else { return nil }
        while let entry = self.groups[Int(group)].queue.first {
            if self.waits(entry, in: group) { return entry }
            self.groups[Int(group)].queue.removeFirst()
        }
        return nil
    }

    /// The group of a rule, opened now if no task waits under it.
    private mutating func group(for rule: PlacementRule) -> Int32 {
        if case .any = rule { return 0 }
        if let group = self.groupByRule[rule] { return group }
        let group: Int32
        if let free = self.freeGroups.popLast() {
            group = free
            self.groups[Int(group)] = PlacementGroup(rule: rule)
        } else {
            group = Int32(self.groups.count)
            self.groups.append(PlacementGroup(rule: rule))
        }
        self.groupByRule[rule] = group
        switch rule {
        case .any: break
        case .excluding: self.excludingGroups.append(group)
        case .only(let serials):
            for serial in serials {
                if let engine = self.registered[serial] { self.engines[Int(engine)].groups.append(group) }
            }
        }
        return group
    }

    /// Removes a group without tasks; the first group stays, and only its queue is emptied.
    private mutating func close(_ group: Int32) {
        let rule = self.groups[Int(group)].rule
        if group == 0 {
            if self.groups[0].queue.count > 64 { self.groups[0].queue = ReadyQueue() }
            return
        }
        self.groupByRule[rule] = nil
        self.groups[Int(group)] = PlacementGroup(rule: .any)
        self.freeGroups.append(group)
        switch rule {
        case .any: break
        case .excluding: self.excludingGroups.removeAll { $0 == group }
        case .only(let serials):
            for serial in serials {
                if let engine = self.registered[serial] { self.engines[Int(engine)].groups.removeAll { $0 == group } }
            }
        }
    }

    // MARK: Giving out

    /// Gives out tasks that this engine may run, in the order of their queues, until it has no room for another.
    ///
    /// The scheme may choose another engine with room for such a task.
    mutating func fill(_ engine: Int32, at now: MonotonicTime, effects: inout [Effect]) {
        while self.hasRoom(engine, at: now) {
            var best = self.head(of: 0)
            var group: Int32 = 0
            for other in self.engines[Int(engine)].groups {
                guard let entry = self.head(of: other), best.map({ entry < $0 }) ?? true else { continue }
                best = entry
                group = other
            }
            for other in self.excludingGroups {
                guard self.allows(self.groups[Int(other)].rule, self.engines[Int(engine)].serial),
                    let entry = self.head(of: other), best.map({ entry < $0 }) ?? true
                else { continue }
                best = entry
                group = other
            }
            guard let best, let chosen = self.choose(self.groups[Int(group)].rule, at: now) else { return }
            self.groups[Int(group)].queue.removeFirst()
            self.send(best.slot, to: chosen, at: now, effects: &effects)
        }
    }

    /// Gives out a group's tasks while any engine has room for one.
    mutating func drain(_ group: Int32, at now: MonotonicTime, effects: inout [Effect]) {
        while let entry = self.head(of: group), let chosen = self.choose(self.groups[Int(group)].rule, at: now) {
            self.groups[Int(group)].queue.removeFirst()
            self.send(entry.slot, to: chosen, at: now, effects: &effects)
        }
    }

    func allows(_ rule: PlacementRule, _ serial: Int32) -> Bool {
        switch rule {
        case .any: true
        case .excluding(let serials, _): !serials.contains(serial)
        case .only(let serials): serials.contains(serial)
        }
    }

    /// Gives a waiting task to an engine.
    mutating func send(_ slot: Int32, to engine: Int32, at now: MonotonicTime, effects: inout [Effect]) {
        self.assign(slot, to: engine, at: now)
        let id = self.tasks[Int(slot)].id
        let uuid = self.engines[Int(engine)].uuid
        // An earlier controller may have given a restored task to this engine, though nobody wrote that down.
        if self.hasTried(slot, on: self.engines[Int(engine)].serial) || self.tasks[Int(slot)].isRestored {
            self.tasks[Int(slot)].isRestored = false
            effects.append(.sendAgain(id, to: uuid))
        } else {
            effects.append(.send(id, to: uuid))
        }
        self.log.note(id, .sent(uuid), at: now)
    }

    /// Marks the task as held by the engine; sends nothing.
    mutating func assign(_ slot: Int32, to engine: Int32, at now: MonotonicTime) {
        self.leaveQueue(slot)
        self.stopClock(of: slot)
        self.countAssigned(by: 1)

        self.tasks[Int(slot)].status = .assigned
        self.tasks[Int(slot)].place = engine
        self.tasks[Int(slot)].next = -1
        let last = self.engines[Int(engine)].last
        self.tasks[Int(slot)].previous = last
        if last >= 0 {
            self.tasks[Int(last)].next = slot
        } else {
            self.engines[Int(engine)].first = slot
        }
        self.engines[Int(engine)].last = slot
        self.lastUse += 1
        self.engines[Int(engine)].lastUsed = self.lastUse
        if self.engines[Int(engine)].load == 0 { self.engines[Int(engine)].depth.started(at: now) }
        self.setLoad(of: engine, self.engines[Int(engine)].load + 1)
    }

    /// Takes a task from the engine that has it; the engine may now have room.
    mutating func detach(_ slot: Int32, from engine: Int32) {
        let (previous, next) = (self.tasks[Int(slot)].previous, self.tasks[Int(slot)].next)
        if previous >= 0 { self.tasks[Int(previous)].next = next } else { self.engines[Int(engine)].first = next }
        if next >= 0 { self.tasks[Int(next)].previous = previous } else { self.engines[Int(engine)].last = previous }
        let wasCounted = !self.tasks[Int(slot)].isWaiting
        self.tasks[Int(slot)].status = .blocked
        self.tasks[Int(slot)].isWaiting = false
        self.tasks[Int(slot)].hasWaited = false
        self.tasks[Int(slot)].place = -1
        self.tasks[Int(slot)].next = -1
        self.tasks[Int(slot)].previous = -1
        self.countAssigned(by: -1)
        if wasCounted { self.setLoad(of: engine, self.engines[Int(engine)].load - 1) }
        if !self.roomy.contains(engine) { self.roomy.append(engine) }
    }
}
