public import ApusWire
import NIOCore

/// A result that comes later: of one task, or of one call on several engines.
///
/// Any number of callers may wait for the result, from anywhere. ``whenCancelled`` says what cancelling a waiting caller does to
/// the work. To abort work that has not started, use ``abort(interrupting:)``.
public struct AsyncResult<Output: Sendable>: Sendable {
    /// The tasks or the map that the value is made from.
    private enum Source: Sendable {
        case tasks([PendingTask], isSingle: Bool)
        /// A map; the closure makes the value once the map is finished.
        case map(MapRun, @Sendable () throws -> Output)
    }

    private let source: Source
    let client: Client
    /// Makes the value from the tasks' replies, all of which are without errors.
    let combine: @Sendable ([Message]) throws -> Output
    /// What cancelling a Swift task that waits for the value does to the work; by default nothing.
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

    /// The tasks sent so far; a map may send more.
    var tasks: [PendingTask] {
        switch self.source {
        case .tasks(let tasks, _): tasks
        case .map(let map, _): map.tasks
        }
    }

    /// The map whose result this is; nil for other results.
    var map: MapRun? { if case .map(let map, _) = self.source { map } else { nil } }

    /// The result for a caller who waits at once. Nobody else can have this result, so by default cancelling the caller aborts
    /// the work.
    func awaited(_ policy: CancellationPolicy?) -> AsyncResult {
        var result = self
        result.whenCancelled = policy ?? .abort
        return result
    }

    // MARK: The value

    /// Waits until every task has ended and gives the value.
    ///
    /// - Throws: The error that the function threw on the engine, where its type is `Codable`, else a ``RemoteError`` that
    ///   describes the error; ``CompositeError`` where several engines were called; ``ApusError`` with code `engineDied`,
    ///   `taskTimeout` or another where no engine answered.
    public var value: Output {
        get async throws {
            try await self.waitForAll()
            return try self.combined()
        }
    }

    /// Waits until every task has ended, no longer than the timeout, and gives the value.
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

    /// Each task's value or error, in the order of the tasks, for callers who want the values although some tasks failed. For the
    /// calls of a map, see ``AsyncMapResult/outcomes``.
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
                // The caller's wait is over: it does not wait for the engines' answers too.
                if !tasks.isEmpty {
                    Task { [client = self.client] in try? await client.abort(tasks, interrupting: interrupts) }
                }
            }
            throw error
        }
    }

    /// Waits until every task has ended. Cancelling the caller ends its waiting only.
    nonisolated(nonsending) func waitForEnd() async throws {
        switch self.source {
        case .tasks(let tasks, _): for task in tasks { try await task.wait() }
        case .map(let map, _): try await map.wait()
        }
    }

    /// Waits for one task and gives its part of the value.
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

    /// Asks the controller why the tasks that no engine has yet wait; gives the reasons by task id.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` when the controller cannot say; Apus's own can.
    public func whyWaiting() async throws -> [TaskID: String] { try await self.client.whyWaiting(self.messageIDs) }

    /// Waits until every task has ended, with a progress line on standard error. False when the time is over first.
    ///
    /// The line shows how many tasks have ended, the rate, the time left, and whether engines are missing. For a map, calls are
    /// counted.
    @discardableResult
    public func waitInteractive(interval: Duration = .milliseconds(200), timeout: Duration? = nil) async throws -> Bool {
        try await ProgressLine.wait(
            total: self.count, interval: interval, timeout: timeout, done: { self.progress },
            lacksEngines: { self.client.connection.lacksEngines(for: self.tasks, isMap: self.map != nil) },
            end: { try await self.waitForEnd() })
    }

    /// Whether every task has ended.
    public var isReady: Bool { self.map.map { $0.isFinished } ?? self.tasks.allSatisfy { $0.isDone } }

    /// Whether every task has ended without an error.
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

    /// The noun for what is counted: task or call.
    var unit: String { self.map == nil ? "task" : "call" }

    /// How many of the tasks or calls that have ended failed.
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
    /// Reading the ids makes a map that sends its tasks while it runs send the rest at once, so that each call is in one of the
    /// tasks.
    public var messageIDs: [TaskID] {
        self.map?.sendRest()
        return self.tasks.map { $0.id }
    }

    /// The metadata of each task, in the order of the tasks.
    public var metadata: [TaskMetadata] { self.tasks.map { self.client.connection.metadata(of: $0) } }

    /// Seconds from the first submission until now, or until the last reply when ready.
    public var elapsed: Double {
        guard let first = self.tasks.map({ $0.submitted }).min() else { return 0 }
        let received = self.metadata.map { $0.received }
        let last = received.contains { $0 == nil } ? .now : received.compactMap { $0 }.max() ?? .now
        return last.seconds(since: first)
    }

    /// The seconds that the tasks ran, summed: the time that one engine alone would have needed.
    public var serialTime: Double {
        self.metadata.reduce(0) { sum, task in
            guard let started = task.started, let completed = task.completed else { return sum }
            return sum + completed.seconds(since: started)
        }
    }

    /// Seconds from the first submission until now, or until the last reply when ready.
    ///
    /// This is the same as ``elapsed``.
    public var wallTime: Double { self.elapsed }

    /// Aborts the tasks that have not started; their results throw ``ApusError`` with code `taskAborted`.
    ///
    /// - Parameter interrupting: Whether running tasks are interrupted too; see ``Client/abort(_:interrupting:)``.
    public func abort(interrupting: Bool = false) async throws {
        let tasks = self.map.map { $0.stop() } ?? self.messageIDs
        if !tasks.isEmpty { try await self.client.abort(tasks, interrupting: interrupting) }
    }
}

/// What becomes of work when the Swift task that waits for it is cancelled.
public enum CancellationPolicy: Sendable, Hashable {
    /// Only the waiting ends; the work goes on and may be awaited again.
    case leaveRunning
    /// Tasks that have not started are aborted; running tasks go on to their end.
    case abort
    /// Tasks that have not started are aborted, and running tasks are interrupted; see ``Client/abort(_:interrupting:)``.
    case interrupt
}

extension TaskDependency {
    /// Makes a dependency on the tasks of a result.
    public init<Output>(_ result: AsyncResult<Output>, all: Bool = true, success: Bool = true, failure: Bool = false) {
        self.init(result.messageIDs, all: all, success: success, failure: failure)
    }
}
