import Locks

/// The tasks and maps of an executor that have not ended.
final class ExecutorWork: Sendable {
    private struct State {
        var isClosed = false
        var tasks: [ObjectIdentifier: PendingTask] = [:]
        var maps: [ObjectIdentifier: MapRun] = [:]
    }
    private let state = Mutex(State())

    func checkIsOpen() throws {
        if self.state.withLock({ $0.isClosed }) { throw ApusError(.closed, "the executor was shut down") }
    }

    func add(_ tasks: [PendingTask]) {
        self.state.withLock { state in for task in tasks { state.tasks[ObjectIdentifier(task)] = task } }
        for task in tasks {
            task.whenDone { [weak self, weak task] in
                guard let task else { return }
                self?.state.withLock { _ = $0.tasks.removeValue(forKey: ObjectIdentifier(task)) }
            }
        }
    }

    func add(_ map: MapRun) {
        self.state.withLock { $0.maps[ObjectIdentifier(map)] = map }
        map.whenFinished { [weak self, weak map] in
            guard let map else { return }
            self?.state.withLock { _ = $0.maps.removeValue(forKey: ObjectIdentifier(map)) }
        }
    }

    /// Refuses further work, and gives the tasks and maps that have not ended.
    func close() -> (tasks: [PendingTask], maps: [MapRun]) {
        self.state.withLock { state in
            state.isClosed = true
            return (Array(state.tasks.values), Array(state.maps.values))
        }
    }
}
