internal import ApusWire

// Tasks that wait for tasks of their own. While one does it takes no place at its engine, which may be given another; else engines
// that all wait would wait for ever.
extension TaskScheduler {
    /// The engine's task waits for others, or goes on.
    ///
    /// One that goes on counts again, so that its engine may for a while have more than it is given.
    mutating func setWaiting(_ id: TaskID, on uuid: EngineUUID, _ waits: Bool, at now: MonotonicTime) {
        guard let slot = self.slot(of: id), let engine = self.holder(of: slot), self.engines[Int(engine)].uuid == uuid,
            self.tasks[Int(slot)].isWaiting != waits
        else { return }
        self.tasks[Int(slot)].isWaiting = waits
        self.tasks[Int(slot)].hasWaited = true
        // What was behind it begins now; what it goes on behind began before.
        if waits { self.engines[Int(engine)].depth.turned(at: now) }
        self.setLoad(of: engine, self.engines[Int(engine)].load + (waits ? -1 : 1))
        if waits, !self.roomy.contains(engine) { self.roomy.append(engine) }
    }
}
