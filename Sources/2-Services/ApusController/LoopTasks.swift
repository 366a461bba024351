import NIOCore

/// Starts work that waits, for the store say, on the service's event loop, in the order in which it is asked for: so that a desk never
/// leaves its loop, and what it waits for comes back as an event.
actor LoopTasks {
    private nonisolated let eventLoop: any EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.eventLoop.executor.asUnownedSerialExecutor() }

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// Starts the work. It begins in a later turn of the loop, and is on the loop whenever it is not in what it waits for.
    ///
    /// - Parameter owner: Whose work it is: the desk, as it is on its loop.
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
