package import ApusWire

/// Why a task has no engine yet, as far as `queue_status` can tell its user.
package enum WaitReason: Sendable, Hashable {
    /// These tasks, which it comes after, have not ended.
    case after([TaskID])
    /// These tasks, which it must follow to their engine, have not ended.
    case follow([TaskID])
    /// These tasks, whose results are arguments of it, have not ended, or their results are being looked for.
    case inputs([TaskID])
    /// It failed, and is to be tried again when its pause is over.
    case retryPause
    /// It was restored, and engines of the controller before this one, which may have it, have yet to say what they hold.
    case engineReports([EngineUUID])
    /// No engine owns so much of each of these; a new one might.
    case noEngineOwns([String: Double])
    case noEngines
    /// Every engine that may run it has as many tasks as it is given at once.
    case enginesBusy
    /// The only engines that may run it have as many tasks as they are given at once.
    case targetsBusy([EngineUUID])
    /// Every engine that can run it said that it does not meet its dependencies. It is offered again to one where something has run
    /// that may have changed the answer, after a set interval, and to a new engine.
    case dependenciesUnmet([Refusal])
    /// It failed on every engine that takes it, and having a time-out is not tried twice on one; a new engine might do better. With
    /// the refusals of those that do not take it.
    case failedEverywhere([Refusal])
}

extension TaskScheduler {
    /// Why the task has no engine; nil if it has one, or is not live.
    package func whyWaiting(_ task: TaskID) -> WaitReason? {
        guard let slot = self.slot(of: task), self.tasks[Int(slot)].status != .assigned else { return nil }
        if self.tasks[Int(slot)].status == .blocked {
            let index = Int(self.tasks[Int(slot)].details)
            if self.details[index].pausedUntil != nil { return .retryPause }
            if self.details[index].awaitsReports {
                return .engineReports(self.unreported.sorted { $0.text < $1.text })
            }
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

    /// Why none of the registered engines takes the task, busy or not.
    private func whyUnwanted(_ slot: Int32) -> WaitReason {
        let details = self.details[Int(self.tasks[Int(slot)].details)]
        let refusals = self.refusals(in: details)
        let hasFailed = details.attempts.contains { $0.ending.isFailure && self.registered[$0.engine] != nil }
        return hasFailed ? .failedEverywhere(refusals) : .dependenciesUnmet(refusals)
    }

    private func unfinished(_ state: DependencyState) -> [TaskID] {
        state.condition.tasks.filter { self.slot(of: $0) != nil }
    }

    /// Why no engine is coming, by the words of whoever starts them; nil while one may.
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

    /// How many tasks the engine has.
    package func load(of engine: EngineUUID) -> Int {
        self.engineSlots[engine].map { Int(self.engines[Int($0)].load) } ?? 0
    }

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

    /// Those of them that may be given tasks.
    package var registeredEngines: [EngineUUID] {
        self.registered.sorted { $0.key < $1.key }.map { self.engines[Int($0.value)].uuid }
    }

    /// What happened to a task, oldest first, as far back as the log reaches; nothing if there is no log.
    package func story(of task: TaskID) -> [(time: MonotonicTime, step: TaskStep)] {
        self.log.entries(of: task).map { ($0.time, $0.step) }
    }
}
