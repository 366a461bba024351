package import ApusWire

/// Why a task has no engine yet, as far as `queue_status` can tell its user.
package enum WaitReason: Sendable, Hashable {
    /// These tasks, which the task comes after, have not ended.
    case after([TaskID])
    /// These tasks, which the task must follow to their engine, have not ended.
    case follow([TaskID])
    /// The ends of these tasks, on which the task depends, are being looked for in the records.
    case records([TaskID])
    /// These tasks, whose results are arguments of the task, have not ended, or their results are being looked for.
    case inputs([TaskID])
    /// The task failed, and is tried again when its pause is over.
    case retryPause
    /// The task was restored, and these engines of the controller before this one, which may have it, have yet to report.
    case engineReports([EngineUUID])
    /// No engine owns these amounts; a new engine might.
    case noEngineOwns([String: Double])
    case noEngines
    /// Every engine that may run the task is at its limit of tasks.
    case enginesBusy
    /// These engines, the only ones that may run the task, are at their limit of tasks.
    case targetsBusy([EngineUUID])
    /// Every engine that can run the task refused it, because the task's dependencies are not met there. The task is offered
    /// again to an engine where something has run that may have changed the answer, to all after a set interval, and to a new
    /// engine.
    case dependenciesUnmet([Refusal])
    /// The task failed on every engine that accepts it, and because of its time-out no engine gets it twice; a new engine might
    /// run it. With the refusals of the engines that do not accept it.
    case failedEverywhere([Refusal])
}

extension TaskScheduler {
    /// Why the task has no engine; nil if an engine has it, or if it is not live.
    package func whyWaiting(_ task: TaskID) -> WaitReason? {
        guard let slot = self.slot(of: task), self.tasks[Int(slot)].status != .assigned else { return nil }
        if self.tasks[Int(slot)].status == .blocked {
            let index = Int(self.tasks[Int(slot)].details)
            if self.details[index].pausedUntil != nil { return .retryPause }
            if self.details[index].awaitsReports {
                return .engineReports(self.unreported.sorted { $0.text < $1.text })
            }
            if !self.details[index].sought.isEmpty { return .records(self.details[index].sought.sorted()) }
            if let after = self.details[index].after { return .after(self.unfinished(after)) }
            if case .notYet = self.following(slot) {
                return .follow(self.details[index].follow.map(self.unfinished) ?? [])
            }
            return .inputs(self.details[index].inputs.unfinished + self.details[index].inputs.sought)
        }
        if self.registered.isEmpty { return .noEngines }
        if case let index = self.tasks[Int(slot)].details, index >= 0, case let resources = self.details[Int(index)].resources,
            !resources.isEmpty, self.owners(of: resources).isEmpty
        {
            return .noEngineOwns(resources)
        }
        switch self.groups[Int(self.tasks[Int(slot)].place)].rule {
        case .any: return .enginesBusy
        case .excluding(let serials, _):
            return self.registered.keys.allSatisfy(serials.contains) ? self.whyUnwanted(slot) : .enginesBusy
        case .only(let serials):
            let engines = serials.compactMap { self.registered[$0] }.map { self.engines[Int($0)].uuid }
            return engines.isEmpty ? self.whyUnwanted(slot) : .targetsBusy(engines)
        }
    }

    /// Why none of the registered engines accepts the task, busy or not.
    private func whyUnwanted(_ slot: Int32) -> WaitReason {
        let details = self.details[Int(self.tasks[Int(slot)].details)]
        let refusals = self.refusals(in: details)
        let hasFailed = details.attempts.contains { $0.ending.isFailure && self.registered[$0.engine] != nil }
        return hasFailed ? .failedEverywhere(refusals) : .dependenciesUnmet(refusals)
    }

    private func unfinished(_ state: DependencyState) -> [TaskID] {
        state.condition.tasks.filter { self.slot(of: $0) != nil }
    }

    /// Why no engine is coming, in the words of the program that starts engines; nil while one may come.
    package var noEngineIsComing: String? { self.noEngineReason }

    /// The tasks that no engine has, in order of submission.
    package var waiting: [TaskID] {
        let waiting = self.tasks.filter { $0.status == .blocked || $0.status == .ready }
        return waiting.sorted { $0.sequence < $1.sequence }.map(\.id)
    }

    /// The tasks that the engine has, in the order they were sent.
    package func assigned(to engine: EngineUUID) -> [TaskID] {
        guard let engine = self.engineSlots[engine] else { return [] }
        var tasks: [TaskID] = []
        var slot = self.engines[Int(engine)].first
        while slot >= 0 {
            tasks.append(self.tasks[Int(slot)].id)
            slot = self.tasks[Int(slot)].next
        }
        return tasks
    }

    /// How many tasks the engine has that do not wait for others.
    package func load(of engine: EngineUUID) -> Int {
        self.engineSlots[engine].map { Int(self.engines[Int($0)].load) } ?? 0
    }

    /// Whether the task is among those that ended last.
    package func hasEnded(_ task: TaskID) -> Bool { self.finished.outcome(of: Self.fingerprint(of: task)) != nil }

    /// Whether the task has been submitted and not ended.
    package func isLive(_ task: TaskID) -> Bool { self.slot(of: task) != nil }

    /// The engine that has the task.
    package func engine(of task: TaskID) -> EngineUUID? {
        guard let slot = self.slot(of: task), let engine = self.holder(of: slot) else { return nil }
        return self.engines[Int(engine)].uuid
    }

    /// Engines that have joined and not left, in the order they joined.
    package var engineList: [EngineUUID] {
        self.engines.filter { $0.serial > 0 && !$0.isExpected }.sorted { $0.serial < $1.serial }.map(\.uuid)
    }

    /// Engines that may be given tasks, in the order they joined.
    package var registeredEngines: [EngineUUID] {
        self.registered.sorted { $0.key < $1.key }.map { self.engines[Int($0.value)].uuid }
    }

    /// What happened to a task, oldest first, as far back as the log reaches; nothing if there is no log.
    package func story(of task: TaskID) -> [(time: MonotonicTime, step: TaskStep)] {
        self.log.entries(of: task).map { ($0.time, $0.step) }
    }
}
