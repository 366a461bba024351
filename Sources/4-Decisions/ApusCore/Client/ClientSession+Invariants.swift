internal import ApusWire

extension ClientSession {
    /// Looks for contradictions in all that is kept here; slow, for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        func demand(_ holds: Bool, _ what: @autoclosure () -> String) throws(BrokenInvariant) {
            if !holds { throw BrokenInvariant(description: what()) }
        }
        try self.pending.checkInvariants()
        // Tasks are numbered in order of submission, and every one that is replied to will be forgotten in time.
        let sequences = Set(self.pending.tasks.map { $0.sequence })
        try demand(sequences.count == self.pending.count, "two tasks have one number")
        try demand(sequences.allSatisfy { $0 <= self.lastSequence }, "a task has a number that was not given")
        let late = Set(self.lateOutput.map { $0.task })
        for task in self.pending.tasks {
            let id = task.id
            try demand(task.request.channel.takesRequests, "task \(id) was sent where nothing is taken")
            switch task.stage {
            case .waiting:
                try demand(task.outputsExpected == nil && !late.contains(id), "task \(id) waits for output, not for a reply")
            case .replied, .told:
                try demand(!task.hasAllOutput, "task \(id) is complete")
                try demand(late.contains(id), "task \(id) waits for output for ever")
            }
        }
        try demand(self.lateOutput.map { $0.end } == self.lateOutput.map { $0.end }.sorted(), "late output ends out of order")
        try demand(self.departures.map { $0.end } == self.departures.map { $0.end }.sorted(), "departures end out of order")

        // A warning of missing engines is due or given only while no engine is registered.
        let hasEngines = !self.directory.engines.isEmpty
        try demand(!hasEngines || !self.hasWarnedOfNoEngines && self.warningTime == nil, "engines that are here are missed")

        // Patience runs exactly while the hub is out of reach.
        try demand(
            (self.patienceEnd != nil) == (self.ending == nil && self.lost[.query] != nil), "patience does not fit the connection")
        try demand(self.lost.keys.allSatisfy { $0.takesRequests }, "a channel is lost that only publishes")

        for (number, recovery) in self.recoveries {
            try demand(number <= self.lastRecovery, "recovery \(number) has a number that was not given")
            if case .asking(let question) = recovery.state {
                switch question {
                case .results(let tasks), .engines(let tasks):
                    try demand(!tasks.isEmpty, "recovery \(number) asks for nothing")
                    try demand(Set(tasks).isSubset(of: recovery.tasks), "recovery \(number) asks for tasks of others")
                    try demand(tasks.count <= Recovery.askedAtOnce, "recovery \(number) asks for too many tasks")
                }
            }
        }
        try demand(self.ending == nil || self.recoveries.isEmpty, "tasks are looked for after the end")

        // The timer fires no later than the first thing that is to be done.
        if let next = self.nextTime, next != .distantFuture {
            try demand(self.timer.map { $0 <= next } ?? false, "nobody wakes at \(next)")
        }
    }
}
