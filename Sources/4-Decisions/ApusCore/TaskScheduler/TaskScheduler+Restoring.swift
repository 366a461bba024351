package import ApusWire

/// An engine's report to a controller that took the place of another: which of its requests the engine holds.
package struct EngineReport: Sendable, Equatable {
    /// The requests that the engine was asked about.
    package var asked: Set<TaskID>
    /// The requests that the engine runs, has queued, or has answered and answers again.
    package var has: Set<TaskID>
    /// The requests, among those asked about, that the engine may have run and whose answers it cannot repeat.
    package var lost: Set<TaskID>

    package init(asked: Set<TaskID>, has: Set<TaskID>, lost: Set<TaskID> = []) {
        self.asked = asked
        self.has = has
        self.lost = lost
    }
}

extension EngineReport {
    /// The content of an `apus_report_reply` (protocol article, "After a controller that was killed").
    package var json: JSONObject {
        func ids(_ tasks: Set<TaskID>) -> JSONValue { JSONValue(tasks.map(\.text).sorted()) }
        return ["status": "ok", "asked": ids(self.asked), "has": ids(self.has), "lost": ids(self.lost)]
    }

    /// Nil when the content is no report.
    package init?(_ content: JSONValue) {
        func ids(_ name: String) -> Set<TaskID>? {
            content[name]?.array.map { Set($0.compactMap { $0.string.map { TaskID($0) } }) }
        }
        guard let asked = ids("asked"), let has = ids("has"), let lost = ids("lost") else { return nil }
        self.init(asked: asked, has: has, lost: lost)
    }
}

// A controller that takes the place of one that was killed reads the unfinished tasks from the store: each task's request, how
// often it failed, and which engine it was given to. The last assignments may be missing there, so each engine reports what it
// holds when it comes back. Until all engines have reported, or are known to be gone, a restored task without an engine waits,
// for an engine may have it. A task that may run twice does not wait.
extension TaskScheduler {
    /// Whether any engine of the controller before this one has yet to report what it holds.
    package var awaitsReports: Bool { !self.unreported.isEmpty }

    /// Whether this engine has yet to report what it holds.
    package func awaitsReport(of engine: EngineUUID) -> Bool { self.unreported.contains(engine) }

    /// Adds an engine that has not come back yet, so that restored tasks can be assigned to it.
    mutating func expect(_ uuid: EngineUUID, _ abilities: EngineAbilities) {
        guard self.engineSlots[uuid] == nil else { return }
        var state = EngineState(uuid: uuid, serial: self.serial(of: uuid), understandsRecall: false)
        _ = self.departed.remove(uuid)
        state.isRetired = true
        state.isExpected = true
        self.engineSlots[uuid] = self.place(state)
        self.lastTargets = ([], [])
        self.unreported.insert(uuid)
        self.expectedAbilities[uuid] = abilities
    }

    /// The serial number of an engine; a new number if the engine has none.
    private mutating func serial(of uuid: EngineUUID) -> Int32 {
        if let engine = self.engineSlots[uuid] { return self.engines[Int(engine)].serial }
        if let serial = self.departed.serial(of: uuid) { return serial }
        self.lastSerial += 1
        self.departed.insert(uuid, serial: self.lastSerial)
        return self.lastSerial
    }

    /// Remembers how a task ended, for tasks that depend on it; ignored while the task is live or its end is known.
    mutating func remember(_ task: TaskID, succeeded: Bool, on engine: EngineUUID?) {
        let fingerprint = Self.fingerprint(of: task)
        guard self.slot(of: task) == nil, self.finished.outcome(of: fingerprint) == nil else { return }
        let serial = engine.map { self.serial(of: $0) } ?? -1
        self.finished.remember(fingerprint, FinishedTasks.Outcome(succeeded: succeeded, engine: serial))
    }

    /// Takes up a task of the controller before this one, and leaves it to the engine that was given it.
    mutating func restore(
        _ request: TaskRequest, failures: Int, on uuid: EngineUUID?, at now: MonotonicTime, effects: inout [Effect]
    ) {
        let fingerprint = Self.fingerprint(of: request.id)
        guard self.slot(of: request.id) == nil, self.finished.outcome(of: fingerprint) == nil else {
            effects.append(.refuse(request.id))
            return
        }
        var request = request
        request.retries = max(0, request.retries - failures)
        // A task that had an engine had already waited for the tasks that it comes after.
        if uuid != nil { request.after = nil }
        let slot = self.addTask(request, fingerprint)
        self.log.note(request.id, .restored(uuid), at: now)
        self.tasks[Int(slot)].failures = Int32(clamping: failures)
        self.tasks[Int(slot)].isRestored = true
        if failures > 0 { self.hasRetried = true }
        self.rememberAble(for: request.need)
        if let failure = self.addConditions(of: request, to: slot, effects: &effects) {
            if uuid == nil { return self.fail(slot, failure, at: now, effects: &effects) }
            // The engine may answer all the same; another engine is not to be found.
            self.details[self.makeDetails(of: slot)].doom = failure
        }
        if let uuid {
            if let engine = self.engineSlots[uuid] {
                self.assign(slot, to: engine, at: now)
            } else {
                self.loseEngine(of: slot, uuid, serial: self.serial(of: uuid), at: now, effects: &effects)
            }
            return
        }
        // A task with retries may run twice, so it need not wait for the engines' reports, unless it can run on certain engines
        // only.
        if request.retries == 0 || self.needsCertainEngines(slot) { self.suspend(slot) }
        self.awakened.append(self.handle(slot))
    }

    /// Has a task without an engine wait for the reports of all engines, if any are outstanding.
    mutating func suspend(_ slot: Int32) {
        guard !self.unreported.isEmpty else { return }
        self.details[self.makeDetails(of: slot)].awaitsReports = true
        self.suspended.append(self.handle(slot))
    }

    /// Whether none of the engines that are here has what the task needs, and one that has yet to come back has it.
    func needsExpectedEngine(_ slot: Int32) -> Bool {
        guard !self.unreported.isEmpty, let need = self.tasks[Int(slot)].need,
            !self.kinds.contains(where: { $0.count > 0 && $0.abilities.has(need) })
        else { return false }
        return self.expectedAbilities.values.contains { $0.has(need) }
    }

    /// Whether the task can run on certain engines only, which may not have come back yet.
    private func needsCertainEngines(_ slot: Int32) -> Bool {
        let index = self.tasks[Int(slot)].details
        guard index >= 0 else { return false }
        let details = self.details[Int(index)]
        return details.targets != nil || details.follow != nil || !details.resources.isEmpty
    }

    /// Compares an engine's report with the tasks that it was given by the controller before this one.
    ///
    /// A task that the engine does not have is given out again; one whose answer is lost fails, or is tried again if it has
    /// retries.
    mutating func take(
        _ report: EngineReport, from uuid: EngineUUID, at now: MonotonicTime, effects: inout [Effect]
    ) {
        guard let engine = self.engineSlots[uuid] else { return }
        for task in report.has.sorted() { self.claim(task, by: uuid, at: now) }
        var slot = self.engines[Int(engine)].first
        while slot >= 0 {
            let (current, id) = (slot, self.tasks[Int(slot)].id)
            slot = self.tasks[Int(slot)].next
            guard self.tasks[Int(current)].isRestored, report.asked.contains(id), !report.has.contains(id) else { continue }
            let serial = self.engines[Int(engine)].serial
            if report.lost.contains(id) {
                self.detach(current, from: engine)
                self.loseEngine(of: current, uuid, serial: serial, isAnswered: true, at: now, effects: &effects)
            } else if self.tasks[Int(current)].isAborted {
                self.detach(current, from: engine)
                self.fail(current, .aborted, at: now, effects: &effects)
            } else {
                // The request was lost on its way to the engine.
                self.takeBack(current, from: engine, at: now)
            }
        }
        self.settle(uuid)
    }

    /// Assigns a restored task without an engine to the engine that has reported or answered it, or has told that it waits.
    mutating func claim(_ task: TaskID, by uuid: EngineUUID, at now: MonotonicTime) {
        guard self.unreported.contains(uuid), let engine = self.engineSlots[uuid], let slot = self.slot(of: task),
            self.tasks[Int(slot)].status != .assigned, self.tasks[Int(slot)].isRestored,
            // An engine that has answered the task without success keeps the answer, and reports that it has the task.
            !self.hasTried(slot, on: self.engines[Int(engine)].serial)
        else { return }
        self.assign(slot, to: engine, at: now)
    }

    /// Stops waiting for the engine's report. After the last one, the tasks that waited for reports are looked at again.
    mutating func settle(_ uuid: EngineUUID) {
        self.expectedAbilities[uuid] = nil
        guard self.unreported.remove(uuid) != nil, self.unreported.isEmpty else { return }
        for handle in self.suspended where self.isCurrent(handle) {
            let index = self.tasks[Int(handle.slot)].details
            if index >= 0 { self.details[Int(index)].awaitsReports = false }
            self.awakened.append(handle)
        }
        self.suspended = []
    }

    /// Gives a task that its engine will not answer to another engine, or fails it.
    ///
    /// - Parameter isAnswered: Whether the engine lives and has answered the task, to the controller before this one.
    mutating func loseEngine(
        of slot: Int32, _ uuid: EngineUUID, serial: Int32, isAnswered: Bool = false, at now: MonotonicTime,
        effects: inout [Effect]
    ) {
        guard self.mayRetry(slot, after: serial) else {
            let tries = Int(self.tasks[Int(slot)].failures) + 1
            let failure: TaskFailure = isAnswered ? .answerLost(uuid, tries: tries) : .engineDied(uuid, tries: tries)
            return self.fail(slot, failure, at: now, effects: &effects)
        }
        if !isAnswered {
            self.details[self.makeDetails(of: slot)].lastLost = uuid
            if self.needsCertainEngines(slot) { self.suspend(slot) }
        }
        self.retry(slot, at: now, effects: &effects)
    }

    /// Whether a task whose engine gave no answer is tried again. Notes that the task failed on that engine.
    private mutating func mayRetry(_ slot: Int32, after serial: Int32) -> Bool {
        guard self.tasks[Int(slot)].retries > 0, !self.tasks[Int(slot)].isAborted,
            self.isWorthARetry(slot, after: ErrorName.engineError.rawValue)
        else { return false }
        self.noteAttempt(slot, on: serial, .failed)
        // While engines are expected, the right one may be among them.
        return !self.unreported.isEmpty || self.rule(for: slot) != nil
    }
}
