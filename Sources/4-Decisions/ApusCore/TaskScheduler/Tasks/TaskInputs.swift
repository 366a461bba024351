package import ApusWire
package import NIOCore

/// Keeps the results that live tasks take as arguments, each from when it is there until the last task that takes it has ended.
///
/// A value: events in, effects out. The scheduler decides when a task may run; `TaskInputs` knows which results the task needs. A
/// result comes from the reply of its task if the task has not ended, else from the records.
package struct TaskInputs: Sendable {
    package enum Event: Sendable, Equatable {
        /// A live task takes the results of these tasks.
        case submitted(TaskID, taking: [TaskID])
        /// A task that took results has ended; results are no longer kept for it.
        case ended(TaskID)
        /// A task has ended whose result may be wanted.
        case finished(TaskID, Outcome)
        /// The scheduler does not know the first task, or knows that it has ended, and the second task takes its result.
        ///
        /// - Parameter isUnderWay: Whether an engine was given the first task directly and has not answered.
        case sought(TaskID, for: TaskID, isUnderWay: Bool)
        /// A task was looked up in the records, with this outcome.
        ///
        /// - Parameter isUnderWay: Whether the task is live, or an engine that was given it directly has not answered.
        case lookedUp(TaskID, Outcome, isUnderWay: Bool)
    }

    /// The result of a task that has ended, or why there is none.
    package enum Outcome: Sendable, Equatable {
        /// The buffers of its result, as its reply carried them.
        case result([ByteBuffer])
        case none(why: String)
    }

    package enum Effect: Sendable, Equatable {
        /// Look the task up in the records, and then send `lookedUp`.
        case lookUp(TaskID)
        /// Tell the scheduler that the result of the first task is there, for the second.
        case found(of: TaskID, for: TaskID)
        /// Tell the scheduler that there is no result of the first task, for the second, and why.
        case missing(of: TaskID, for: TaskID, why: String)
    }

    /// A result that live tasks take.
    private struct Wanted: Sendable {
        /// The live tasks that take the result; never empty between events.
        var takers: Set<TaskID> = []
        /// The result as the reply carried it; nil while it is not there. It is kept even if the store drops it.
        var buffers: [ByteBuffer]?
        /// The tasks for which the result is looked for, in the order asked; some may have ended.
        var sought: [TaskID] = []
    }

    /// The results that live tasks take, by the task that gives each.
    private var wanted: [TaskID: Wanted] = [:]
    /// The tasks whose results each live task takes.
    private var taken: [TaskID: Set<TaskID>] = [:]

    package init() {}

    /// Whether a live task takes the task's result, so that `finished` must be sent when the task ends.
    package func isWanted(_ task: TaskID) -> Bool { !self.wanted.isEmpty && self.wanted[task] != nil }

    /// The tasks whose results the task takes and that are not there, in order of id.
    package func missing(for task: TaskID) -> [TaskID] {
        (self.taken[task] ?? []).filter { self.wanted[$0]?.buffers == nil }.sorted { $0.text < $1.text }
    }

    /// The buffers of a result; empty if it is not there.
    package func result(of task: TaskID) -> [ByteBuffer] { self.wanted[task]?.buffers ?? [] }

    package mutating func handle(_ event: Event) -> [Effect] {
        switch event {
        case .submitted(let taker, let results):
            for result in results { self.wanted[result, default: Wanted()].takers.insert(taker) }
            self.taken[taker, default: []].formUnion(results)
            return []
        case .ended(let taker):
            for result in self.taken.removeValue(forKey: taker) ?? [] {
                self.wanted[result]?.takers.remove(taker)
                if self.wanted[result]?.takers.isEmpty == true { self.wanted[result] = nil }
            }
            return []
        case .finished(let task, let outcome): return self.settle(task, outcome)
        case .sought(let task, let taker, let isUnderWay):
            let isFirst = self.wanted[task]?.sought.isEmpty ?? false
            self.wanted[task]?.sought.append(taker)
            // The result of a task that is under way comes with its reply, and one look is enough for all takers.
            return isFirst && !isUnderWay ? [.lookUp(task)] : []
        case .lookedUp(let task, let outcome, let isUnderWay):
            guard self.wanted[task]?.sought.isEmpty == false else { return [] }
            // The task was submitted after its takers, so its result comes with its reply.
            if case .none = outcome, isUnderWay { return [] }
            return self.settle(task, outcome)
        }
    }

    /// Keeps the result, if there is one and a live task takes it, and tells the tasks that it is looked for.
    private mutating func settle(_ task: TaskID, _ outcome: Outcome) -> [Effect] {
        guard let sought = self.wanted[task]?.sought else { return [] }
        self.wanted[task]?.sought = []
        switch outcome {
        case .result(let buffers):
            self.wanted[task]?.buffers = buffers
            return sought.map { .found(of: task, for: $0) }
        case .none(let why): return sought.map { .missing(of: task, for: $0, why: why) }
        }
    }

    /// Throws if the stored values contradict each other; for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        for (result, wanted) in self.wanted {
            if wanted.takers.isEmpty { throw BrokenInvariant(description: "the result of \(result) is kept for nobody") }
            for taker in wanted.takers where self.taken[taker]?.contains(result) != true {
                throw BrokenInvariant(description: "the result of \(result) is kept for \(taker), which does not take it")
            }
        }
        for (taker, results) in self.taken {
            for result in results where self.wanted[result]?.takers.contains(taker) != true {
                throw BrokenInvariant(description: "\(taker) takes the result of \(result), which is not kept for it")
            }
        }
    }
}
