package import ApusWire

/// Why a task's dependency is invalid.
package enum InvalidDependency: Sendable, Hashable {
    /// The task depends on itself.
    case itself
    /// The task depends on a task that the scheduler was never given, or has forgotten since.
    case unknown(TaskID)
    /// The task depends on a task that the scheduler does not know, and the records of ended tasks cannot be read, for this reason.
    case unreadable(TaskID, String)
    /// The dependency accepts neither success nor failure of the other tasks.
    case noEnding
}

/// Why no engine can ever run a task.
package enum ImpossibleDependency: Sendable, Hashable {
    /// How a task depends on another.
    package enum Relation: Sendable, Hashable {
        /// The task runs after the other has ended.
        case after
        /// The task runs on the engine where the other has run.
        case follow
    }

    /// The other task succeeded, or failed, and the dependency needs the opposite.
    case ended(TaskID, succeeded: Bool, Relation)
    /// None of several tasks, of which any was to succeed or fail, ended so; with the one that ended last.
    case noneEnded(last: TaskID, succeeded: Bool, Relation)
    /// The tasks that the task follows ended on several engines.
    case followsSeveral
    /// No engine is registered where the tasks that the task follows have run.
    case followedGone
    /// None of the task's targets is registered.
    case targetsGone
    /// None of the engines that the task may run on owns these amounts.
    case ownTooLittle([String: Double])
    /// The task's targets are other engines than those where the tasks that it follows have run.
    case targetsElsewhere
    /// The task has failed on every engine that it may run on, and because of its time-out no engine gets it twice.
    case failedEverywhere
    /// Every engine that the task may run on refused it.
    case refused([Refusal])
}

extension DependencyState {
    /// Why the dependency can no longer be met; nil while it may be.
    func impossibility(_ relation: ImpossibleDependency.Relation) -> ImpossibleDependency? {
        guard self.isUnreachable, let (task, succeeded) = self.culprit else { return nil }
        return self.condition.all || self.condition.tasks.count == 1
            ? .ended(task, succeeded: succeeded, relation) : .noneEnded(last: task, succeeded: succeeded, relation)
    }
}

extension TaskScheduler {
    /// Why no engine can ever run a task for which `rule(for:)` is nil.
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
