public import ApusWire

/// The condition that ends a wait for several tasks (ipyparallel's `return_when`).
public enum WaitCondition: Sendable {
    /// Every task has ended, well or not.
    case allCompleted
    /// One task has ended, well or not.
    case firstCompleted
    /// One task has ended with an error, or all tasks have ended.
    case firstError
}

extension Sequence {
    /// Gives each result as soon as it is ready, in the order in which the results become ready.
    ///
    /// ```swift
    /// for await result in results.asCompleted() { print(try await result.value) }
    /// ```
    ///
    /// Leaving the loop stops the waiting; the work goes on.
    public func asCompleted<Output>() -> AsyncStream<AsyncResult<Output>> where Element == AsyncResult<Output> {
        inOrderOfEnding(Array(self)) { $0.whenReady($1) }
    }
}

extension AsyncResult {
    /// Calls the body once every task has ended, at once if they have.
    func whenReady(_ body: @escaping @Sendable () -> Void) {
        if let map = self.map { return map.whenFinished(body) }
        if self.tasks.isEmpty { return body() }
        let remaining = Countdown(self.tasks.count)
        for task in self.tasks { task.whenDone { if remaining.countDown() { body() } } }
    }

    /// Gives each engine's value as it comes, in the order of the targets or of arrival.
    ///
    /// For a map, iterate over the ``AsyncMapResult`` instead, which gives each call's result as it comes; here the whole map is
    /// waited for first.
    ///
    /// The sequence ends with the first error, thrown as it was on its engine.
    public func elements<Element>(ordered: Bool = true) -> AsyncThrowingStream<Element, any Error> where Output == [Element] {
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: Element.self)
        let waiting = Task {
            do {
                if self.map != nil { try await self.waitForEnd() }
                if ordered {
                    for task in self.tasks { for element in try await self.value(of: task) { continuation.yield(element) } }
                } else {
                    for await task in tasksAsDone(self.tasks) {
                        for element in try await self.value(of: task) { continuation.yield(element) }
                    }
                }
                continuation.finish()
            } catch { continuation.finish(throwing: error) }
        }
        continuation.onTermination = { _ in waiting.cancel() }
        return stream
    }

    /// Each engine's value by its id (ipyparallel's `get_dict`).
    ///
    /// - Throws: As ``value``; ``ApusError`` with code `badArgument` where two of the values are of one engine.
    public func valueByEngine<Element>() async throws -> [EngineID: Element] where Output == [Element] {
        let values = try await self.value
        let engines = self.metadata.compactMap { $0.engineID }
        guard engines.count == values.count, Set(engines).count == engines.count else {
            throw ApusError(
                .badArgument, "the result has \(values.count) values of \(Set(engines).count) engines, not one of each engine")
        }
        return Dictionary(uniqueKeysWithValues: zip(engines, values))
    }
}

/// The tasks in the order in which they end.
func tasksAsDone(_ tasks: [PendingTask]) -> AsyncStream<PendingTask> { inOrderOfEnding(tasks) { $0.whenDone($1) } }

/// The items in the order in which they end.
private func inOrderOfEnding<Item: Sendable>(
    _ items: [Item], _ whenEnded: (Item, @escaping @Sendable () -> Void) -> Void
) -> AsyncStream<Item> {
    let (stream, continuation) = AsyncStream.makeStream(of: Item.self)
    let remaining = Countdown(items.count)
    if items.isEmpty { continuation.finish() }
    for item in items {
        whenEnded(item) {
            continuation.yield(item)
            if remaining.countDown() { continuation.finish() }
        }
    }
    return givingUpTurn(in: stream)
}

extension Client {
    /// Waits for tasks until the condition holds. False when the time is over first.
    func wait(for tasks: [PendingTask], until condition: WaitCondition, timeout: Duration?) async throws -> Bool {
        let connection = self.connection
        return try await withDeadline(timeout) {
            switch condition {
            case .allCompleted: for task in tasks { try await task.wait() }
            case .firstCompleted, .firstError:
                for await task in tasksAsDone(tasks) {
                    if condition == .firstCompleted { return true }
                    do { _ = try connection.message(of: task) } catch { return true }
                }
                try Task.checkCancellation()
            }
            return true
        } ?? false
    }
}

extension MapRun {
    /// Waits until the condition holds of the calls.
    func wait(until condition: WaitCondition) async throws -> Bool {
        if condition == .allCompleted {
            try await self.wait()
            return true
        }
        for await chunk in self.endings() {
            if condition == .firstCompleted || self.client.connection.failureCount(of: chunk) > 0 { return true }
        }
        try Task.checkCancellation()
        return true
    }
}
