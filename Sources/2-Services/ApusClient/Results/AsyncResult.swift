public import ApusWire
import NIOCore

/// A result that comes later: of one task, or of one call on several engines.
///
/// Any number of callers may wait for it, from anywhere. What cancelling one of them does to the work is ``whenCancelled``. To stop
/// work that has not started, use ``abort(interrupting:)``.
public struct AsyncResult<Output: Sendable>: Sendable {
    /// What the value is made of.
    private enum Source: Sendable {
        case tasks([PendingTask], isSingle: Bool)
        /// A map; the closure makes the value once it is finished.
        case map(MapRun, @Sendable () throws -> Output)
    }

    private let source: Source
    let client: Client
    /// Makes the value of the tasks' replies, all of which went well.
    let combine: @Sendable ([Message]) throws -> Output
    /// What cancelling a Swift task that waits for the value does to the work; nothing unless told.
    public var whenCancelled = CancellationPolicy.leaveRunning

    /// - Parameter isSingle: Whether one failure is thrown as it is; with several targets failures are gathered into one error.
    init(
        _ tasks: [PendingTask], client: Client, isSingle: Bool, whenCancelled: CancellationPolicy? = nil,
        combine: @escaping @Sendable ([Message]) throws -> Output
    ) {
        self.whenCancelled = whenCancelled ?? .leaveRunning
        self.source = .tasks(tasks, isSingle: isSingle)
        self.client = client
        self.combine = combine
    }

    init(
        _ map: MapRun, combined: @escaping @Sendable () throws -> Output,
        combine: @escaping @Sendable ([Message]) throws -> Output
    ) {
        self.source = .map(map, combined)
        self.client = map.client
        self.combine = combine
    }

    /// The tasks that there are so far: a map may send more.
    var tasks: [PendingTask] {
        switch self.source {
        case .tasks(let tasks, _): tasks
        case .map(let map, _): map.tasks
        }
    }

    /// The map whose result this is.
    var map: MapRun? { if case .map(let map, _) = self.source { map } else { nil } }

    /// The same for a caller who waits at once, so that nobody else can ever have the result.
    func awaited(_ policy: CancellationPolicy?) -> AsyncResult {
        var result = self
        result.whenCancelled = policy ?? .abort
        return result
    }

    // MARK: The value

    /// Waits until every task has ended and gives the value.
    ///
    /// - Throws: What the function threw on the engine, where that is `Codable`, else a ``RemoteError`` that describes it
    ///   (``CompositeError`` where several engines were called); ``ApusError`` with code `engineDied`, `taskTimeout` or another if it
    ///   gave no answer.
    public var value: Output {
        get async throws {
            try await self.waitForAll()
            return try self.combined()
        }
    }

    /// The same, waiting no longer than the timeout.
    ///
    /// - Throws: ``ApusError`` with code `timeout` when the time is over; the work goes on, and may be awaited again.
    public func value(timeout: Duration) async throws -> Output {
        let isReady = try await withDeadline(timeout) {
            try await self.waitForAll()
            return true
        }
        guard isReady ?? false else {
            throw ApusError(
                .timeout, "\(self.count - self.progress) of \(self.count) \(self.unit)s have not ended within \(timeout)")
        }
        return try self.combined()
    }

    /// Each task's value or error, in the order of the tasks, for callers who want the good ones in spite of the bad. Of a map, see
    /// ``AsyncMapResult/outcomes`` for those of its calls.
    public var outcomes: [Result<Output, any Error>] {
        get async throws {
            try await self.waitForAll()
            return self.tasks.map { task in Result { try self.combine([self.client.connection.message(of: task)]) } }
        }
    }

    private nonisolated(nonsending) func waitForAll() async throws {
        do { try await self.waitForEnd() } catch {
            if error is CancellationError, self.whenCancelled != .leaveRunning {
                let interrupts = self.whenCancelled == .interrupt
                let tasks = self.map.map { $0.stop() } ?? self.messageIDs
                // The waiting has ended; that the engines have been told need not be waited for.
                if !tasks.isEmpty {
                    Task { [client = self.client] in try? await client.abort(tasks, interrupting: interrupts) }
                }
            }
            throw error
        }
    }

    /// Waits until all has ended. Cancelling the caller ends its waiting only.
    nonisolated(nonsending) func waitForEnd() async throws {
        switch self.source {
        case .tasks(let tasks, _): for task in tasks { try await task.wait() }
        case .map(let map, _): try await map.wait()
        }
    }

    /// One task's part of the value.
    func value(of task: PendingTask) async throws -> Output {
        try await task.wait()
        return try self.combine([self.client.connection.message(of: task)])
    }

    private func combined() throws -> Output {
        switch self.source {
        case .map(_, let combined): try combined()
        case .tasks(let tasks, let isSingle): try self.combined(tasks, isSingle: isSingle)
        }
    }

    private func combined(_ tasks: [PendingTask], isSingle: Bool) throws -> Output {
        if isSingle, tasks.count == 1 { return try self.combine([self.client.connection.message(of: tasks[0])]) }
        var messages: [Message] = []
        var failures: [TaskFailure] = []
        messages.reserveCapacity(tasks.count)
        for task in tasks {
            do { messages.append(try self.client.connection.reply(of: task)) } catch { failures.append(error) }
        }
        if !failures.isEmpty { throw CompositeError("\(failures.count) of \(tasks.count) calls failed", failures) }
        return try self.combine(messages)
    }

    // MARK: Waiting

    /// Waits until every task has ended, well or not, or until an earlier condition holds. False when the time is over first.
    @discardableResult
    public func wait(until condition: WaitCondition = .allCompleted, timeout: Duration? = nil) async throws -> Bool {
        if self.isReady { return true }
        guard let map = self.map else { return try await self.client.wait(for: self.tasks, until: condition, timeout: timeout) }
        return try await withDeadline(timeout) { try await map.wait(until: condition) } ?? false
    }

    /// Why those of the tasks wait that no engine has, by id; nothing when all are with engines or have ended.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` when the controller cannot say; Apus's own can.
    public func whyWaiting() async throws -> [TaskID: String] { try await self.client.whyWaiting(self.messageIDs) }

    /// Waits with a progress line on standard error: done of all, rate, time left, and whether engines are missing. Of a map, calls are counted.
    @discardableResult
    public func waitInteractive(interval: Duration = .milliseconds(200), timeout: Duration? = nil) async throws -> Bool {
        try await ProgressLine.wait(
            total: self.count, interval: interval, timeout: timeout, done: { self.progress },
            lacksEngines: { self.client.connection.lacksEngines(for: self.tasks, isMap: self.map != nil) },
            end: { try await self.waitForEnd() })
    }

    /// Whether every task has ended.
    public var isReady: Bool { self.map.map { $0.isFinished } ?? self.tasks.allSatisfy { $0.isDone } }

    /// Whether every task has ended well.
    ///
    /// - Throws: ``ApusError`` with code `resultNotFound` while not ready.
    public var isSuccessful: Bool {
        get throws {
            guard self.isReady else { throw ApusError(.resultNotFound, "the result is not ready yet") }
            return self.failureCount == 0
        }
    }

    /// How many of the tasks have ended; of a map, how many of its calls.
    public var progress: Int { self.map.map { $0.endedCalls } ?? self.tasks.count { $0.isDone } }

    /// How many tasks there are; of a map, how many calls.
    public var count: Int { self.map.map { $0.count } ?? self.tasks.count }

    /// What is counted.
    var unit: String { self.map == nil ? "task" : "call" }

    /// How many of what has ended has failed.
    var failureCount: Int {
        let connection = self.client.connection
        guard let map = self.map else { return self.tasks.count { $0.isDone && (try? connection.reply(of: $0)) == nil } }
        let chunks = map.ends.chunks
        let sent = chunks.reduce(0) { $0 + $1.elements.count }
        return chunks.reduce(0) { $0 + connection.failureCount(of: $1) } + (map.isFinished ? map.count - sent : 0)
    }

    // MARK: About the tasks

    /// The tasks' ids, in their order.
    ///
    /// A map that sends its tasks while it runs sends the rest first, so that each call is in one of them.
    public var messageIDs: [TaskID] {
        self.map?.sendRest()
        return self.tasks.map { $0.id }
    }

    /// What is known of each task, in their order.
    public var metadata: [TaskMetadata] { self.tasks.map { self.client.connection.metadata(of: $0) } }

    /// Seconds from the first submission until now, or until the last reply when ready.
    public var elapsed: Double {
        guard let first = self.tasks.map({ $0.submitted }).min() else { return 0 }
        let received = self.metadata.map { $0.received }
        let last = received.contains { $0 == nil } ? .now : received.compactMap { $0 }.max() ?? .now
        return last.seconds(since: first)
    }

    /// Seconds that the tasks computed, summed: what one engine alone would have needed.
    public var serialTime: Double {
        self.metadata.reduce(0) { sum, task in
            guard let started = task.started, let completed = task.completed else { return sum }
            return sum + completed.seconds(since: started)
        }
    }

    /// Seconds from the first submission to the last reply.
    public var wallTime: Double { self.elapsed }

    /// Stops the tasks that have not started; their results throw ``ApusError`` with code `taskAborted`.
    ///
    /// - Parameter interrupting: Whether those that run are interrupted; see ``Client/abort(_:interrupting:)``.
    public func abort(interrupting: Bool = false) async throws {
        let tasks = self.map.map { $0.stop() } ?? self.messageIDs
        if !tasks.isEmpty { try await self.client.abort(tasks, interrupting: interrupting) }
    }
}

/// What becomes of work when the Swift task that waits for it is cancelled.
public enum CancellationPolicy: Sendable, Hashable {
    /// Only the waiting ends; the work goes on and may be awaited again.
    case leaveRunning
    /// What has not started is aborted; what runs goes on to its end.
    case abort
    /// What has not started is aborted, and what runs is interrupted; see ``Client/abort(_:interrupting:)``.
    case interrupt
}

extension TaskDependency {
    /// The tasks of a result.
    public init<Output>(_ result: AsyncResult<Output>, all: Bool = true, success: Bool = true, failure: Bool = false) {
        self.init(result.messageIDs, all: all, success: success, failure: failure)
    }
}
