package import ApusWire
internal import HeapModule

/// An engine's answer that it does not meet a task's dependencies (`@depend`, `@require`).
package struct Refusal: Sendable, Hashable {
    package var engine: EngineUUID
    package var at: MonotonicTime
    /// The module that the engine does not have (`@require`); nil for a condition, which the engine may meet later.
    package var lacks: String?

    package init(by engine: EngineUUID, at: MonotonicTime, lacks: String? = nil) {
        self.engine = engine
        self.at = at
        self.lacks = lacks
    }
}

// A task that an engine refused is offered to that engine again only when something has run there that may have changed the
// answer, or after a set interval.
extension TaskScheduler {
    /// How many tasks are offered again at one time when the interval has passed; others follow after `reofferPause`.
    private static let reoffersAtOnce = 64
    private static let reofferPause = Duration.milliseconds(100)

    /// Whether an engine may have refused a live task; false only if none has.
    package var mayHaveRefusals: Bool { !self.refused.isEmpty }

    /// Notes that the engine refused the task. The caller has the task offered to other engines.
    mutating func noteRefusal(_ slot: Int32, by serial: Int32, lacks: String?, at now: MonotonicTime, effects: inout [Effect]) {
        self.noteAttempt(slot, on: serial, lacks.map { .lacks($0, at: now) } ?? .refused(at: now))
        let index = Int(self.tasks[Int(slot)].details)
        if !self.details[index].isListedAsRefused {
            self.details[index].isListedAsRefused = true
            if self.refused.count > 2 * (self.waitingCount + self.assignedCount) + 64 {
                let live = self.refused.filter { self.isCurrent($0) }
                self.refused = live
            }
            self.refused.append(self.handle(slot))
        }
        guard lacks == nil, let interval = self.dependencyInterval else { return }
        self.reoffers.insert(PauseEntry(end: now + interval, task: self.handle(slot)))
        self.wake(at: now + interval, effects: &effects)
    }

    /// Forgets all refusals of an engine where something other than a task has run, missing modules among them.
    mutating func touch(_ uuid: EngineUUID) {
        guard !self.refused.isEmpty, let engine = self.engineSlots[uuid], !self.engines[Int(engine)].isRetired else { return }
        let serial = self.engines[Int(engine)].serial
        let live = self.refused.filter { self.isCurrent($0) }
        self.refused = live
        for handle in live { self.forgetRefusals(of: handle.slot) { $0.engine == serial } }
    }

    /// Forgets refusals since which the interval has passed, of up to `reoffersAtOnce` tasks. Missing modules are not forgotten.
    mutating func reoffer(at now: MonotonicTime) {
        guard let interval = self.dependencyInterval else { return }
        var count = 0
        while let entry = self.reoffers.min, entry.end <= now, count < Self.reoffersAtOnce {
            self.reoffers.removeMin()
            guard self.isCurrent(entry.task) else { continue }
            count += 1
            self.forgetRefusals(of: entry.task.slot) { attempt in
                if case .refused(let time) = attempt.ending { time + interval <= now } else { false }
            }
        }
    }

    /// When `reoffer` must be called next; the distant future if there is nothing to forget.
    func nextReoffer(at now: MonotonicTime) -> MonotonicTime {
        guard let next = self.reoffers.min?.end else { return .distantFuture }
        return next <= now ? now + Self.reofferPause : next
    }

    /// Has the task offered again to the engines whose refusals are chosen.
    private mutating func forgetRefusals(of slot: Int32, where isChosen: (TaskDetails.Attempt) -> Bool) {
        let details = Int(self.tasks[Int(slot)].details)
        guard details >= 0 else { return }
        var hasChanged = false
        for index in self.details[details].attempts.indices
        where self.details[details].attempts[index].ending.isRefusal && isChosen(self.details[details].attempts[index]) {
            self.details[details].attempts[index].ending = .mayHaveChanged
            hasChanged = true
        }
        if hasChanged, self.tasks[Int(slot)].status != .assigned { self.awakened.append(self.handle(slot)) }
    }

    /// The refusals of a task by registered engines, in the order in which the engines joined.
    func refusals(in details: TaskDetails) -> [Refusal] {
        let refusals = details.attempts.compactMap { attempt -> (serial: Int32, refusal: Refusal)? in
            guard let engine = self.registered[attempt.engine] else { return nil }
            let uuid = self.engines[Int(engine)].uuid
            switch attempt.ending {
            case .refused(let time): return (attempt.engine, Refusal(by: uuid, at: time))
            case .lacks(let module, let time): return (attempt.engine, Refusal(by: uuid, at: time, lacks: module))
            case .failed, .recalled, .mayHaveChanged: return nil
            }
        }
        return refusals.sorted { $0.serial < $1.serial }.map(\.refusal)
    }
}
