import ApusWire
import DequeModule
import OrderedCollections

/// What the hub counts for each engine: direct requests without a reply, and how many requests it has finished.
struct DirectQueues {
    private var engines: [EngineUUID: Counts] = [:]

    private struct Counts {
        var queue: OrderedSet<TaskID> = []
        var completed = 0
        /// Bounded, for a hub may run for months; the count is exact.
        var lastCompleted: Deque<TaskID> = []

        mutating func complete(_ task: TaskID) {
            self.completed += 1
            if self.lastCompleted.count == 1024 { self.lastCompleted.removeFirst() }
            self.lastCompleted.append(task)
        }
    }

    mutating func add(_ engine: EngineUUID) { self.engines[engine] = Counts() }

    /// Forgets an engine and gives the requests that it leaves unanswered.
    mutating func remove(_ engine: EngineUUID) -> [TaskID] { self.engines.removeValue(forKey: engine)?.queue.elements ?? [] }

    mutating func submitted(_ task: TaskID, to engine: EngineUUID) { self.engines[engine]?.queue.append(task) }

    mutating func replied(_ task: TaskID, by engine: EngineUUID, wasAborted: Bool) {
        self.engines[engine]?.queue.remove(task)
        if !wasAborted { self.engines[engine]?.complete(task) }
    }

    /// A load-balanced task ended on the engine.
    mutating func finished(_ task: TaskID, on engine: EngineUUID) { self.engines[engine]?.complete(task) }

    func queue(of engine: EngineUUID) -> [TaskID] { self.engines[engine]?.queue.elements ?? [] }
    /// The ids that ended there last, oldest first: as many as are kept.
    func completed(of engine: EngineUUID) -> [JSONValue] { self.engines[engine]?.lastCompleted.map { .string($0.text) } ?? [] }
    func completedCount(of engine: EngineUUID) -> Int { self.engines[engine]?.completed ?? 0 }
    func isQueued(_ task: TaskID) -> Bool { self.engines.values.contains { $0.queue.contains(task) } }
}
