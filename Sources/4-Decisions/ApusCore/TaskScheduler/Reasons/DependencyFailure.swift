package import ApusWire

/// Why what a task depends on makes no sense.
package enum InvalidDependency: Sendable, Hashable {
    /// It depends on itself.
    case itself
    /// It depends on a task that the scheduler was never given, or has forgotten since.
    case unknown(TaskID)
    /// It accepts no way in which the other tasks can end.
    case noEnding
}

/// Why no engine can ever run a task.
package enum ImpossibleDependency: Sendable, Hashable {
    /// What a task is to another.
    package enum Relation: Sendable, Hashable {
        /// It comes after it.
        case after
        /// It runs where that one has run.
        case follow
    }

    /// The other task ended otherwise than this one needs.
    case ended(TaskID, succeeded: Bool, Relation)
    /// It needed any of several tasks to end well, or ill; the last one did not, either.
    case noneEnded(last: TaskID, succeeded: Bool, Relation)
    /// The tasks that it follows ended on several engines.
    case followsSeveral
    /// No engine is registered where the tasks that it follows have run.
    case followedGone
    /// None of its targets is registered.
    case targetsGone
    /// None of the engines that it may run on owns so much of each of these.
    case ownTooLittle([String: Double])
    /// Its targets are other engines than where the tasks that it follows have run.
    case targetsElsewhere
    /// It has failed on every engine that it may run on, and having a time-out is not tried twice on one.
    case failedEverywhere
    /// Every engine that it may run on refused it.
    case refused([Refusal])
}

extension DependencyState {
    /// Why it will not be met any more; nil while it may be.
    func impossibility(_ relation: ImpossibleDependency.Relation) -> ImpossibleDependency? {
        guard self.isUnreachable, let (task, succeeded) = self.culprit else { return nil }
        return self.condition.all || self.condition.tasks.count == 1
            ? .ended(task, succeeded: succeeded, relation) : .noneEnded(last: task, succeeded: succeeded, relation)
    }
}

extension TaskScheduler {
    /// Why no engine can ever run the task, for which there is no rule.
    func impossibility(of slot: Int32) -> ImpossibleDependency {
        let index = self.tasks[Int(slot)].details
        guard index >= 0 else { return .targetsGone }
        let details = self.details[Int(index)]
        if let after = details.after?.impossibility(.after) { return after }
        if let follow = details.follow?.impossibility(.follow) { return follow }
        var allowed = details.targets
        if let follow = details.follow {
            let ran = Set(follow.endedOn)
            if case .never = self.following(slot) {
                return follow.condition.all && ran.count > 1 ? .followsSeveral : .followedGone
            }
            allowed = (allowed ?? ran.sorted()).filter(ran.contains)
        }
        let refusals = self.refusals(in: details)
        if !refusals.isEmpty { return .refused(refusals) }
        guard let allowed = allowed?.filter({ self.registered[$0] != nil }) else { return .failedEverywhere }
        if allowed.isEmpty {
            let isGone = details.targets?.allSatisfy { self.registered[$0] == nil } ?? false
            return isGone ? .targetsGone : .targetsElsewhere
        }
        let owners = self.owners(of: details.resources)
        if allowed.allSatisfy({ !owners.contains($0) }) { return .ownTooLittle(details.resources) }
        return .failedEverywhere
    }
}
