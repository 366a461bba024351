package import ApusWire
internal import HeapModule

/// Why a task ended for want of an engine.
package struct NoEngine: Sendable, Hashable {
    package enum Cause: Sendable, Hashable {
        /// The program that starts the engines will start no more of them, and why.
        case noneIsComing(String)
        /// No engine registered within the task's engine time-out.
        case noneCame(within: Duration)
    }

    package var cause: Cause
    /// The engine that died last while it had the task; nil if none did.
    package var lost: EngineUUID?

    package init(_ cause: Cause, lost: EngineUUID? = nil) {
        self.cause = cause
        self.lost = lost
    }
}

// What happens to tasks while no engine is registered. Engines of a controller that runs alone may come at any time, so its tasks
// wait, for at most their engine time-out if they have one. A cluster that starts its engines knows when no more will come, and
// then tasks fail.
extension TaskScheduler {
    /// Ends every task that waits, if no engine is registered and none is coming. Tasks that wait for other tasks end too, for
    /// these have no engine either.
    mutating func endUnservable(at now: MonotonicTime, effects: inout [Effect]) {
        guard let reason = self.noEngineReason, self.registered.isEmpty, self.waitingCount > 0 else { return }
        for handle in self.waitingHandles.sorted(by: { $0.sequence < $1.sequence }) where self.isCurrent(handle) {
            self.fail(handle.slot, self.noEngine(.noneIsComing(reason), for: handle.slot), at: now, effects: &effects)
        }
    }

    private var waitingHandles: [TaskHandle] {
        let slots = self.tasks.indices.filter { self.tasks[$0].status == .blocked || self.tasks[$0].status == .ready }
        return slots.map { self.handle(Int32($0)) }
    }

    private func noEngine(_ cause: NoEngine.Cause, for slot: Int32) -> TaskFailure {
        let index = self.tasks[Int(slot)].details
        return .noEngine(NoEngine(cause, lost: index >= 0 ? self.details[Int(index)].lastLost : nil))
    }

    // MARK: Engine time-outs

    /// Starts the engine time-outs of all waiting tasks, because the last registered engine has gone.
    mutating func startAbsence(at now: MonotonicTime, effects: inout [Effect]) {
        self.absenceBegins = false
        self.absence += 1
        for handle in self.waitingHandles { self.startAbsence(of: handle.slot, at: now, effects: &effects) }
    }

    /// Stops all engine time-outs, because an engine has joined.
    mutating func endAbsence() { self.absences = Heap() }

    /// Starts the engine time-out of a task that waits while no engine is registered, unless it was started already.
    mutating func startAbsence(of slot: Int32, at now: MonotonicTime, effects: inout [Effect]) {
        guard let limit = self.engineTimeout(of: slot) else { return }
        let index = self.tasks[Int(slot)].details
        if index >= 0 {
            guard self.details[Int(index)].absence != self.absence else { return }
            self.details[Int(index)].absence = self.absence
        }
        let end = now + limit
        self.absences.insert(PauseEntry(end: end, task: self.handle(slot)))
        self.wake(at: end, effects: &effects)
    }

    /// How long the task waits while no engine is registered; nil for ever.
    func engineTimeout(of slot: Int32) -> Duration? {
        let index = self.tasks[Int(slot)].details
        let own = index >= 0 ? self.details[Int(index)].engineTimeout : nil
        return (own ?? self.engineTimeout).flatMap { $0 > .zero ? $0 : nil }
    }

    /// Ends the tasks whose engine time-out is over.
    mutating func fireAbsences(at now: MonotonicTime, effects: inout [Effect]) {
        while let entry = self.absences.min, entry.end <= now {
            self.absences.removeMin()
            guard self.isCurrent(entry.task), self.tasks[Int(entry.task.slot)].status != .assigned,
                let limit = self.engineTimeout(of: entry.task.slot)
            else { continue }
            self.fail(
                entry.task.slot, self.noEngine(.noneCame(within: limit), for: entry.task.slot), at: now, effects: &effects)
        }
    }
}
