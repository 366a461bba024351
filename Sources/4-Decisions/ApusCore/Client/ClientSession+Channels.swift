internal import ApusWire

// Requests whose answers may be lost when a channel loses the controller.
//
// The controller does not know a socket that connects again, so it cannot send the answers that it owed to the old one; and the
// controller may be another, started after the old one ended. So every request without an answer is looked up at the hub, or
// fails.
extension ClientSession {
    mutating func noteConnected(_ channel: Channel, at now: MonotonicTime, _ effects: inout [Effect]) {
        let isBack = !self.connected.insert(channel).inserted
        effects.append(.announceChange)
        // Notifications that were published in between are lost.
        if isBack, channel == .notification { effects.append(.refreshEngines) }
        guard let loss = self.lost.removeValue(forKey: channel) else { return }
        if channel == .query { self.patienceEnd = nil }
        let unanswered = self.tasks {
            $0.request.channel == channel && $0.stage != .told && $0.sequence <= loss.lastSequence
        }
        if unanswered.isEmpty { return }
        if channel.takesTasks {
            self.recover(unanswered, earlierHub: loss.hub, at: now, &effects)
        } else {
            for task in unanswered { self.fail(task, .unanswered, &effects) }
        }
    }

    mutating func noteLoss(of channel: Channel, at now: MonotonicTime, _ effects: inout [Effect]) {
        // A socket that fails to connect again has lost nothing more.
        guard channel.takesRequests, self.ending == nil, self.lost[channel] == nil else { return }
        self.lost[channel] = LostChannel(lastSequence: self.lastSequence, hub: self.hub)
        if channel == .query { self.startPatience(at: now, &effects) }
    }

    private mutating func startPatience(at now: MonotonicTime, _ effects: inout [Effect]) {
        let end = now + self.patience
        self.patienceEnd = end
        self.wake(at: end, &effects)
    }

    /// Fails all pending tasks because the controller stays away, and starts patience anew for tasks that are submitted later.
    mutating func endPatience(at now: MonotonicTime, _ effects: inout [Effect]) {
        self.failEverything(.controllerOutOfReach, &effects)
        self.startPatience(at: now, &effects)
    }
}
