public import ApusWire
import Pickle

/// The results of a map that was begun and may still run.
///
/// Iterate over the map's result to take results as they come, in the order of the input or of their arrival, or await ``value``
/// for all of them. Each call has an outcome of its own, also where several calls share a task; see ``outcomes``.
///
/// A map without a chunk size sends its tasks while it runs, with as many calls in each as the measured times suggest. ``count``
/// and ``progress`` count calls. ``metadata``, ``timeline`` and ``messageIDs`` are of tasks.
public struct AsyncMapResult<Element: Sendable>: Sendable, AsyncSequence {
    public typealias Failure = any Error

    let run: MapRun
    /// Whether iteration keeps the order of the input. ``value`` always does.
    public var isOrdered: Bool
    /// What cancelling a Swift task that waits for the results does to the work; by default, tasks that have not started are
    /// aborted.
    public var whenCancelled: CancellationPolicy
    private let decode: @Sendable (PickleValue) throws -> Element

    init(
        _ run: MapRun, isOrdered: Bool = true, whenCancelled: CancellationPolicy?,
        decode: @escaping @Sendable (PickleValue) throws -> Element
    ) {
        self.run = run
        self.isOrdered = isOrdered
        self.whenCancelled = whenCancelled ?? .abort
        self.decode = decode
    }

    /// The client through which the map was sent.
    public var client: Client { self.run.client }

    // MARK: All results

    /// All results in the order of the input.
    ///
    /// - Throws: ``CompositeError`` with the error of each call that failed, once all have ended; the error itself where the map
    ///   has one element. `CancellationError` when the waiting task is cancelled; ``whenCancelled`` says what becomes of the
    ///   work.
    public var value: [Element] { get async throws { try await self.whole.value } }

    /// Waits for all results, no longer than the timeout.
    ///
    /// - Throws: As ``value``; ``ApusError`` with code `timeout` when the time is over. The work goes on then.
    public func value(timeout: Duration) async throws -> [Element] { try await self.whole.value(timeout: timeout) }

    /// Each call's result or error, in the order of the input, for callers who want the results although some calls failed.
    public var outcomes: [Result<Element, any Error>] {
        get async throws {
            try await self.waitForAll()
            var outcomes: [Result<Element, any Error>] = []
            outcomes.reserveCapacity(self.count)
            self.forEachEnd { values, failures, count in
                var (value, failure) = (values.startIndex, failures.startIndex)
                for place in 0..<count {
                    if failure < failures.endIndex, failures[failure].place == place {
                        outcomes.append(.failure(failures[failure].failure.error))
                        failure += 1
                    } else {
                        outcomes.append(.success(values[value]))
                        value += 1
                    }
                }
            }
            return outcomes
        }
    }

    private func waitForAll() async throws {
        do { try await self.run.wait() } catch {
            self.wasCancelled()
            throw error
        }
    }

    /// Applies the cancellation policy to the map's work.
    fileprivate func wasCancelled() {
        guard self.whenCancelled != .leaveRunning else { return }
        let tasks = self.run.stop()
        let interrupts = self.whenCancelled == .interrupt
        if tasks.isEmpty { return }
        // The caller's wait is over: it does not wait for the engines' answers too.
        Task { [client = self.client] in try? await client.abort(tasks, interrupting: interrupts) }
    }

    /// Calls the body with the outcomes of each task of a finished map, in the order of the input; elements without a task count
    /// as a task that failed.
    private func forEachEnd(
        _ body: ([Element], [(place: Int, failure: TaskFailure)], _ calls: Int) throws -> Void
    ) rethrows {
        let (chunks, missing) = self.run.ends
        var next = 0
        func fill(upTo end: Int) throws {
            guard next < end else { return }
            try body([], (0..<end - next).map { ($0, missing) }, end - next)
            next = end
        }
        for chunk in chunks {
            try fill(upTo: chunk.elements.lowerBound)
            let outcomes = self.client.connection.outcomes(of: chunk, self.decode)
            try body(outcomes.values, outcomes.failures, chunk.elements.count)
            next = chunk.elements.upperBound
        }
        try fill(upTo: self.count)
    }

    /// All results of a finished map.
    private func combined() throws -> [Element] {
        var elements: [Element] = []
        var failures: [TaskFailure] = []
        elements.reserveCapacity(self.count)
        self.forEachEnd { values, failed, _ in
            elements += values
            for each in failed { failures.append(each.failure) }
        }
        guard let first = failures.first else { return elements }
        if self.count == 1 { throw first.thrown }
        throw CompositeError("\(failures.count) of \(self.count) calls failed", failures)
    }

    /// The whole map as one result, for its metadata, waiting, progress and abort.
    public var whole: AsyncResult<[Element]> {
        let decode = self.decode
        var result = AsyncResult(self.run, combined: { try self.combined() }) { messages in
            var elements: [Element] = []
            for message in messages { elements += try decodeResult(from: message) { try $0.elements().map(decode) } }
            return elements
        }
        result.whenCancelled = self.whenCancelled
        return result
    }

    // MARK: About the calls and tasks

    /// How many calls there are: one for each element.
    public var count: Int { self.run.count }

    /// How many of the calls have ended.
    public var progress: Int { self.run.endedCalls }

    /// The ids of the tasks that make the calls, in the order of the input.
    ///
    /// Reading the ids makes a map that sends its tasks while it runs send the rest at once. Each call is then in one of the
    /// tasks, so a dependency on the map waits for all calls.
    public var messageIDs: [TaskID] { self.whole.messageIDs }

    /// Waits for all calls with a progress line on standard error. False when the time is over first; see
    /// ``AsyncResult/waitInteractive(interval:timeout:)``.
    @discardableResult
    public func waitInteractive(interval: Duration = .milliseconds(200), timeout: Duration? = nil) async throws -> Bool {
        try await self.whole.waitInteractive(interval: interval, timeout: timeout)
    }

    /// The metadata of each task that was sent so far, in the order of the input. A task makes one call or several.
    public var metadata: [TaskMetadata] { self.whole.metadata }
    /// Aborts the calls that have not started, calls that are not yet sent included; see ``AsyncResult/abort(interrupting:)``.
    /// The calls of a task that has started go on to its end.
    public func abort(interrupting: Bool = false) async throws { try await self.whole.abort(interrupting: interrupting) }

    // MARK: Iterating

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(result: self) }

    /// Gives one result at a time, waiting for the task that it is in.
    ///
    /// The iterator runs where its caller runs: a loop on the main actor leaves the actor only to wait.
    public struct AsyncIterator: AsyncIteratorProtocol {
        public typealias Failure = any Error

        private let result: AsyncMapResult
        private var endings: AsyncStream<MapRun.Chunk>.AsyncIterator
        /// Tasks that ended before their turn, by their first element; empty where the order is not kept.
        private var early: [Int: MapRun.Chunk] = [:]
        /// The rest of the task whose results are being given: the place of the next call, and the outcomes.
        private var place = 0
        private var calls = 0
        private var values: ArraySlice<Element> = []
        private var failures: ArraySlice<(place: Int, failure: TaskFailure)> = []
        /// How many calls' results or errors were given.
        private var given = 0

        fileprivate init(result: AsyncMapResult) {
            self.result = result
            self.endings = result.run.endings().makeAsyncIterator()
        }

        /// The next result; nil when all have been given.
        ///
        /// - Throws: The error of a call that failed; the iteration may go on with the next. `CancellationError` when the waiting
        ///   task is cancelled.
        nonisolated(nonsending) public mutating func next() async throws -> Element? {
            try await self.next(isolation: #isolation)
        }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws -> Element? {
            while self.place == self.calls {
                guard self.given < self.result.count else { return nil }
                try await self.takeNext(isolation: actor)
            }
            self.given += 1
            defer { self.place += 1 }
            if let failed = self.failures.first, failed.place == self.place {
                self.failures.removeFirst()
                throw failed.failure.thrown
            }
            return self.values.removeFirst()
        }

        /// Waits for the task whose results are next.
        private mutating func takeNext(isolation actor: isolated (any Actor)?) async throws {
            while true {
                if let chunk = self.early.removeValue(forKey: self.given) { return self.take(chunk) }
                guard let chunk = await self.endings.next(isolation: actor) else {
                    if Task.isCancelled {
                        self.result.wasCancelled()
                        throw CancellationError()
                    }
                    return self.takeMissing()
                }
                if !self.result.isOrdered { return self.take(chunk) }
                self.early[chunk.elements.lowerBound] = chunk
            }
        }

        private mutating func take(_ chunk: MapRun.Chunk) {
            let outcomes = self.result.client.connection.outcomes(of: chunk, self.result.decode)
            self.begin(chunk.elements.count, outcomes.values, outcomes.failures)
        }

        /// Gives a failure for each element that was never sent, up to the next task.
        private mutating func takeMissing() {
            let next = self.result.isOrdered ? self.early.keys.min() : nil
            let missing = Swift.max(1, (next ?? self.result.count) - self.given)
            let failure = self.result.run.missing
            self.begin(missing, [], (0..<missing).map { ($0, failure) })
        }

        private mutating func begin(
            _ calls: Int, _ values: [Element], _ failures: [(place: Int, failure: TaskFailure)]
        ) {
            self.place = 0
            self.calls = calls
            self.values = values[...]
            self.failures = failures[...]
        }
    }
}
