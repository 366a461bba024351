internal import ApusWire

// Questions to the hub about tasks whose answers may be lost, and the meaning of its answers for the tasks.
extension ClientSession {
    mutating func recover(
        _ tasks: [TaskID], earlierHub: String?, at now: MonotonicTime, _ effects: inout [Effect]
    ) {
        self.lastRecovery += 1
        self.recoveries[self.lastRecovery] = Recovery(of: tasks, earlierHub: earlierHub, at: now)
        effects.append(.identifyHub(recovery: self.lastRecovery))
    }

    mutating func noteHub(_ number: Int, at now: MonotonicTime, _ effects: inout [Effect]) {
        guard var recovery = self.recoveries[number], recovery.state == .identifying else { return }
        recovery.isAnotherHub = self.hub != recovery.earlierHub
        self.beginRound(recovery, number, at: now, &effects)
    }

    private mutating func beginRound(
        _ recovery: Recovery, _ number: Int, at now: MonotonicTime, _ effects: inout [Effect]
    ) {
        var recovery = recovery
        recovery.tasks.removeAll { !self.isUnsettled($0) }
        recovery.beginRound()
        self.advance(recovery, number, at: now, &effects)
    }

    /// Asks the next question that still concerns a task.
    private mutating func advance(
        _ recovery: Recovery, _ number: Int, at now: MonotonicTime, _ effects: inout [Effect]
    ) {
        var recovery = recovery
        while let question = recovery.questions.popLast() {
            switch question {
            case .results(let tasks):
                let unsettled = tasks.filter { self.isUnsettled($0) }
                if unsettled.isEmpty { continue }
                recovery.state = .asking(.results(unsettled))
                effects.append(.fetchResults(unsettled, recovery: number))
            case .engines(let tasks):
                let unsettled = tasks.filter { self.isUnsettled($0) }
                if unsettled.isEmpty { continue }
                recovery.state = .asking(.engines(unsettled))
                effects.append(.findEngines(unsettled, recovery: number))
            }
            self.recoveries[number] = recovery
            return
        }
        guard recovery.tasks.contains(where: { self.isUnsettled($0) }) else {
            self.recoveries[number] = nil
            return
        }
        let end = recovery.rest(at: now)
        self.recoveries[number] = recovery
        self.wake(at: end, &effects)
    }

    mutating func takeResults(of found: [TaskID], _ number: Int, at now: MonotonicTime, _ effects: inout [Effect]) {
        guard var recovery = self.recoveries[number], case .asking(.results) = recovery.state else { return }
        recovery.unreadableSince = nil
        for task in found where self.isUnsettled(task) {
            if let slot = self.pending.remove(task) { effects.append(.restore(slot)) }
        }
        self.advance(recovery, number, at: now, &effects)
    }

    mutating func takeProblem(
        _ problem: ResultProblem, _ number: Int, at now: MonotonicTime, _ effects: inout [Effect]
    ) {
        guard var recovery = self.recoveries[number], case .asking(.results(let asked)) = recovery.state else { return }
        recovery.unreadableSince = nil
        if asked.count == 1, problem == .unknown, let slot = self.slotToSendAgain(asked[0], isAnotherHub: recovery.isAnotherHub) {
            effects.append(.sendAgain(slot))
        } else if asked.count == 1 {
            let loss: Loss =
                switch problem {
                case .unknown, .refused: .unknown(isAnotherHub: recovery.isAnotherHub)
                case .failed: .unreadable
                }
            self.fail(asked[0], .lost(loss), &effects)
        } else {
            // The hub refuses a question as a whole where it does not know one of the tasks, so each task is asked for by itself.
            recovery.questions += asked.reversed().map { .results([$0]) }
        }
        self.advance(recovery, number, at: now, &effects)
    }

    /// Leaves the tasks of a question to the next round, because the hub could not read its records; fails them when that has lasted for
    /// as long as patience does. Damaged records never become readable.
    mutating func noteUnreadableRecords(_ number: Int, at now: MonotonicTime, _ effects: inout [Effect]) {
        guard var recovery = self.recoveries[number], case .asking(let question) = recovery.state else { return }
        let since = recovery.unreadableSince ?? now
        recovery.unreadableSince = since
        if now - since >= self.patience {
            for task in question.tasks where self.isUnsettled(task) { self.fail(task, .lost(.unreadable), &effects) }
        }
        self.advance(recovery, number, at: now, &effects)
    }

    /// The task's slot, if its request may be sent again: the controller took up all tasks that an earlier one had accepted, and
    /// does not know this one. The engine of a direct request may have run it before the earlier controller could record it, so
    /// the engine must be one that can tell.
    private func slotToSendAgain(_ task: TaskID, isAnotherHub: Bool) -> Slot? {
        guard self.features.contains(.restoration), self.isUnsettled(task), let slot = self.pending.slot(of: task) else {
            return nil
        }
        switch self.pending[slot].request.channel {
        case .task: return slot
        case .mux: return !isAnotherHub || self.pending[slot].request.targets.allSatisfy(self.directory.reports) ? slot : nil
        default: return nil
        }
    }

    /// Fails the tasks that no engine known to a new controller has. A controller that takes up the tasks of an earlier one ends
    /// them itself.
    mutating func takeEngines(
        _ engines: [TaskID: EngineUUID], _ number: Int, at now: MonotonicTime, _ effects: inout [Effect]
    ) {
        guard var recovery = self.recoveries[number], case .asking(.engines(let asked)) = recovery.state else { return }
        recovery.unreadableSince = nil
        let engineMayReturn = now - recovery.began < Recovery.engineReturn
        for task in asked where self.isUnsettled(task) && !self.features.contains(.restoration) {
            guard let engine = engines[task] else {
                self.fail(task, .lost(.unassigned), &effects)
                continue
            }
            if engineMayReturn || self.directory.id(of: engine) != nil { continue }
            self.fail(task, .lost(.engineStayedAway), &effects)
        }
        self.advance(recovery, number, at: now, &effects)
    }

    mutating func giveUp(_ number: Int, _ effects: inout [Effect]) {
        guard let recovery = self.recoveries.removeValue(forKey: number) else { return }
        for task in recovery.tasks where self.isUnsettled(task) { self.fail(task, .lost(.unaskable), &effects) }
    }

    mutating func resumeRecoveries(at now: MonotonicTime, _ effects: inout [Effect]) {
        let rested = self.recoveries.filter { _, recovery in
            if case .resting(let end) = recovery.state { end <= now } else { false }
        }
        for (number, recovery) in rested.sorted(by: { $0.key < $1.key }) {
            self.beginRound(recovery, number, at: now, &effects)
        }
    }
}
