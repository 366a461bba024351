internal import ApusWire
internal import HeapModule

/// A state that a core, or the service that holds it, must never be in.
package struct BrokenInvariant: Error, CustomStringConvertible {
    package let description: String

    package init(description: String) { self.description = description }
}

extension TaskScheduler {
    /// Throws if the scheduler's state contradicts itself; slow, for tests.
    package func checkInvariants(at now: MonotonicTime) throws(BrokenInvariant) {
        func demand(_ holds: Bool, _ what: @autoclosure () -> String) throws(BrokenInvariant) {
            if !holds { throw BrokenInvariant(description: what()) }
        }
        let live = self.tasks.indices.filter { self.tasks[$0].status != .free }

        // The table holds every live task under its id, and no other entry.
        try demand(live.count == self.slots.count, "\(live.count) live tasks, \(self.slots.count) in the table")
        for slot in live {
            try demand(self.slot(of: self.tasks[slot].id) == Int32(slot), "task \(self.tasks[slot].id) is misplaced")
        }
        let assigned = live.filter { self.tasks[$0].status == .assigned }
        for slot in live where self.tasks[slot].isWaiting || self.tasks[slot].hasWaited {
            try demand(self.tasks[slot].status == .assigned, "task \(self.tasks[slot].id) waits at no engine")
        }
        try demand(
            assigned.count == self.assignedCount, "\(self.assignedCount) tasks are said to be assigned, \(assigned.count) are")
        try demand(live.count - assigned.count == self.waitingCount, "\(self.waitingCount) tasks are said to wait")
        let detailed = Set(live.map { self.tasks[$0].details }.filter { $0 >= 0 })
        try demand(detailed.count + self.freeDetails.count == self.details.count, "details have leaked")

        // Engines hold exactly the tasks assigned to them, within their limit.
        for (engine, state) in self.engines.enumerated() where state.serial > 0 {
            var held: [Int] = []
            var slot = state.first
            while slot >= 0 {
                held.append(Int(slot))
                try demand(self.holder(of: slot) == Int32(engine), "\(state.uuid) lists a task it does not have")
                slot = self.tasks[Int(slot)].next
            }
            let counted = held.count { !self.tasks[$0].isWaiting }
            try demand(counted == Int(state.load), "\(state.uuid) has \(counted) tasks and a load of \(state.load)")
            try demand(assigned.count { self.tasks[$0].place == engine } == held.count, "\(state.uuid) lacks a task of its own")
            // While a task waited the engine may have been given another, so a task that has waited can exceed the limit.
            // Restored tasks were given under an earlier limit.
            let given = held.count { !self.tasks[$0].hasWaited && !self.tasks[$0].isRestored }
            if let fixedLimit { try demand(given <= fixedLimit, "\(state.uuid) has more than it may") }
            try demand((self.registered[state.serial] == Int32(engine)) != state.isRetired, "\(state.uuid) is both in and out")
            try demand(self.idle.contains(Int32(engine)) == (!state.isRetired && state.load == 0), "\(state.uuid) is not idle")
            let mayBePartly = !state.isRetired && state.load > 0
            try demand(mayBePartly || !self.partly.contains(Int32(engine)), "\(state.uuid) is not partly busy")
            if mayBePartly, self.hasRoom(Int32(engine), at: now) {
                try demand(self.partly.contains(Int32(engine)), "\(state.uuid) has room that cannot be found")
            }
        }
        let deep = self.engines.count { $0.serial > 0 && !$0.isRetired && $0.understandsRecall && !$0.isRecalling && $0.load > 1 }
        if self.fixedLimit == nil { try demand(deep == self.deepEngines, "\(deep) deep engines, \(self.deepEngines) counted") }

        // Each ready task waits in the right group, and no group waits for an engine that has room.
        for group in self.groups.indices {
            let waiting = live.filter { self.tasks[$0].status == .ready && self.tasks[$0].place == group }
            let queued = Set(self.groups[group].queue.entries.map(\.slot))
            try demand(waiting.count == self.groups[group].live, "group \(group) miscounts")
            for slot in waiting {
                try demand(queued.contains(Int32(slot)), "task \(self.tasks[slot].id) is ready and in no queue")
                try demand(self.details(of: slot)?.inputs.isEmpty != false, "task \(self.tasks[slot].id) lacks an argument")
                try demand(self.details(of: slot)?.after == nil, "task \(self.tasks[slot].id) is ready before its time")
                try demand(self.details(of: slot)?.sought.isEmpty != false, "task \(self.tasks[slot].id) is not judged yet")
            }
            guard !waiting.isEmpty else { continue }
            for (engine, state) in self.engines.enumerated() where self.hasRoom(Int32(engine), at: now) {
                try demand(
                    !self.allows(self.groups[group].rule, state.serial),
                    "task \(self.tasks[waiting[0]].id) waits while \(state.uuid) has room")
            }
        }

        // Each engine that has yet to report has a slot, and tasks wait for reports only while there is such an engine.
        for uuid in self.unreported { try demand(self.engineSlots[uuid] != nil, "\(uuid) is to report and has no place") }
        let suspended = Set(self.suspended.filter(self.isCurrent).map(\.slot))
        for slot in live where self.details(of: slot)?.awaitsReports == true {
            try demand(!self.unreported.isEmpty, "task \(self.tasks[slot].id) waits for reports that all have come")
            try demand(suspended.contains(Int32(slot)), "task \(self.tasks[slot].id) would not be awakened by the last report")
        }

        // Each blocked task has something to wait for that will end.
        for slot in live where self.tasks[slot].status == .blocked {
            if let end = self.details(of: slot)?.pausedUntil {
                try demand(self.timer <= end, "the pause of task \(self.tasks[slot].id) ends before the timer")
                continue
            }
            guard let details = self.details(of: slot) else {
                throw BrokenInvariant(description: "task \(self.tasks[slot].id) waits for nothing")
            }
            if details.awaitsReports { continue }
            for other in details.sought {
                let seekers = self.soughtOutcomes[other] ?? []
                try demand(
                    seekers.contains(self.handle(Int32(slot))), "nobody tells task \(self.tasks[slot].id) how \(other) ended")
            }
            if !details.sought.isEmpty { continue }
            for input in details.inputs.unfinished {
                try demand(self.slot(of: input) != nil, "task \(self.tasks[slot].id) waits for the result of what is gone")
            }
            if details.after == nil, !details.inputs.isEmpty { continue }
            guard let state = details.after ?? details.follow else {
                throw BrokenInvariant(description: "task \(self.tasks[slot].id) waits for nothing")
            }
            try demand(state.unfinished > 0, "task \(self.tasks[slot].id) waits for what has ended")
            let living = state.condition.tasks.count { self.slot(of: $0) != nil }
            try demand(living == state.unfinished, "task \(self.tasks[slot].id) waits for what is gone")
        }

        // While no engine is registered, no task waits if none is coming, nor beyond its engine time-out.
        if self.registered.isEmpty {
            try demand(self.noEngineReason == nil || self.waitingCount == 0, "tasks wait for engines that are not coming")
            let clocks = Set(self.absences.unordered.map { $0.task.slot })
            for slot in live where self.tasks[slot].status != .assigned && self.engineTimeout(of: Int32(slot)) != nil {
                try demand(clocks.contains(Int32(slot)), "task \(self.tasks[slot].id) has an engine time-out and no clock")
            }
            try demand(self.timer <= self.absences.min?.end ?? .distantFuture, "an engine time-out is due before the timer")
        } else {
            try demand(self.absences.isEmpty, "engine time-outs run while there are engines")
        }
        try demand(self.timer <= self.nextReoffer(at: now), "refusals are to be forgotten before the timer")

        // Every task with a refusal is listed, so that a touched engine finds it.
        let refused = Set(self.refused.filter(self.isCurrent).map(\.slot))
        for slot in live where self.details(of: slot)?.attempts.contains(where: { $0.ending.isRefusal }) == true {
            try demand(refused.contains(Int32(slot)), "the refusal of task \(self.tasks[slot].id) would not be forgotten")
        }

        // The timer fires no later than the first time-out.
        let deadline = self.timeouts.unordered.map(\.deadline).min() ?? .distantFuture
        try demand(self.timer <= deadline, "a time-out is due before the timer")
        try demand(
            self.doomed.isEmpty && self.awakened.isEmpty && self.roomy.isEmpty && !self.absenceBegins,
            "an event was not brought to its end")
    }

    private func details(of slot: Int) -> TaskDetails? {
        let index = self.tasks[slot].details
        return index >= 0 ? self.details[Int(index)] : nil
    }
}
