package import ApusWire

/// The names and errors that texts of reasons need and the scheduler does not know.
package struct ReasonContext {
    package var now: MonotonicTime
    /// The name of an engine for users: "engine 3".
    package var name: (EngineUUID) -> String
    /// The error by which a task failed: "ZeroDivisionError: division by zero"; nil if it is not known.
    package var error: (TaskID) -> String?

    package init(
        now: MonotonicTime, name: @escaping (EngineUUID) -> String = { "engine '\($0)'" },
        error: @escaping (TaskID) -> String? = { _ in nil }
    ) {
        self.now = now
        self.name = name
        self.error = error
    }

    func list<Element>(_ elements: [Element], _ text: (Element) -> String) -> String {
        elements.prefix(5).map(text).joined(separator: ", ") + (elements.count > 5 ? ", …" : "")
    }

    fileprivate func amounts(_ resources: [String: Double]) -> String {
        resources.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: ", ")
    }

    fileprivate func age(of moment: MonotonicTime) -> String {
        "\(Double(self.now.nanoseconds(since: moment) / 100_000_000) / 10) s ago"
    }

    /// "task 'b', which it comes after, failed: ZeroDivisionError: division by zero".
    fileprivate func ending(of task: TaskID, succeeded: Bool, _ relation: String) -> String {
        let name = "task '\(task)', \(relation),"
        if succeeded { return "\(name) ended well, and a failure was needed" }
        return "\(name) failed" + (self.error(task).map { ": \($0)" } ?? "")
    }

    /// The answers of the engines that refused a task, in words.
    fileprivate func refusals(_ refusals: [Refusal]) -> String {
        let modules = Set(refusals.compactMap(\.lacks))
        if let module = modules.first, modules.count == 1, refusals.allSatisfy({ $0.lacks != nil }) {
            return
                "no engine that may run it has the module '\(module)'; asked were \(self.list(refusals) { self.name($0.engine) })"
        }
        return self.list(refusals) { refusal in
            let what = refusal.lacks.map { "has no module '\($0)'" } ?? "does not meet its condition"
            return "\(self.name(refusal.engine)) \(what) (asked \(self.age(of: refusal.at)))"
        }
    }
}

extension WaitReason {
    /// The reason in words: "all engines that may run it are busy".
    package func text(_ context: ReasonContext) -> String {
        func tasks(_ tasks: [TaskID]) -> String {
            "\(tasks.count) task\(tasks.count == 1 ? "" : "s"): \(context.list(tasks, \.text))"
        }
        return switch self {
        case .after(let others): "waits for the end of \(tasks(others))"
        case .follow(let others): "waits to follow \(tasks(others))"
        case .records(let others): "looks in the records for the end of \(tasks(others))"
        case .inputs(let others): "waits for the results, its arguments, of \(tasks(others))"
        case .retryPause: "has failed and pauses before its next try"
        case .engineReports(let engines):
            "the controller was restarted, and what they hold has yet to be told by \(context.list(engines, context.name))"
        case .noEngineOwns(let resources): "no engine owns \(context.amounts(resources))"
        case .noEngines: NoEngineText.isRegistered
        case .enginesBusy: "all engines that may run it are busy"
        case .targetsBusy(let engines): "the engines that may run it are busy: \(context.list(engines, context.name))"
        case .dependenciesUnmet(let refusals):
            "no engine meets its dependencies: \(context.refusals(refusals)); it is offered again when something changes"
        case .failedEverywhere(let refusals):
            "has failed on every engine that takes it; waits for a new engine or its time-out"
                + (refusals.isEmpty ? "" : " (\(context.refusals(refusals)))")
        }
    }
}

extension InvalidDependency {
    package func text(_ context: ReasonContext) -> String {
        switch self {
        case .itself: "the task depends on itself"
        case .unknown(let task):
            "task '\(task)', on which the task depends, was never given to this scheduler, or ended so long ago that it is forgotten"
        case .unreadable(let task, let reason):
            "how task '\(task)', on which the task depends, has ended cannot be read in the records: \(reason)"
        case .noEnding: "the task depends on others that may neither succeed nor fail"
        }
    }
}

extension ImpossibleDependency {
    package func text(_ context: ReasonContext) -> String {
        switch self {
        case .ended(let task, let succeeded, let relation):
            context.ending(of: task, succeeded: succeeded, relation.words)
        case .noneEnded(let task, let succeeded, let relation):
            "none of the tasks \(relation.plural) ended as needed; the last: "
                + context.ending(of: task, succeeded: succeeded, relation.words)
        case .followsSeveral: "the tasks that it must follow ended on several engines, and it can run on one only"
        case .followedGone: "the engine where it must follow other tasks is not registered any more"
        case .targetsGone: "none of the engines that it was sent to is registered"
        case .ownTooLittle(let resources):
            "none of the engines that it may run on owns \(context.amounts(resources))"
        case .targetsElsewhere: "the tasks that it must follow ended on other engines than those it was sent to"
        case .failedEverywhere: "it has failed on every engine that it may run on"
        case .refused(let refusals): context.refusals(refusals)
        }
    }
}

extension ImpossibleDependency.Relation {
    fileprivate var words: String { self == .after ? "which it comes after" : "which it must follow" }
    fileprivate var plural: String { self == .after ? "that it comes after" : "that it must follow" }
}

extension NoEngine {
    package func text(_ context: ReasonContext) -> String {
        let lost = self.lost.map { "; \(context.name($0)) died while running it" } ?? ""
        switch self.cause {
        case .noneIsComing(let reason): return "\(NoEngineText.isRegistered), and none is coming: \(reason)\(lost)"
        case .noneCame(let span):
            let seconds = span / .seconds(1)
            let limit = seconds == seconds.rounded() && seconds < 1e9 ? "\(Int(seconds))" : "\(seconds)"
            return "\(NoEngineText.isRegistered), and none came within \(limit) s, the task's engine time-out\(lost)"
        }
    }
}
