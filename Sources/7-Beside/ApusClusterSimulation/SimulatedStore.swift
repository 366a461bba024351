internal import ApusCore
internal import ApusStore
internal import ApusWire
internal import Locks

/// The task records that outlive a controller.
///
/// A durable disk keeps all flushed changes when its process is killed, and the later changes up to a random point: the process may
/// have handed over more than it had flushed. A disk that is not durable stands for a store in memory; here its changes outlive the
/// controller too, as if they were flushed at once.
final class SimulatedDisk: Sendable {
    /// Whether changes may be lost until they are flushed.
    let isDurable: Bool
    private let time: VirtualTime
    private let state = Mutex(State())

    private struct State {
        /// The changes that outlive the process, in order.
        var lasting: [TaskChange] = []
        /// The later changes, which are not flushed yet, in order.
        var late: [TaskChange] = []
    }

    init(_ time: VirtualTime, isDurable: Bool) {
        self.time = time
        self.isDurable = isDurable
    }

    /// Makes a store of the records that a process finds when it starts now.
    func load() -> MemoryTaskStore {
        let store = MemoryTaskStore()
        store.apply(self.state.withLock { $0.lasting })
        return store
    }

    func write(_ changes: [TaskChange]) {
        self.state.withLock { state in
            if self.isDurable { state.late += changes } else { state.lasting += changes }
        }
    }

    /// Flushes the changes that were written until now, which takes a moment.
    nonisolated(nonsending) func flush() async {
        guard self.isDurable else { return }
        let count = self.state.withLock { $0.lasting.count + $0.late.count }
        try? await Task.sleep(for: .nanoseconds(self.time.below(20_000_000)))
        self.state.withLock { state in
            let missing = min(count - state.lasting.count, state.late.count)
            guard missing > 0 else { return }
            state.lasting += state.late.prefix(missing)
            state.late.removeFirst(missing)
        }
    }

    /// Keeps the unflushed changes up to a random point, and loses the rest, because the process is killed.
    ///
    /// - Returns: The number of lost changes.
    func tear() -> Int {
        self.state.withLock { state in
            let kept = Int(self.time.below(Int64(state.late.count + 1)))
            let lost = state.late.count - kept
            state.lasting += state.late.prefix(kept)
            state.late = []
            return lost
        }
    }
}

/// The store of one process, which ignores changes after the process is killed.
final class SimulatedStore: TaskStore {
    private let disk: SimulatedDisk
    private let tasks: MemoryTaskStore
    private let open = Atomic(true)

    init(_ disk: SimulatedDisk) {
        self.disk = disk
        self.tasks = disk.load()
    }

    var isOpen: Bool { self.open.load(ordering: .relaxed) }

    /// - Returns: The number of lost changes.
    func kill() -> Int {
        self.open.store(false, ordering: .relaxed)
        return self.disk.tear()
    }

    func apply(_ changes: [TaskChange]) {
        guard self.isOpen else { return }
        self.tasks.apply(changes)
        self.disk.write(changes)
    }

    nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> [TaskState] {
        try await self.tasks.states(of: ids)
    }

    nonisolated(nonsending) func records(of ids: [TaskID], fields: Set<TaskField>) async throws(TaskStoreError) -> [TaskRecord] {
        try await self.tasks.records(of: ids, fields: fields)
    }

    nonisolated(nonsending) func records(
        matching query: TaskQuery, fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] {
        try await self.tasks.records(matching: query, fields: fields)
    }

    nonisolated(nonsending) func unfinished() async throws(TaskStoreError) -> [TaskRecord] { try await self.tasks.unfinished() }
    nonisolated(nonsending) func history() async throws(TaskStoreError) -> [TaskID] { try await self.tasks.history() }
    nonisolated(nonsending) func counts() async throws(TaskStoreError) -> TaskCounts { try await self.tasks.counts() }
    var backlogByteCount: Int { 0 }
    var isDurable: Bool { self.disk.isDurable }
    nonisolated(nonsending) func flush() async throws(TaskStoreError) { if self.isOpen { await self.disk.flush() } }
    nonisolated(nonsending) func close() async throws(TaskStoreError) {}
}
