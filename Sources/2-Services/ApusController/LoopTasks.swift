import NIOCore

/// Starts asynchronous work, such as a query of the store, on the service's event loop, in the order in which it is asked for, so
/// that a desk never leaves its loop and the result comes back as an event.
actor LoopTasks {
    private nonisolated let eventLoop: any EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.eventLoop.executor.asUnownedSerialExecutor() }

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// Starts work, which begins in a later turn of the loop and runs on the loop except while it waits.
    ///
    /// - Parameter owner: The desk that the work belongs to; it is handed to the work on the loop.
    @discardableResult
    nonisolated func start<Owner>(
        for owner: Owner, _ work: nonisolated(nonsending) @escaping @Sendable (_ owner: Owner) async -> Void
    ) -> Task<Void, Never> {
        let owner = NIOLoopBound(owner, eventLoop: self.eventLoop)
        return self.assumeIsolated { $0.run { await work(owner.value) } }
    }

    private func run(_ work: nonisolated(nonsending) @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        Task {
            // Names this actor, so that the work is on its loop.
            _ = self
            await work()
        }
    }
}
