public import ApusWire
import NIOCore

/// A result that comes later: of one task, or of one call on several engines.
///
/// Any number of callers may wait for it, from anywhere. What cancelling one of them does to the work is ``whenCancelled``. To stop
/// work that has not started, use ``abort(interrupting:)``.
public struct AsyncResult<Output: Sendable>: Sendable {
    let tasks: [PendingTask]
    let client: Client
    /// Makes the value of the tasks' replies, all of which went well.
    let combine: @Sendable ([Message]) throws -> Output
    /// Whether one failure is thrown as it is; with several targets failures are gathered into one error.
    private let isSingle: Bool
    /// What cancelling a Swift task that waits for the value does to the work; nothing unless told.
    public var whenCancelled = CancellationPolicy.leaveRunning

    init(
        _ tasks: [PendingTask], client: Client, isSingle: Bool, whenCancelled: CancellationPolicy = .leaveRunning,
        combine: @escaping @Sendable ([Message]) throws -> Output
    ) {
        self.whenCancelled = whenCancelled
        self.tasks = tasks
        self.client = client
        self.isSingle = isSingle
        self.combine = combine
    }

    // MARK: The value

    /// Waits until every task has ended and gives the value.
    ///
    /// - Throws: ``RemoteError`` if the function threw on the engine (``CompositeError`` where several engines were called);
    ///   ``ApusError`` with code `engineDied`, `taskTimeout` or another if it gave no answer.
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
                .timeout, "\(self.tasks.count - self.progress) of \(self.tasks.count) tasks have not ended within \(timeout)")
        }
        return try self.combined()
    }

    /// Each task's value or error, in the order of the tasks, for callers who want the good ones in spite of the bad.
    public var outcomes: [Result<Output, any Error>] {
        get async throws {
            try await self.waitForAll()
            return self.tasks.map { task in Result { try self.combine([self.client.connection.message(of: task)]) } }
        }
    }

    private func waitForAll() async throws {
        do { for task in self.tasks { try await task.wait() } } catch {
            if error is CancellationError, self.whenCancelled != .leaveRunning {
                let interrupts = self.whenCancelled == .interrupt
                // The waiting has ended; that the engines have been told need not be waited for.
                Task { [client = self.client, ids = self.messageIDs] in
                    try? await client.abort(ids, interrupting: interrupts)
                }
            }
            throw error
        }
    }

    /// One task's part of the value.
    func value(of task: PendingTask) async throws -> Output {
        try await task.wait()
        return try self.combine([self.client.connection.message(of: task)])
    }

    private func combined() throws -> Output {
        if self.isSingle, self.tasks.count == 1 { return try self.combine([self.client.connection.message(of: self.tasks[0])]) }
        var messages: [Message] = []
        var errors: [any Error] = []
        messages.reserveCapacity(self.tasks.count)
        for task in self.tasks {
            do { messages.append(try self.client.connection.message(of: task)) } catch { errors.append(error) }
        }
        if !errors.isEmpty {
            throw CompositeError("\(errors.count) of \(self.tasks.count) calls failed", errors)
        }
        return try self.combine(messages)
    }

    // MARK: Waiting

    /// Waits until every task has ended, well or not, or until an earlier condition holds. False when the time is over first.
    @discardableResult
    public func wait(until condition: WaitCondition = .allCompleted, timeout: Duration? = nil) async throws -> Bool {
        if self.isReady { return true }
        return try await self.client.wait(for: self.tasks, until: condition, timeout: timeout)
    }

    /// Why those of the tasks wait that no engine has, by id; nothing when all are with engines or have ended.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` when the controller cannot say; Apus's own can.
    public func whyWaiting() async throws -> [TaskID: String] { try await self.client.whyWaiting(self.messageIDs) }

    /// Waits with a progress line on standard error: done of all, rate, time left, and whether engines are missing.
    @discardableResult
    public func waitInteractive(interval: Duration = .milliseconds(200), timeout: Duration? = nil) async throws -> Bool {
        try await ProgressLine.wait(for: self.tasks, of: self.client.connection, interval: interval, timeout: timeout)
    }

    /// Whether every task has ended.
    public var isReady: Bool { self.tasks.allSatisfy { $0.isDone } }

    /// Whether every task has ended well.
    ///
    /// - Throws: ``ApusError`` with code `resultNotFound` while not ready.
    public var isSuccessful: Bool {
        get throws {
            guard self.isReady else { throw ApusError(.resultNotFound, "the result is not ready yet") }
            return self.tasks.allSatisfy { (try? self.client.connection.message(of: $0)) != nil }
        }
    }

    /// How many of the tasks have ended.
    public var progress: Int { self.tasks.count { $0.isDone } }

    /// How many tasks there are.
    public var count: Int { self.tasks.count }

    // MARK: About the tasks

    /// The tasks' ids, in their order.
    public var messageIDs: [TaskID] { self.tasks.map { $0.id } }

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
        try await self.client.abort(self.messageIDs, interrupting: interrupting)
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
