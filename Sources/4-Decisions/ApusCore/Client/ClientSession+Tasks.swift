internal import ApusWire
internal import DequeModule

// Which reply and which output belong to which task. Both come by connections of their own, so in any order.
extension ClientSession {
    mutating func submit(_ task: TaskID, _ request: Request, _ effects: inout [Effect]) {
        if let ending { return effects.append(.fail(task, .ended(ending))) }
        self.lastSequence += 1
        self.pending[task] = Pending(request: request, sequence: self.lastSequence)
        if request.channel == .task { self.warnOfNoEngines(&effects) }
    }

    // MARK: Replies

    /// Where the task is pending that a reply answers.
    func place(of reply: Reply) -> Dictionary<TaskID, Pending>.Index? {
        // Replies that became one answer the request; each of them had a copy of it for its parent.
        self.pending.index(forKey: reply.request) ?? reply.original.flatMap { self.pending.index(forKey: $0) }
    }

    mutating func take(_ reply: Reply, at now: MonotonicTime, _ effects: inout [Effect]) {
        guard let place = self.place(of: reply) else { return }
        // Who the hub is, only a signed and new answer to a question of ours can say.
        if let hub = reply.hub { self.hub = hub }
        let id = self.pending.keys[place]
        var task = self.pending.values[place]
        // Whoever has read the first reply must not find another.
        guard task.stage == .waiting else { return }
        let policy = task.request.output
        task.outputsExpected = policy == .ignored ? 0 : reply.outputs
        // Replies that no user code made have no output to wait for.
        if policy == .awaited, task.outputsExpected == nil, reply.isSynthetic { task.isIdle = true }
        if task.hasAllOutput {
            self.pending.remove(at: place)
            return effects.append(.keepReply(of: id, .end))
        }
        // An engine that does not say how much output there is says that it is idle; nobody waits for that who has not asked to.
        let mustWait = policy == .awaited || task.outputsExpected != nil
        task.stage = mustWait ? .replied : .told
        self.pending.values[place] = task
        effects.append(.keepReply(of: id, mustWait ? .wait : .tell))
        let end = now + self.outputPatience
        self.lateOutput.append((end, id))
        self.wake(at: end, &effects)
    }

    // MARK: Output

    mutating func takeOutput(of task: TaskID, _ effects: inout [Effect]) {
        guard let place = self.pending.index(forKey: task) else { return }
        self.pending.values[place].outputsSeen += 1
        effects.append(.keepOutput(of: task, self.removeIfComplete(place) ? .end : .wait))
    }

    mutating func endOutput(of task: TaskID, _ effects: inout [Effect]) {
        guard let place = self.pending.index(forKey: task) else { return }
        self.pending.values[place].isIdle = true
        if self.removeIfComplete(place) { effects.append(.conclude(task)) }
    }

    private mutating func removeIfComplete(_ place: Dictionary<TaskID, Pending>.Index) -> Bool {
        guard self.pending.values[place].stage != .waiting, self.pending.values[place].hasAllOutput else { return false }
        self.pending.remove(at: place)
        return true
    }

    /// Stops waiting for output that does not follow its reply: something may have dropped it, or an engine died between the two.
    /// Tasks whose results are there already, for nobody needs their output, are kept as long and no longer.
    mutating func giveUpLateOutput(at now: MonotonicTime, _ effects: inout [Effect]) {
        while let first = self.lateOutput.first, first.end <= now {
            self.lateOutput.removeFirst()
            if self.pending.removeValue(forKey: first.task) != nil { effects.append(.conclude(first.task)) }
        }
    }

    // MARK: Failing

    /// Ends a task that gets no more: its reply holds, if there was one, and the reason is told else.
    mutating func fail(_ task: TaskID, _ failure: Failure, _ effects: inout [Effect]) {
        guard let pending = self.pending.removeValue(forKey: task) else { return }
        effects.append(pending.stage == .waiting ? .fail(task, failure) : .conclude(task))
    }

    mutating func failEverything(_ failure: Failure, _ effects: inout [Effect]) {
        self.recoveries = [:]
        for task in self.tasks({ _ in true }) { self.fail(task, failure, &effects) }
        self.lateOutput.removeAll()
    }

    /// Whether the task's outcome is not there.
    func isUnsettled(_ task: TaskID) -> Bool { self.pending[task].map { $0.stage != .told } ?? false }

    /// The pending tasks that the condition holds of, in order of submission.
    func tasks(_ condition: (Pending) -> Bool) -> [TaskID] {
        self.pending.filter { condition($0.value) }.sorted { $0.value.sequence < $1.value.sequence }.map { $0.key }
    }
}
