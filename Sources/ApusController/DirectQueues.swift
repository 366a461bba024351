import ApusWire
import DequeModule
import NIOCore
import OrderedCollections

/// What the hub keeps for each engine: direct requests without a reply, and how many requests it has finished.
struct DirectQueues {
    private var engines: [EngineUUID: Counts] = [:]

    /// Who is told when a request that an engine got directly will not be answered: parts of the request as they came.
    struct Asker {
        let socket: ControllerSocket
        let identities: [ByteBuffer]
        let header: ByteBuffer
        let metadata: ByteBuffer
        /// The function that it calls; nil where there is none, or none short enough to be kept for its name.
        let function: ByteBuffer?

        init(_ request: Message, at socket: ControllerSocket) {
            self.socket = socket
            self.identities = Array(request.identities)
            self.header = request.header
            self.metadata = request.metadata
            self.function = request.buffers.first.flatMap { $0.readableBytes < 4096 ? $0 : nil }
        }
    }

    private struct Counts {
        /// In the order sent.
        var queue: OrderedDictionary<TaskID, Asker> = [:]
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
    mutating func remove(_ engine: EngineUUID) -> [(task: TaskID, asker: Asker)] {
        (self.engines.removeValue(forKey: engine)?.queue ?? [:]).map { (task: $0.key, asker: $0.value) }
    }

    mutating func submitted(_ task: TaskID, to engine: EngineUUID, by asker: Asker) {
        self.engines[engine]?.queue.updateValue(asker, forKey: task)
    }

    mutating func replied(_ task: TaskID, by engine: EngineUUID, wasAborted: Bool) {
        self.engines[engine]?.queue.removeValue(forKey: task)
        if !wasAborted { self.engines[engine]?.complete(task) }
    }

    /// A load-balanced task ended on the engine.
    mutating func finished(_ task: TaskID, on engine: EngineUUID) { self.engines[engine]?.complete(task) }

    func queue(of engine: EngineUUID) -> [TaskID] { self.engines[engine].map { Array($0.queue.keys) } ?? [] }
    /// The ids that ended there last, oldest first: as many as are kept.
    func completed(of engine: EngineUUID) -> [JSONValue] { self.engines[engine]?.lastCompleted.map { .string($0.text) } ?? [] }
    func completedCount(of engine: EngineUUID) -> Int { self.engines[engine]?.completed ?? 0 }
    func isQueued(_ task: TaskID) -> Bool { self.engines.values.contains { $0.queue[task] != nil } }
}
