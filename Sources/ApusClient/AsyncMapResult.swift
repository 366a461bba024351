import ApusWire
import Pickle

/// The results of a map that come later, in chunks.
///
/// Iterate it to have results as they come, in the order of the input or of their arrival; or await ``value`` for all of them.
public struct AsyncMapResult<Element: Sendable>: Sendable, AsyncSequence {
    let tasks: [PendingTask]
    public let client: Client
    /// Whether iteration keeps the order of the input. ``value`` always does.
    public var isOrdered: Bool
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

    /// The results in one chunk's reply.
    private func elements(in message: Message) throws -> [Element] {
        try decodeResult(from: message) { value in
            try value.elements().map(self.decode)
        }
    }

    /// All results in the order of the input.
    ///
    /// - Throws: The error of the first chunk that failed; with several, ``CompositeError``.
    public var value: [Element] {
        get async throws { try await self.whole.value }
    }

    /// The same, waiting no longer than the timeout.
    public func value(timeout: Duration) async throws -> [Element] { try await self.whole.value(timeout: timeout) }

    /// The result as one, for its metadata, waiting, progress and abort.
    public var whole: AsyncResult<[Element]> {
        AsyncResult(self.tasks, client: self.client, isSingle: self.tasks.count == 1) { messages in
            var elements: [Element] = []
            for message in messages { elements += try self.elements(in: message) }
            return elements
        }
    }

    @discardableResult
    public func waitInteractive(interval: Duration = .milliseconds(200), timeout: Duration? = nil) async throws -> Bool {
        try await self.whole.waitInteractive(interval: interval, timeout: timeout)
    }

    public var metadata: [TaskMetadata] { self.whole.metadata }
    public func abort() async throws { try await self.whole.abort() }

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
            let (stream, continuation) = AsyncStream.makeStream(of: PendingTask.self)
            if result.isOrdered {
                for task in result.tasks { continuation.yield(task) }
                continuation.finish()
            } else {
                let remaining = Countdown(result.tasks.count)
                if result.tasks.isEmpty { continuation.finish() }
                for task in result.tasks {
                    task.whenDone {
                        continuation.yield(task)
                        if remaining.countDown() { continuation.finish() }
                    }
                }
            }
            self.chunks = stream.makeAsyncIterator()
        }

        public mutating func next() async throws -> Element? {
            while self.ready.isEmpty {
                guard let task = await self.chunks.next(isolation: #isolation) else { return nil }
                try await task.wait()
                self.ready = try self.result.elements(in: self.result.client.connection.message(of: task))[...]
            }
            return self.ready.removeFirst()
        }
    }
}
