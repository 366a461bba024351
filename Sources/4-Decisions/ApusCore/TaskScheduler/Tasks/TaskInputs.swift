package import ApusWire
package import NIOCore

/// Keeps the results that live tasks take for arguments, from when a result is there until the last task that takes it has ended.
///
/// A value: events in, effects out. The scheduler decides when a task may run; this knows which results it needs for that, and where
/// each is to come from: from the task's end if that is yet to come, else from the records.
package struct TaskInputs: Sendable {
    package enum Event: Sendable, Equatable {
        /// A live task takes the results of these tasks.
        case submitted(TaskID, taking: [TaskID])
        /// A task that took results has ended: nothing is kept for it any more.
        case ended(TaskID)
        /// A task has ended whose result may be wanted.
        case finished(TaskID, Outcome)
        /// The scheduler does not know the first task, or knows that it has ended, and the second task takes its result.
        ///
        /// - Parameter isUnderWay: Whether an engine was given the first task directly and has not answered.
        case sought(TaskID, for: TaskID, isUnderWay: Bool)
        /// The records have this to say of a task that was looked up.
        ///
        /// - Parameter isUnderWay: Whether the task lives, here or at the engine that was given it directly.
        case lookedUp(TaskID, Outcome, isUnderWay: Bool)
    }

    /// What a task that has ended has to give.
    package enum Outcome: Sendable, Equatable {
        /// The buffers of its result, as its reply carried them.
        case result([ByteBuffer])
        case none(why: String)
    }

    package enum Effect: Sendable, Equatable {
        /// Look the task up in the records, and come back with `lookedUp`.
        case lookUp(TaskID)
        /// Tell the scheduler that the result of the first is there, for the second.
        case found(of: TaskID, for: TaskID)
        /// Tell the scheduler that there will be none.
        case missing(of: TaskID, for: TaskID, why: String)
    }

    /// A result that live tasks take.
    private struct Wanted: Sendable {
        /// The live tasks that take it; never empty between events.
        var takers: Set<TaskID> = []
        /// As the reply carried it; nil while it is not there. It is kept whatever the store lets go of.
        var buffers: [ByteBuffer]?
        /// The tasks for which it is looked for, in the order asked; some may have ended.
        var sought: [TaskID] = []
    }

    /// By the task that gives the result.
    private var wanted: [TaskID: Wanted] = [:]
    /// What each live task takes, every result once.
    private var taken: [TaskID: Set<TaskID>] = [:]

    package init() {}

    /// Whether the task's end must be told here.
    package func isWanted(_ task: TaskID) -> Bool { !self.wanted.isEmpty && self.wanted[task] != nil }

    /// The results that the task takes and that are not there, in order of id.
    package func missing(for task: TaskID) -> [TaskID] {
        (self.taken[task] ?? []).filter { self.wanted[$0]?.buffers == nil }.sorted { $0.text < $1.text }
    }

    /// The buffers of a result that is there; none of one that is not.
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
            // The result of one that is under way comes by when it ends, and one look is enough for all who wait.
            return isFirst && !isUnderWay ? [.lookUp(task)] : []
        case .lookedUp(let task, let outcome, let isUnderWay):
            guard self.wanted[task]?.sought.isEmpty == false else { return [] }
            // Submitted after those that take its result, it comes by like others.
            if case .none = outcome, isUnderWay { return [] }
            return self.settle(task, outcome)
        }
    }

    /// Keeps the result, if there is one and somebody wants it, and tells all who look for it.
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

    /// Looks for contradictions in what is kept; for tests.
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
