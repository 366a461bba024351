internal import ApusWire

extension TaskScheduler {
    /// Stores the request's conditions.
    ///
    /// - Returns: Why the task fails at once; nil if it does not.
    mutating func addConditions(of request: TaskRequest, to slot: Int32, effects: inout [Effect]) -> TaskFailure? {
        let index = self.makeDetails(of: slot)
        self.details[index].timeout = request.timeout?.wholeNanoseconds ?? 0
        self.details[index].resources = request.resources
        if !request.targets.isEmpty {
            self.details[index].targets = self.serials(of: request.targets)
        }
        if let after = request.after, !after.tasks.isEmpty {
            let (state, unknown, fault) = self.assess(after, of: slot)
            if !state.isMet {
                if let fault { return .invalidDependency(fault) }
                if unknown.isEmpty, let impossibility = state.impossibility(.after) {
                    return .impossibleDependency(impossibility)
                }
                self.details[index].after = state
                self.details[index].sought.formUnion(unknown)
            }
        }
        if let follow = request.follow, !follow.tasks.isEmpty {
            let (state, unknown, fault) = self.assess(follow, of: slot)
            if let fault { return .invalidDependency(fault) }
            if unknown.isEmpty, let impossibility = state.impossibility(.follow) { return .impossibleDependency(impossibility) }
            self.details[index].follow = state
            self.details[index].sought.formUnion(unknown)
        }
        if let failure = self.addInputs(of: request, to: slot, effects: &effects) { return failure }
        for id in self.details[index].sought.sorted() {
            if self.soughtOutcomes[id] == nil { effects.append(.findOutcome(of: id)) }
            self.soughtOutcomes[id, default: []].append(self.handle(slot))
        }
        if let after = self.details[index].after { self.register(slot, for: after, .after) }
        if let follow = self.details[index].follow { self.register(slot, for: follow, .follow) }
        return nil
    }

    /// Has the task wait for the results that are its arguments. The driver is asked for results of tasks that are not live.
    private mutating func addInputs(of request: TaskRequest, to slot: Int32, effects: inout [Effect]) -> TaskFailure? {
        var inputs = TaskDetails.Inputs()
        for id in request.inputs where !inputs.unfinished.contains(id) && !inputs.sought.contains(id) {
            if let other = self.slot(of: id) {
                if other == slot { return .invalidDependency(.itself) }
                inputs.unfinished.append(id)
            } else if self.finished.outcome(of: Self.fingerprint(of: id))?.succeeded == false {
                return .inputFailed(id)
            } else {
                inputs.sought.append(id)
            }
        }
        for id in inputs.unfinished { self.addDependent(slot, .input, to: id) }
        for id in inputs.sought { effects.append(.findResult(of: id, for: request.id)) }
        self.details[self.makeDetails(of: slot)].inputs = inputs
        return nil
    }

    /// Notes that the driver has found a result, or cannot get it. Ignored unless the task is blocked.
    mutating func takeInput(_ input: TaskID, for task: TaskID, missing reason: String?) {
        // A restored task that an engine has needs its arguments if it is given out again.
        guard let slot = self.slot(of: task), case let status = self.tasks[Int(slot)].status, status != .ready,
            case let index = self.tasks[Int(slot)].details, index >= 0,
            let place = self.details[Int(index)].inputs.sought.firstIndex(of: input)
        else { return }
        if let reason {
            self.details[Int(index)].doom = .inputMissing(input, reason)
            if status == .blocked { self.doomed.append(self.handle(slot)) }
        } else {
            self.details[Int(index)].inputs.sought.remove(at: place)
            if status == .blocked { self.awakened.append(self.handle(slot)) }
        }
    }

    /// The serial numbers of the engines, in order. Engines that the scheduler does not know are left out.
    private mutating func serials(of targets: [EngineUUID]) -> [Int32] {
        // A view gives all its tasks the same targets, so the last list is kept.
        if targets == self.lastTargets.uuids { return self.lastTargets.serials }
        // Clients hear of an engine after the scheduler does, so an unknown engine is long gone. One that has just left may come
        // back.
        let serials = targets.compactMap { uuid in
            self.engineSlots[uuid].map { self.engines[Int($0)].serial } ?? self.departed.serial(of: uuid)
        }
        self.lastTargets = (targets, Set(serials).sorted())
        return self.lastTargets.serials
    }

    /// How far a condition is met now, which of its tasks are to be looked for in the records, and why it is invalid if it is.
    private func assess(
        _ condition: TaskDependency, of slot: Int32
    ) -> (DependencyState, unknown: [TaskID], fault: InvalidDependency?) {
        var state = DependencyState(condition)
        var unknown: [TaskID] = []
        var fault: InvalidDependency? = !condition.success && !condition.failure ? .noEnding : nil
        for id in condition.tasks {
            if let other = self.slot(of: id) {
                if other == slot { fault = fault ?? .itself }
                state.unfinished += 1
            } else if let outcome = self.finished.outcome(of: Self.fingerprint(of: id)) {
                state.note(outcome, of: id)
            } else {
                if self.hasRecords { unknown.append(id) } else { fault = fault ?? .unknown(id) }
                state.unfinished += 1
            }
        }
        return (state, unknown, fault)
    }

    /// Tells the tasks for which a task was looked for in the records how it has ended, or that no end of it is known.
    ///
    /// A task that has been submitted meanwhile is waited for; one that has ended meanwhile counts with that end.
    ///
    /// - Parameter reason: Why the records could not be read; nil if they were read.
    mutating func takeOutcome(of task: TaskID, missing reason: String? = nil) {
        guard let seekers = self.soughtOutcomes.removeValue(forKey: task) else { return }
        let isLive = self.slot(of: task) != nil
        let outcome = self.finished.outcome(of: Self.fingerprint(of: task))
        for handle in seekers where self.isCurrent(handle) {
            let (slot, index) = (handle.slot, Int(self.tasks[Int(handle.slot)].details))
            self.details[index].sought.remove(task)
            for kind in [TaskDetails.Dependent.Kind.after, .follow] {
                let state = kind == .after ? self.details[index].after : self.details[index].follow
                for _ in 0..<(state?.condition.tasks.count { $0 == task } ?? 0) {
                    if isLive {
                        self.addDependent(slot, kind, to: task)
                    } else if let outcome {
                        self.note(outcome, of: task, kind, at: index)
                    }
                }
            }
            if !isLive, outcome == nil, self.details[index].doom == nil {
                self.details[index].doom = .invalidDependency(reason.map { .unreadable(task, $0) } ?? .unknown(task))
            }
            if self.tasks[Int(slot)].status != .assigned { self.awakened.append(handle) }
        }
    }

    /// Counts the end of a task in another's condition.
    private mutating func note(
        _ outcome: FinishedTasks.Outcome, of task: TaskID, _ kind: TaskDetails.Dependent.Kind, at index: Int
    ) {
        if kind == .after {
            self.details[index].after?.unfinished -= 1
            self.details[index].after?.note(outcome, of: task)
        } else {
            self.details[index].follow?.unfinished -= 1
            self.details[index].follow?.note(outcome, of: task)
        }
    }

    private mutating func register(_ slot: Int32, for state: DependencyState, _ kind: TaskDetails.Dependent.Kind) {
        guard state.unfinished > 0 else { return }
        for id in state.condition.tasks { self.addDependent(slot, kind, to: id) }
    }

    private mutating func addDependent(_ slot: Int32, _ kind: TaskDetails.Dependent.Kind, to id: TaskID) {
        guard let other = self.slot(of: id) else { return }
        let index = self.makeDetails(of: other)
        let count = self.details[index].dependents.count
        if count >= 64, count == self.details[index].dependents.capacity {
            // Before the list grows, drop tasks that have ended already.
            let live = self.details[index].dependents.filter { self.isCurrent($0.task) }
            self.details[index].dependents = live
        }
        self.details[index].dependents.append(TaskDetails.Dependent(task: self.handle(slot), kind: kind))
    }

    /// Tells the tasks that depend on a task how it ended.
    mutating func inform(_ dependents: [TaskDetails.Dependent], of task: TaskID, _ outcome: FinishedTasks.Outcome) {
        for dependent in dependents where self.isCurrent(dependent.task) {
            let slot = dependent.task.slot
            let index = Int(self.tasks[Int(slot)].details)
            let isUnreachable: Bool
            switch dependent.kind {
            case .follow, .after:
                self.note(outcome, of: task, dependent.kind, at: index)
                let state = dependent.kind == .follow ? self.details[index].follow : self.details[index].after
                // While other tasks are looked for in the records it is not known which failure to tell.
                isUnreachable = self.details[index].sought.isEmpty && state?.isUnreachable ?? false
            case .input:
                self.details[index].inputs.unfinished.removeAll { $0 == task }
                isUnreachable = !outcome.succeeded
                if isUnreachable { self.details[index].doom = .inputFailed(task) }
            }
            // An assigned task, or a ready one whose condition is met already, is not affected.
            let status = self.tasks[Int(slot)].status
            guard status == .blocked || (status == .ready && dependent.kind == .follow) else { continue }
            if isUnreachable {
                self.doomed.append(dependent.task)
            } else {
                self.awakened.append(dependent.task)
            }
        }
    }

    /// What a task's follow dependency allows by now.
    enum Following {
        case anywhere
        case on([Int32])
        case notYet
        case never
    }

    func following(_ slot: Int32) -> Following {
        let index = self.tasks[Int(slot)].details
        guard index >= 0, let state = self.details[Int(index)].follow else { return .anywhere }
        if state.isUnreachable { return .never }
        let engines = Set(state.endedOn).sorted()
        if state.condition.all {
            // The task can run neither on two engines nor on one that is gone.
            guard engines.count < 2, engines.allSatisfy({ self.registered[$0] != nil }) else { return .never }
            return state.isMet ? .on(engines) : .notYet
        }
        let living = engines.filter { self.registered[$0] != nil }
        if !living.isEmpty { return .on(living) }
        return state.unfinished > 0 ? .notYet : .never
    }

    /// The index of the task's details, made now if it had none.
    mutating func makeDetails(of slot: Int32) -> Int {
        let present = self.tasks[Int(slot)].details
        if present >= 0 { return Int(present) }
        let index: Int32
        if let free = self.freeDetails.popLast() {
            index = free
        } else {
            index = Int32(self.details.count)
            self.details.append(TaskDetails())
        }
        self.tasks[Int(slot)].details = index
        return Int(index)
    }
}
