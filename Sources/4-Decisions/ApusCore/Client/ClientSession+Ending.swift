internal import ApusWire

// The timer that all waits share, and the end of the session.
extension ClientSession {
    /// How long the last replies may take to come after the controller has said that it shuts down.
    static let shutdownDelay = Duration.milliseconds(200)

    // MARK: The end

    /// Begins the end: nothing can be sent from now on. Lost tasks cannot be asked about any more, and fail with all others. Lost
    /// channels, which may come back, no longer matter.
    mutating func beginEnd(_ ending: Ending) {
        if self.ending == nil { self.ending = ending }
        self.patienceEnd = nil
        self.lost = [:]
        self.recoveries = [:]
    }

    mutating func awaitShutdown(at now: MonotonicTime, _ effects: inout [Effect]) {
        self.beginEnd(.controllerShutDown)
        self.directory.removeAll()
        effects.append(.announceChange)
        if self.shutdownEnd != nil { return }
        let end = now + Self.shutdownDelay
        self.shutdownEnd = end
        self.wake(at: end, &effects)
    }

    mutating func close(_ effects: inout [Effect]) {
        self.beginEnd(.closed)
        self.failEverything(.ended(.closed), &effects)
        effects.append(.announceChange)
    }

    // MARK: Time

    /// Makes the timer fire at this time, or earlier.
    mutating func wake(at time: MonotonicTime, _ effects: inout [Effect]) {
        if let timer, timer <= time { return }
        if time == .distantFuture { return }
        self.timer = time
        effects.append(.setTimer(time))
    }

    mutating func takeTime(_ now: MonotonicTime, _ effects: inout [Effect]) {
        // Set to now, so that the steps below set no timer; the timer is set once, after them.
        self.timer = now
        self.giveUpLateOutput(at: now, &effects)
        self.failDeparted(at: now, &effects)
        if let warningTime, warningTime <= now {
            self.warningTime = nil
            self.warnOfNoEngines(&effects)
        }
        if let patienceEnd, patienceEnd <= now { self.endPatience(at: now, &effects) }
        if let shutdownEnd, shutdownEnd <= now {
            self.shutdownEnd = nil
            self.failEverything(.ended(.controllerShutDown), &effects)
        }
        self.resumeRecoveries(at: now, &effects)
        self.timer = nil
        if let next = self.nextTime { self.wake(at: next, &effects) }
    }

    /// The first time at which there is something to do.
    var nextTime: MonotonicTime? {
        var times: [MonotonicTime] = []
        if let first = self.lateOutput.first { times.append(first.end) }
        if let first = self.departures.first { times.append(first.end) }
        if let warningTime { times.append(warningTime) }
        if let patienceEnd { times.append(patienceEnd) }
        if let shutdownEnd { times.append(shutdownEnd) }
        for recovery in self.recoveries.values { if case .resting(let end) = recovery.state { times.append(end) } }
        return times.min()
    }
}
