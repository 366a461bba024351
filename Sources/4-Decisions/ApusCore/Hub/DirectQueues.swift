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
/// A value, with a method for each event. Only the end of an engine, and its report to a controller that took the place of another,
/// call for an effect.
package struct DirectQueues: Sendable {
    /// Whether an engine has a request of its queue.
    private enum Whereabouts: Sendable {
        /// This controller has sent it, or the engine has said that it has it.
        case there
        /// The controller before this one may have sent it; the engine's report will say. Becomes `there` or `sentAgain`.
        case inDoubt
        /// The engine has said that the request never came, so that it was sent again. Becomes `asked`.
        case sentAgain
        /// The engine was asked whether it has the request that was sent again.
        case asked
    }

    private struct Waiting: Sendable {
        /// The place in the order sent.
        let place: UInt64
        var request: DirectRequest
        var whereabouts: Whereabouts
    }

    private struct Engine: Sendable {
        /// Whether it is an earlier controller's, and has not come back.
        var isExpected = false
        /// Whether it is an earlier controller's, and says what it holds.
        var reports = false
        /// Whether its first report is to come.
        var awaitsReport = false
        /// The requests that the engine has reported and that are not known here. Their clients may send them again.
        var held: Set<TaskID> = []
        /// The requests of an earlier controller that the engine has answered and that were not known here; a limited number.
        var answeredUnknown: Set<TaskID> = []
        /// Requests without a reply.
        var queue: [TaskID: Waiting] = [:]
        var completed = 0
        /// The ids that were completed last, oldest first. Limited, because a hub may run for months; the count is exact.
        var lastCompleted: Deque<TaskID> = []

        var inOrder: [(task: TaskID, request: DirectRequest)] {
            self.queue.sorted { $0.value.place < $1.value.place }.map { (task: $0.key, request: $0.value.request) }
        }

        /// Requests of which it is not certain that the engine has them, in the order sent.
        var doubtful: [TaskID] {
            self.queue.filter { $0.value.whereabouts != .there }.sorted { $0.value.place < $1.value.place }.map(\.key)
        }

        mutating func complete(_ task: TaskID) {
            self.completed += 1
            if self.lastCompleted.count == DirectQueues.completedLimit { self.lastCompleted.removeFirst() }
            self.lastCompleted.append(task)
        }
    }

    /// How many ids of completed requests are kept of each engine.
    package static let completedLimit = 1024
    /// The most answers to unknown requests that are remembered of each engine.
    private static let unknownLimit = 65_536

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

    /// An engine of the controller before this one may come back, and may then say what it holds.
    package mutating func engineExpected(_ engine: EngineUUID, reports: Bool = false) {
        self.engines[engine] = Engine(isExpected: true, reports: reports, awaitsReport: reports)
    }

    /// The controller before this one sent a request that has no reply to an engine.
    ///
    /// - Returns: False when the engine is not expected; then the request will have no reply.
    package mutating func restored(_ task: TaskID, to engine: EngineUUID, _ request: DirectRequest) -> Bool {
        guard self.engines[engine] != nil else { return false }
        self.submitted(task, to: engine, request, isInDoubt: true)
        return true
    }

    /// What is to be done with a request of a client.
    package enum Reception: Sendable, Equatable {
        /// Send it to its engine.
        case send
        /// Keep it: the engine may have it, and its report is to come.
        case keep
        /// Keep it, and ask the engine for its answer: the engine has reported it.
        case ask
        /// Drop it: it is a second copy of one that waits for its answer.
        case drop
        /// Answer it from the records: the engine has answered the first copy, which was not known here.
        case answerFromRecords
    }

    /// A request has come for an engine. An engine that the controller before this one had may have it already.
    package func reception(of task: TaskID, for engine: EngineUUID) -> Reception {
        guard let engine = self.engines[engine], engine.reports else { return .send }
        if engine.answeredUnknown.contains(task) { return .answerFromRecords }
        if engine.queue[task] != nil { return .drop }
        return engine.awaitsReport ? .keep : engine.held.contains(task) ? .ask : .send
    }

    /// Engines of the controller before this one that say what they hold, so that clients may send requests to them again.
    package var reporting: [EngineUUID] { self.engines.filter { $0.value.reports }.keys.sorted { $0.text < $1.text } }

    /// What follows from a report for requests of which it was not known whether the engine has them, in the order sent.
    package struct Settlement: Sendable {
        /// The engine has them, and is to be asked to repeat their answers, if it has sent any.
        package var found: [TaskID] = []
        /// The engine never got them: they are to be sent.
        package var missing: [TaskID] = []
        /// The engine will not answer them.
        package var lost: [(task: TaskID, request: DirectRequest)] = []
    }

    /// An engine has said what it holds.
    package mutating func engineReported(_ engine: EngineUUID, _ report: EngineReport) -> Settlement {
        var settlement = Settlement()
        for task in self.engines[engine]?.doubtful ?? [] {
            guard let waiting = self.engines[engine]?.queue[task] else { continue }
            if report.has.contains(task) {
                self.engines[engine]?.queue[task]?.whereabouts = .there
                if !report.asked.contains(task) { settlement.found.append(task) }
            } else if report.lost.contains(task) || waiting.whereabouts == .asked && report.asked.contains(task) {
                self.engines[engine]?.queue[task] = nil
                settlement.lost.append((task, waiting.request))
            } else if waiting.whereabouts == .inDoubt {
                self.engines[engine]?.queue[task]?.whereabouts = .sentAgain
                settlement.missing.append(task)
            }
        }
        self.engines[engine]?.awaitsReport = false
        let known = self.engines[engine].map { Set($0.queue.keys) } ?? []
        self.engines[engine]?.held = report.has.subtracting(known)
        return settlement
    }

    /// The time has passed in which the engine must have got the requests that were sent again.
    ///
    /// - Returns: The requests that it is to be asked about, for they have no reply.
    package mutating func engineHadTime(_ engine: EngineUUID, for tasks: [TaskID]) -> [TaskID] {
        let asked = tasks.filter { self.engines[engine]?.queue[$0]?.whereabouts == .sentAgain }
        for task in asked { self.engines[engine]?.queue[task]?.whereabouts = .asked }
        return asked
    }

    /// An engine has answered a request that is not known here, and that the controller before this one may have sent.
    ///
    /// - Returns: Whether the answer is the first.
    package mutating func answeredUnknown(_ task: TaskID, by engine: EngineUUID) -> Bool {
        guard let known = self.engines[engine]?.answeredUnknown, known.count < Self.unknownLimit else { return false }
        self.engines[engine]?.held.remove(task)
        return self.engines[engine]?.answeredUnknown.insert(task).inserted ?? false
    }

    /// An engine is gone.
    ///
    /// - Returns: The requests that it leaves unanswered, in the order sent.
    package mutating func engineLeft(_ engine: EngineUUID) -> [(task: TaskID, request: DirectRequest)] {
        self.engines.removeValue(forKey: engine)?.inOrder ?? []
    }

    /// A request was sent to an engine. If a request of the same id waits there, the new one takes its place.
    ///
    /// - Parameter isInDoubt: Whether the request was not sent, because the controller before this one may have sent it.
    package mutating func submitted(_ task: TaskID, to engine: EngineUUID, _ request: DirectRequest, isInDoubt: Bool = false) {
        self.lastPlace += 1
        let place = self.engines[engine]?.queue[task]?.place ?? self.lastPlace
        self.engines[engine]?.held.remove(task)
        self.engines[engine]?.queue[task] = Waiting(
            place: place, request: request, whereabouts: isInDoubt ? .inDoubt : .there)
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
    package func isQueued(_ task: TaskID, at engine: EngineUUID) -> Bool { self.engines[engine]?.queue[task] != nil }

    /// Throws if the stored values contradict each other; for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        for (uuid, engine) in self.engines {
            let places = engine.queue.values.map(\.place)
            if Set(places).count != places.count { throw BrokenInvariant(description: "two requests at \(uuid) share a place") }
            if !engine.held.isDisjoint(with: engine.queue.keys) {
                throw BrokenInvariant(description: "a request at \(uuid) is both known and unknown")
            }
            if engine.lastCompleted.count != min(engine.completed, Self.completedLimit) {
                throw BrokenInvariant(
                    description: "\(uuid) completed \(engine.completed) requests, \(engine.lastCompleted.count) kept")
            }
        }
    }
}
