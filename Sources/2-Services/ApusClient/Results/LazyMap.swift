import ApusWire
import Pickle
import Locks

/// The results of a map that sends a bounded number of tasks at a time while the results are consumed; the input may be endless.
///
/// No task is sent before iteration begins, and each iteration starts anew. Then as many tasks as allowed are kept under way. The
/// next piece of input is read when a task's results have been taken, so the use of memory does not grow with the input. When the
/// consumer leaves the loop, is cancelled, or meets an error, no more input is read and tasks that have not started are aborted.
///
/// ```swift
/// for try await score in client.loadBalancedView().lazyMap($score, 0..., chunkSize: 100) {
///     if score > 0.99 { break }
/// }
/// ```
public struct LazyMap<Element: Sendable>: AsyncSequence, Sendable {
    let client: Client
    /// The most tasks sent whose results are not yet consumed.
    let maxOutstanding: Int
    let isOrdered: Bool
    /// Reads input and sends it as the flight has room, until the input ends or the consumer stops.
    let send: @Sendable (LazyMapFlight) async throws -> Void
    let decode: @Sendable (PickleValue) throws -> Element

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(map: self) }

    /// Gives one result at a time, waiting for the task that it is in.
    ///
    /// The iterator runs where its caller runs: a loop on the main actor leaves the actor only to wait.
    public struct AsyncIterator: AsyncIteratorProtocol {
        public typealias Failure = any Error

        private let map: LazyMap
        private let consumer: LazyMapConsumer
        private var tasks: AsyncThrowingStream<MapRun.Chunk, any Error>.AsyncIterator
        private var ready: ArraySlice<Element> = []
        /// The failure of the first failed call in the current task, thrown after the results that are ready.
        private var failure: TaskFailure?
        private var isOver = false

        fileprivate init(map: LazyMap) {
            self.map = map
            let flight = LazyMapFlight(map.client, room: map.maxOutstanding, isOrdered: map.isOrdered)
            self.tasks = flight.tasks.makeAsyncIterator()
            let send = map.send
            self.consumer = LazyMapConsumer(
                flight,
                Task {
                    do {
                        try await send(flight)
                        flight.inputEnded()
                    } catch { flight.inputFailed(error) }
                })
        }

        /// The next result; nil at the end of the input, and after an error.
        ///
        /// - Throws: The error of the call, of the input, or `CancellationError`; tasks that have not started are then aborted.
        nonisolated(nonsending) public mutating func next() async throws -> Element? {
            try await self.next(isolation: #isolation)
        }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws -> Element? {
            while self.ready.isEmpty {
                if self.isOver { return nil }
                do {
                    if let failure = self.failure { throw failure.thrown }
                    try await self.takeNext(isolation: actor)
                } catch {
                    self.isOver = true
                    self.consumer.stop()
                    throw error
                }
            }
            return self.ready.removeFirst()
        }

        /// Waits for the task whose results are next.
        private mutating func takeNext(isolation actor: isolated (any Actor)?) async throws {
            let next = try await givingUpTurn { try await self.tasks.next(isolation: actor) }
            guard let chunk = next else {
                try Task.checkCancellation()
                self.isOver = true
                return
            }
            try await chunk.task.wait()
            self.consumer.flight.taken(chunk.task)
            let outcomes = self.map.client.connection.outcomes(of: chunk, self.map.decode)
            self.ready = outcomes.values.prefix(outcomes.failures.first?.place ?? outcomes.values.count)
            self.failure = outcomes.failures.first?.failure
        }
    }
}

/// The tasks that a lazy map has sent and its consumer has not taken, limited in number.
final class LazyMapFlight: Sendable {
    /// The tasks for the consumer: in the order of the input, or as they end.
    let tasks: AsyncThrowingStream<MapRun.Chunk, any Error>
    private let taskContinuation: AsyncThrowingStream<MapRun.Chunk, any Error>.Continuation
    /// An element for each task that may be sent.
    private let room: AsyncStream<Void>
    private let roomContinuation: AsyncStream<Void>.Continuation
    private let client: Client
    private let isOrdered: Bool
    private let state = Mutex(State())

    private struct State {
        /// Tasks sent and not taken.
        var outstanding: Set<MessageID> = []
        /// How many tasks were sent and have not ended; used only where the consumer gets tasks as they end.
        var running = 0
        var inputHasEnded = false
        var isStopped = false
    }

    init(_ client: Client, room: Int, isOrdered: Bool) {
        self.client = client
        self.isOrdered = isOrdered
        (self.tasks, self.taskContinuation) = AsyncThrowingStream.makeStream()
        (self.room, self.roomContinuation) = AsyncStream.makeStream()
        for _ in 0..<room { self.roomContinuation.yield() }
    }

    // MARK: For the sender

    /// Waits until another task may be sent. False when no more tasks are wanted.
    func waitForRoom() async -> Bool {
        for await _ in self.room { return true }
        return false
    }

    func sent(_ chunk: MapRun.Chunk) {
        let task = chunk.task
        let isWanted = self.state.withLock { state in
            if state.isStopped { return false }
            state.outstanding.insert(task.id)
            state.running += 1
            return true
        }
        guard isWanted else { return self.abort([task.id]) }
        if self.isOrdered {
            self.taskContinuation.yield(chunk)
        } else {
            task.whenDone {
                self.taskContinuation.yield(chunk)
                let isLast = self.state.withLock { state in
                    state.running -= 1
                    return state.running == 0 && state.inputHasEnded
                }
                if isLast { self.taskContinuation.finish() }
            }
        }
    }

    func inputEnded() {
        let isOver = self.state.withLock { state in
            state.inputHasEnded = true
            return self.isOrdered || state.running == 0
        }
        if isOver { self.taskContinuation.finish() }
    }

    func inputFailed(_ error: any Error) { self.taskContinuation.finish(throwing: error) }

    // MARK: For the consumer

    func taken(_ task: PendingTask) {
        self.state.withLock { _ = $0.outstanding.remove(task.id) }
        self.roomContinuation.yield()
    }

    /// Sends no more tasks and aborts the outstanding ones. May be called again.
    func stop() {
        let outstanding = self.state.withLock { state in
            defer { state.outstanding = [] }
            state.isStopped = true
            return Array(state.outstanding)
        }
        self.roomContinuation.finish()
        self.taskContinuation.finish()
        self.abort(outstanding)
    }

    private func abort(_ tasks: [MessageID]) {
        if tasks.isEmpty { return }
        let client = self.client
        // The abort is not waited for and may fail: the consumer may be gone, and a closed client has nothing left to abort.
        Task { try? await client.abort(tasks) }
    }
}

/// Ends the flight when the last copy of its iterator is gone.
private final class LazyMapConsumer: Sendable {
    let flight: LazyMapFlight
    private let sending: Task<Void, Never>

    init(_ flight: LazyMapFlight, _ sending: Task<Void, Never>) {
        self.flight = flight
        self.sending = sending
    }

    deinit { self.stop() }

    func stop() {
        self.sending.cancel()
        self.flight.stop()
    }
}
