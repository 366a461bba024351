import ApusStore
import ApusWire
import Locks

/// A durable store that reports its records as durable when the test lets it, and is as far behind as the test wants.
final class SlowStore: TaskStore {
    private let memory = MemoryTaskStore()
    private let state: Mutex<State>

    private struct State {
        var backlog = 0
        var completed = 0
        var completedWhenAsked = 0
        var flushesAtOnce: Bool
        var failingLookUps = 0
        var flush: CheckedContinuation<Void, Never>?
        var failure: TaskStoreError?
        var failedLookUps = 0
        var holdsLookUps = false
        var lookUps: [CheckedContinuation<Void, Never>] = []
        var asked: CheckedContinuation<Void, Never>?
    }

    init(flushesAtOnce: Bool = false) { self.state = Mutex(State(flushesAtOnce: flushesAtOnce)) }

    var isDurable: Bool { true }
    var backlogByteCount: Int { self.state.withLock { $0.backlog } }
    func setBacklog(_ count: Int) { self.state.withLock { $0.backlog = count } }

    /// How many tasks had ended, as far as the store was told, when it was last asked to make its records durable.
    var completedWhenAsked: Int { self.state.withLock { $0.completedWhenAsked } }

    /// Has look-ups of records fail from now on.
    ///
    /// - Parameter error: Nil has them succeed.
    func failLookUps(_ error: TaskStoreError?) { self.state.withLock { $0.failure = error } }
    var failedLookUps: Int { self.state.withLock { $0.failedLookUps } }

    /// Has look-ups of records wait until told otherwise.
    func holdLookUps(_ holds: Bool) {
        let held = self.state.withLock { state in
            state.holdsLookUps = holds
            defer { if !holds { state.lookUps = [] } }
            return holds ? [] : state.lookUps
        }
        for lookUp in held { lookUp.resume() }
    }

    /// Has so many look-ups of records fail, as those of a store whose disk is full do.
    func failLookUps(_ count: Int) { self.state.withLock { $0.failingLookUps = count } }

    func waitUntilAsked() async {
        await withCheckedContinuation { continuation in
            let isAsked = self.state.withLock { state in
                if state.flush == nil { state.asked = continuation }
                return state.flush != nil
            }
            if isAsked { continuation.resume() }
        }
    }

    func finishFlush() {
        let flush = self.state.withLock { state in
            defer { state.flush = nil }
            return state.flush
        }
        flush?.resume()
    }

    nonisolated(nonsending) func flush() async throws(TaskStoreError) {
        if self.state.withLock({ $0.flushesAtOnce }) { return }
        await withCheckedContinuation { continuation in
            let asked = self.state.withLock { state in
                state.flush = continuation
                state.completedWhenAsked = state.completed
                defer { state.asked = nil }
                return state.asked
            }
            asked?.resume()
        }
    }

    func apply(_ changes: [TaskChange]) {
        self.memory.apply(changes)
        let completed = changes.count { if case .completed = $0 { true } else { false } }
        self.state.withLock { $0.completed += completed }
    }

    nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> [TaskState] {
        try await self.memory.states(of: ids)
    }
    nonisolated(nonsending) func records(of ids: [TaskID], fields: Set<TaskField>) async throws(TaskStoreError) -> [TaskRecord] {
        if self.state.withLock({ $0.holdsLookUps }) {
            await withCheckedContinuation { continuation in
                let holds = self.state.withLock { state in
                    if state.holdsLookUps { state.lookUps.append(continuation) }
                    return state.holdsLookUps
                }
                if !holds { continuation.resume() }
            }
        }
        let failure = self.state.withLock { state in
            if state.failure != nil { state.failedLookUps += 1 }
            guard state.failingLookUps > 0 else { return state.failure }
            state.failingLookUps -= 1
            return TaskStoreError(.databaseError, "the disk is full")
        }
        if let failure { throw failure }
        return try await self.memory.records(of: ids, fields: fields)
    }
    nonisolated(nonsending) func records(matching query: TaskQuery, fields: Set<TaskField>) async throws(TaskStoreError)
        -> [TaskRecord]
    {
        try await self.memory.records(matching: query, fields: fields)
    }
    nonisolated(nonsending) func unfinished() async throws(TaskStoreError) -> [TaskRecord] { try await self.memory.unfinished() }
    nonisolated(nonsending) func history() async throws(TaskStoreError) -> [TaskID] { try await self.memory.history() }
    nonisolated(nonsending) func counts() async throws(TaskStoreError) -> TaskCounts { try await self.memory.counts() }
    nonisolated(nonsending) func close() async throws(TaskStoreError) {}
}
