internal import ApusWire
internal import DequeModule

// Matches replies and output with tasks. Replies and output come by connections of their own, so in any order.
extension ClientSession {
    /// The slot of the task that a reply answers.
    func slot(of reply: Reply) -> Slot? {
        // The parent of a coalesced reply is a copy of the request, which is not pending; the original request is.
        self.pending.slot(of: reply.request) ?? reply.original.flatMap { self.pending.slot(of: $0) }
    }

    mutating func take(_ reply: Reply, at now: MonotonicTime, _ effects: inout [Effect]) {
        guard let slot = self.slot(of: reply) else { return }
        // Only a verified answer to a pending request may say which hub it is from.
        if let hub = reply.hub { self.hub = hub }
        // A task keeps its first reply, because callers may have read it.
        guard let next = self.pending[slot].take(reply) else { return }
        effects.append(.keepReply(of: slot, next))
        if next == .end { return self.pending.remove(at: slot) }
        let end = now + self.outputPatience
        self.lateOutput.append((end, self.pending[slot].id))
        self.wake(at: end, &effects)
    }

    // MARK: Output

    mutating func takeOutput(of task: TaskID, _ effects: inout [Effect]) {
        guard let slot = self.pending.slot(of: task) else { return }
        self.pending[slot].outputsSeen += 1
        effects.append(.keepOutput(of: slot, self.removeIfComplete(slot) ? .end : .wait))
    }

    mutating func endOutput(of task: TaskID, _ effects: inout [Effect]) {
        guard let slot = self.pending.slot(of: task) else { return }
        self.pending[slot].isIdle = true
        if self.removeIfComplete(slot) { effects.append(.conclude(slot)) }
    }

    private mutating func removeIfComplete(_ slot: Slot) -> Bool {
        guard self.pending[slot].stage != .waiting, self.pending[slot].hasAllOutput else { return false }
        self.pending.remove(at: slot)
        return true
    }

    /// Stops waiting for output that has not followed its reply: the output may have been dropped, or an engine died between the
    /// two. Tasks that were told before their output, which no caller needs, are kept as long and no longer.
    mutating func giveUpLateOutput(at now: MonotonicTime, _ effects: inout [Effect]) {
        while let first = self.lateOutput.first, first.end <= now {
            self.lateOutput.removeFirst()
            if let slot = self.pending.remove(first.task) { effects.append(.conclude(slot)) }
        }
    }

    // MARK: Failing

    /// Ends a task for which nothing more will come: with its reply, if there was one, and otherwise with the failure.
    mutating func fail(_ slot: Slot, _ failure: Failure, _ effects: inout [Effect]) {
        effects.append(self.pending[slot].stage == .waiting ? .fail(slot, failure) : .conclude(slot))
        self.pending.remove(at: slot)
    }

    /// Ends the task of this id in the same way; nothing happens when the task is not pending.
    mutating func fail(_ task: TaskID, _ failure: Failure, _ effects: inout [Effect]) {
        if let slot = self.pending.slot(of: task) { self.fail(slot, failure, &effects) }
    }

    mutating func failEverything(_ failure: Failure, _ effects: inout [Effect]) {
        self.recoveries = [:]
        for task in self.tasks({ _ in true }) { self.fail(task, failure, &effects) }
        self.lateOutput.removeAll()
    }

    /// Whether the task is pending and its callers have not been told its outcome.
    func isUnsettled(_ task: TaskID) -> Bool { self.pending.slot(of: task).map { self.pending[$0].stage != .told } ?? false }

    /// The pending tasks that the condition holds of, in order of submission.
    func tasks(_ condition: (Pending) -> Bool) -> [TaskID] {
        self.pending.tasks.filter(condition).sorted { $0.sequence < $1.sequence }.map { $0.id }
    }
}

extension ClientSession.Pending {
    /// Takes a reply, and says what becomes of the task; nil when there was a reply before, which holds.
    fileprivate mutating func take(_ reply: ClientSession.Reply) -> ClientSession.Next? {
        guard self.stage == .waiting else { return nil }
        let policy = self.request.output
        self.outputsExpected = policy == .ignored ? 0 : reply.outputs
        // Replies that no user code made have no output to wait for.
        if policy == .awaited, self.outputsExpected == nil, reply.isSynthetic { self.isIdle = true }
        if self.hasAllOutput { return .end }
        // An engine that does not say how much output there is says later that it is idle; only tasks that ask for all output
        // wait for that message.
        let mustWait = policy == .awaited || self.outputsExpected != nil
        self.stage = mustWait ? .replied : .told
        return mustWait ? .wait : .tell
    }
}
