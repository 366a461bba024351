package import ApusWire
internal import DequeModule
package import NIOCore

/// A request sent directly to an engine, as far as the hub needs it to answer in the engine's place.
package struct DirectRequest: Sendable, Equatable {
    /// A port at which clients send requests directly to engines.
    package enum Port: Sendable, Hashable { case mux, broadcast }

    /// The port by which the answer goes out.
    package let port: Port
    package let identities: [ByteBuffer]
    package let header: ByteBuffer
    package let metadata: ByteBuffer
    /// The function that the request calls; nil if there is none, or if it is too long to be kept for its name.
    package let function: ByteBuffer?
    /// The session of a client that an earlier controller served, whose connection has to be found; nil for one of this one's.
    package let returning: String?

    package init(_ request: Message, at port: Port, returning: String? = nil) {
        self.returning = returning
        self.port = port
        self.identities = Array(request.identities)
        self.header = request.header
        self.metadata = request.metadata
        self.function = request.buffers.first.flatMap { $0.readableBytes < 4096 ? $0 : nil }
    }
}

/// Keeps for each engine its direct requests without a reply, and the requests it has finished.
///
/// A value, with a method for each event. Only the end of an engine calls for an effect, for the requests it leaves unanswered.
package struct DirectQueues: Sendable {
    private struct Engine: Sendable {
        /// Whether it is an earlier controller's, and has not come back.
        var isExpected = false
        /// Requests without a reply, each with its place in the order sent.
        var queue: [TaskID: (place: UInt64, request: DirectRequest)] = [:]
        var completed = 0
        /// The ids that were completed last, oldest first. Limited, because a hub may run for months; the count is exact.
        var lastCompleted: Deque<TaskID> = []

        var inOrder: [(task: TaskID, request: DirectRequest)] {
            self.queue.sorted { $0.value.place < $1.value.place }.map { (task: $0.key, request: $0.value.request) }
        }

        mutating func complete(_ task: TaskID) {
            self.completed += 1
            if self.lastCompleted.count == DirectQueues.completedLimit { self.lastCompleted.removeFirst() }
            self.lastCompleted.append(task)
        }
    }

    /// How many ids of completed requests are kept of each engine.
    package static let completedLimit = 1024

    private var engines: [EngineUUID: Engine] = [:]
    /// Counts requests, for their order.
    private var lastPlace: UInt64 = 0

    package init() {}

    // MARK: Events

    /// An engine has registered. Requests of an earlier engine of the same uuid are forgotten, unless the engine was expected.
    package mutating func engineJoined(_ engine: EngineUUID) {
        if self.engines[engine]?.isExpected == true {
            self.engines[engine]?.isExpected = false
        } else {
            self.engines[engine] = Engine()
        }
    }

    /// An engine of the controller before this one may come back.
    package mutating func engineExpected(_ engine: EngineUUID) { self.engines[engine] = Engine(isExpected: true) }

    /// The controller before this one sent a request that has no reply to an engine.
    ///
    /// - Returns: False when the engine is not expected; then the request will have no reply.
    package mutating func restored(_ task: TaskID, to engine: EngineUUID, _ request: DirectRequest) -> Bool {
        guard self.engines[engine] != nil else { return false }
        self.submitted(task, to: engine, request)
        return true
    }

    /// An engine has said what it holds.
    ///
    /// - Returns: The requests of the controller before this one that it will not answer, in the order sent.
    package mutating func engineReported(
        _ engine: EngineUUID, _ report: EngineReport
    ) -> [(task: TaskID, request: DirectRequest)] {
        let left =
            self.engines[engine]?.inOrder.filter { task, request in
                request.returning != nil && report.asked.contains(task) && !report.has.contains(task)
            } ?? []
        for (task, _) in left { self.engines[engine]?.queue[task] = nil }
        return left
    }

    /// An engine is gone.
    ///
    /// - Returns: The requests that it leaves unanswered, in the order sent.
    package mutating func engineLeft(_ engine: EngineUUID) -> [(task: TaskID, request: DirectRequest)] {
        self.engines.removeValue(forKey: engine)?.inOrder ?? []
    }

    /// A request was sent to an engine. If a request of the same id waits there, the new one takes its place.
    package mutating func submitted(_ task: TaskID, to engine: EngineUUID, _ request: DirectRequest) {
        self.lastPlace += 1
        let place = self.engines[engine]?.queue[task]?.place ?? self.lastPlace
        self.engines[engine]?.queue[task] = (place, request)
    }

    /// An engine has answered a request. An aborted request does not count as completed.
    ///
    /// - Returns: The request; nil if the engine had no such request.
    @discardableResult
    package mutating func replied(_ task: TaskID, by engine: EngineUUID, wasAborted: Bool) -> DirectRequest? {
        let request = self.engines[engine]?.queue.removeValue(forKey: task)?.request
        if !wasAborted { self.engines[engine]?.complete(task) }
        return request
    }

    /// A load-balanced task ended on the engine.
    package mutating func finished(_ task: TaskID, on engine: EngineUUID) { self.engines[engine]?.complete(task) }

    // MARK: State

    /// The requests without a reply, in the order sent.
    package func queue(of engine: EngineUUID) -> [TaskID] { self.engines[engine]?.inOrder.map(\.task) ?? [] }
    package func queueCount(of engine: EngineUUID) -> Int { self.engines[engine]?.queue.count ?? 0 }
    /// The ids that the engine completed last, oldest first, up to ``completedLimit``.
    package func completed(of engine: EngineUUID) -> [TaskID] { self.engines[engine].map { Array($0.lastCompleted) } ?? [] }
    package func completedCount(of engine: EngineUUID) -> Int { self.engines[engine]?.completed ?? 0 }
    package func isQueued(_ task: TaskID) -> Bool { self.engines.values.contains { $0.queue[task] != nil } }

    /// Throws if the stored values contradict each other; for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        for (uuid, engine) in self.engines {
            let places = engine.queue.values.map(\.place)
            if Set(places).count != places.count { throw BrokenInvariant(description: "two requests at \(uuid) share a place") }
            if engine.lastCompleted.count != min(engine.completed, Self.completedLimit) {
                throw BrokenInvariant(
                    description: "\(uuid) completed \(engine.completed) requests, \(engine.lastCompleted.count) kept")
            }
        }
    }
}
