internal import ApusWire

// Tasks that wait for tasks of their own. While a task waits it does not count at its engine, which may be given another task.
// Otherwise, once every engine ran a task that waits, no engine could run the tasks that they wait for.
extension TaskScheduler {
    /// Notes that a task at the engine waits for others, or runs on.
    ///
    /// A task that runs on counts again, so its engine may for a while hold more tasks than its limit.
    mutating func setWaiting(_ id: TaskID, on uuid: EngineUUID, _ waits: Bool, at now: MonotonicTime) {
        // The notice may come before the engine's report.
        if !self.unreported.isEmpty { self.claim(id, by: uuid, at: now) }
        guard let slot = self.slot(of: id), let engine = self.holder(of: slot), self.engines[Int(engine)].uuid == uuid,
            self.tasks[Int(slot)].isWaiting != waits
        else { return }
        self.tasks[Int(slot)].isWaiting = waits
        self.tasks[Int(slot)].hasWaited = true
        // When a task waits, the next task of the engine begins now. When a task runs on, the tasks before it have begun already.
        if waits { self.engines[Int(engine)].depth.turned(at: now) }
        self.setLoad(of: engine, self.engines[Int(engine)].load + (waits ? -1 : 1))
        if waits, !self.roomy.contains(engine) { self.roomy.append(engine) }
    }
}
