import ApusWire
import Pickle

/// The results of a map that come later, in chunks.
///
/// Iterate it to have results as they come, in the order of the input or of their arrival; or await ``value`` for all of them.
public struct AsyncMapResult<Element: Sendable>: Sendable, AsyncSequence {
    let tasks: [PendingTask]
    /// The client through which the map was sent.
    public let client: Client
    /// Whether iteration keeps the order of the input. ``value`` always does.
    public var isOrdered: Bool
    /// What cancelling a Swift task that waits for the values does to the work; nothing unless told.
    public var whenCancelled = CancellationPolicy.leaveRunning
    private let decode: @Sendable (PickleValue) throws -> Element

    init(
        _ tasks: [PendingTask], client: Client, isOrdered: Bool = true,
        decode: @escaping @Sendable (PickleValue) throws -> Element
    ) {
        self.tasks = tasks
        self.client = client
        self.isOrdered = isOrdered
        self.decode = decode
    }

    /// All results in the order of the input.
    ///
    /// - Throws: ``CompositeError`` with the error of each chunk that failed; the error itself where the map is one chunk.
    public var value: [Element] {
        get async throws { try await self.whole.value }
    }

    /// The same, waiting no longer than the timeout.
    public func value(timeout: Duration) async throws -> [Element] { try await self.whole.value(timeout: timeout) }

    /// The result as one, for its metadata, waiting, progress and abort.
    public var whole: AsyncResult<[Element]> {
        let decode = self.decode
        var result = AsyncResult(self.tasks, client: self.client, isSingle: self.tasks.count == 1) { messages in
            var elements: [Element] = []
            for message in messages { elements += try decodeElements(from: message, decode) }
            return elements
        }
        result.whenCancelled = self.whenCancelled
        return result
    }

    /// Waits for all chunks with a progress line on standard error. False when the time is over first; see
    /// ``AsyncResult/waitInteractive(interval:timeout:)``.
    @discardableResult
    public func waitInteractive(interval: Duration = .milliseconds(200), timeout: Duration? = nil) async throws -> Bool {
        try await self.whole.waitInteractive(interval: interval, timeout: timeout)
    }

    /// What is known of each chunk's task, in the order of the input.
    public var metadata: [TaskMetadata] { self.whole.metadata }
    /// Stops the chunks that have not started; see ``AsyncResult/abort(interrupting:)``.
    public func abort(interrupting: Bool = false) async throws { try await self.whole.abort(interrupting: interrupting) }

    // MARK: Iterating

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(result: self)
    }

    /// Gives one result at a time, waiting for the chunk that it is in.
    public struct AsyncIterator: AsyncIteratorProtocol {
        private let result: AsyncMapResult
        private var chunks: any AsyncIteratorProtocol<PendingTask, Never>
        private var ready: ArraySlice<Element> = []

        fileprivate init(result: AsyncMapResult) {
            self.result = result
            if result.isOrdered {
                let (stream, continuation) = AsyncStream.makeStream(of: PendingTask.self)
                for task in result.tasks { continuation.yield(task) }
                continuation.finish()
                self.chunks = stream.makeAsyncIterator()
            } else {
                self.chunks = tasksAsDone(result.tasks).makeAsyncIterator()
            }
        }

        public mutating func next() async throws -> Element? {
            while self.ready.isEmpty {
                guard let task = await self.chunks.next(isolation: #isolation) else { return nil }
                try await task.wait()
                self.ready = try decodeElements(from: self.result.client.connection.message(of: task), self.result.decode)[...]
            }
            return self.ready.removeFirst()
        }
    }
}

/// The results in the reply to one chunk of a map.
func decodeElements<Element>(from message: Message, _ decode: (PickleValue) throws -> Element) throws -> [Element] {
    try decodeResult(from: message) { try $0.elements().map(decode) }
}
