internal import ApusWire
internal import HeapModule

/// When a waiting task times out, if its clock has not been stopped since.
struct TimeoutEntry: Comparable, Sendable {
    let deadline: MonotonicTime
    let task: TaskHandle
    let arming: UInt32

    static func < (left: TimeoutEntry, right: TimeoutEntry) -> Bool {
        left.deadline != right.deadline ? left.deadline < right.deadline : left.task.sequence < right.task.sequence
    }
}

/// When a task's pause, or another wait of the task, is over, if the task has not ended since.
struct PauseEntry: Comparable, Sendable {
    let end: MonotonicTime
    let task: TaskHandle

    static func < (left: PauseEntry, right: PauseEntry) -> Bool {
        left.end != right.end ? left.end < right.end : left.task.sequence < right.task.sequence
    }
}

extension TaskScheduler {
    /// How long the first task of an engine must have run before the tasks behind it are taken back, in nanoseconds.
    static let longTask: UInt64 = 5_000_000
    /// How soon after an engine fell idle the others are looked at, in nanoseconds.
    static let recallCheckDelay: UInt64 = 1_000_000
    /// How long an engine is not asked again after it was asked, or had no task to give, in nanoseconds.
    private static let recallPause: UInt64 = 50_000_000

    /// Sets the timer to this time, unless it is set to an earlier one.
    mutating func wake(at deadline: MonotonicTime, effects: inout [Effect]) {
        guard deadline < self.timer else { return }
        self.timer = deadline
        effects.append(.setTimer(deadline))
    }

    mutating func fireTimer(at now: MonotonicTime, effects: inout [Effect]) {
        self.timer = .distantFuture
        while let entry = self.timeouts.min, entry.deadline <= now || !self.isRunning(entry) {
            self.timeouts.removeMin()
            if self.isRunning(entry) {
                let reason = self.whyWaiting(self.tasks[Int(entry.task.slot)].id)
                self.fail(entry.task.slot, .timeout(reason), at: now, effects: &effects)
            }
        }
        self.fireAbsences(at: now, effects: &effects)
        self.reoffer(at: now)
        while let entry = self.pauses.min, entry.end <= now {
            self.pauses.removeMin()
            guard self.isCurrent(entry.task), case let index = self.tasks[Int(entry.task.slot)].details, index >= 0 else {
                continue
            }
            self.details[Int(index)].pausedUntil = nil
            self.awakened.append(entry.task)
        }
        while let retirement = self.retirements.first, retirement.at <= now {
            self.leave(retirement.engine, at: now, effects: &effects)
        }
        if self.recallCheck <= now { self.recall(at: now, effects: &effects) }
        let next = min(
            self.timeouts.min?.deadline ?? .distantFuture, self.pauses.min?.end ?? .distantFuture,
            self.retirements.first?.at ?? .distantFuture, self.recallCheck, self.absences.min?.end ?? .distantFuture,
            self.nextReoffer(at: now))
        self.wake(at: next, effects: &effects)
    }

    // MARK: Time-outs

    /// Starts the clock of a task that has begun to wait; a task that waited already keeps its deadline.
    mutating func startClock(of slot: Int32, at now: MonotonicTime, effects: inout [Effect]) {
        let index = self.tasks[Int(slot)].details
        guard index >= 0, case let timeout = self.details[Int(index)].timeout, timeout > 0,
            self.details[Int(index)].timeoutArming & 1 == 0
        else { return }
        self.details[Int(index)].timeoutArming &+= 1
        // A task that an engine refused keeps its deadline.
        let deadline = self.details[Int(index)].deadline ?? now.advanced(byNanoseconds: timeout)
        self.details[Int(index)].deadline = deadline
        if self.timeouts.count > 2 * self.waitingCount + 64 {
            let live = self.timeouts.unordered.filter { self.isRunning($0) }
            self.timeouts = Heap(live)
        }
        self.timeouts.insert(
            TimeoutEntry(deadline: deadline, task: self.handle(slot), arming: self.details[Int(index)].timeoutArming))
        self.wake(at: deadline, effects: &effects)
    }

    mutating func stopClock(of slot: Int32) {
        let index = self.tasks[Int(slot)].details
        guard index >= 0, self.details[Int(index)].timeoutArming & 1 == 1 else { return }
        self.details[Int(index)].timeoutArming &+= 1
    }

    private func isRunning(_ entry: TimeoutEntry) -> Bool {
        guard self.isCurrent(entry.task), case let index = self.tasks[Int(entry.task.slot)].details, index >= 0 else {
            return false
        }
        return self.details[Int(index)].timeoutArming == entry.arming
    }

    // MARK: Recall

    /// Asks each engine whose first task runs long to give back the tasks behind it that an idle engine may run.
    private mutating func recall(at now: MonotonicTime, effects: inout [Effect]) {
        self.recallCheck = .distantFuture
        guard !self.idle.isEmpty else { return }
        for engine in self.engines.indices {
            let state = self.engines[engine]
            guard state.load > 1, state.understandsRecall, !state.isRecalling, !state.isRetired else { continue }
            let due = max(state.depth.progress.advanced(byNanoseconds: Self.longTask), state.nextRecall)
            guard due <= now else {
                self.recallCheck = min(self.recallCheck, due)
                continue
            }
            self.engines[engine].nextRecall = now.advanced(byNanoseconds: Self.recallPause)
            let movable = self.movableTasks(on: Int32(engine))
            if movable.isEmpty {
                self.recallCheck = min(self.recallCheck, self.engines[engine].nextRecall)
            } else {
                self.engines[engine].isRecalling = true
                self.deepEngines -= 1
                effects.append(.recall(movable, from: state.uuid))
            }
        }
    }

    /// The tasks behind the engine's first that an idle engine may run.
    private func movableTasks(on engine: Int32) -> [TaskID] {
        var movable: [TaskID] = []
        var slot = self.engines[Int(engine)].first
        // The first task that does not wait runs, and all that have waited were begun.
        var runs = false
        while slot >= 0 {
            let isBegun = self.tasks[Int(slot)].hasWaited || !runs
            if !self.tasks[Int(slot)].isWaiting { runs = true }
            if !isBegun, !self.tasks[Int(slot)].isAborted, let rule = self.rule(for: slot),
                self.idle.entries.contains(where: { self.allows(rule, self.engines[Int($0.engine)].serial) })
            {
                movable.append(self.tasks[Int(slot)].id)
            }
            slot = self.tasks[Int(slot)].next
        }
        return movable
    }
}
