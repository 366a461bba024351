internal import ApusWire

// The registered engines, and the tasks that fail when an engine leaves.
extension ClientSession {
    /// How long an engine's last replies may take to come after the news of its end: replies come by another connection.
    static let replyDelay = Duration.milliseconds(100)

    /// How long after the last engine has gone a warning is given that there is none: the tasks may end with the engine, and
    /// another engine may take its place.
    static let warningDelay = Duration.seconds(1)

    /// Opens a question to the hub for all engines; `enginesAnswered` closes it. Notifications that come in between may be newer
    /// than the answer, so they are applied again after it.
    package mutating func askForEngines() -> EngineDirectory.Question { self.directory.ask() }

    mutating func take(
        _ answer: JSONValue?, to question: EngineDirectory.Question, at now: MonotonicTime, _ effects: inout [Effect]
    ) {
        defer { self.directory.close(question) }
        guard let answer else { return }
        let features = (answer["apus"]?["features"]?.array ?? []).compactMap {
            $0.string.flatMap { ControllerFeature(rawValue: $0) }
        }
        self.features = Set(features)
        self.noEngineIsComing = answer["apus"]?["no_engine_is_coming"]?.string
        if self.directory.take(answer, to: question) { self.announceEngines(at: now, &effects) }
    }

    mutating func take(_ news: EngineDirectory.News, at now: MonotonicTime, _ effects: inout [Effect]) {
        self.directory.take(news)
        self.announceEngines(at: now, &effects)
        if case .removed(let id, let uuid) = news {
            let end = now + Self.replyDelay
            self.departures.append(Departure(end: end, id: id, uuid: uuid, lastSequence: self.lastSequence))
            self.wake(at: end, &effects)
        }
    }

    /// Fails the tasks of engines that have left, once their last replies would have come.
    mutating func failDeparted(at now: MonotonicTime, _ effects: inout [Effect]) {
        while let departure = self.departures.first, departure.end <= now {
            self.departures.removeFirst()
            let lost = self.tasks { $0.sequence <= departure.lastSequence && $0.request.targets.contains(departure.uuid) }
            for task in lost { self.fail(task, .engineDied(departure.id), &effects) }
        }
    }

    // MARK: No engines

    private mutating func announceEngines(at now: MonotonicTime, _ effects: inout [Effect]) {
        effects.append(.announceChange)
        guard self.directory.engines.isEmpty else {
            self.hasWarnedOfNoEngines = false
            self.warningTime = nil
            return
        }
        guard !self.pending.isEmpty, !self.hasWarnedOfNoEngines, self.warningTime == nil else { return }
        let time = now + Self.warningDelay
        self.warningTime = time
        self.wake(at: time, &effects)
    }

    /// Warns that tasks wait while no engine is registered; once, until engines have been there again.
    mutating func warnOfNoEngines(_ effects: inout [Effect]) {
        guard self.directory.engines.isEmpty, !self.hasWarnedOfNoEngines, self.ending == nil, self.lost[.query] == nil else {
            return
        }
        let waiting = self.pending.tasks.count { $0.request.channel == .task && $0.stage != .told }
        guard waiting > 0 else { return }
        self.hasWarnedOfNoEngines = true
        effects.append(.warnOfNoEngines(waiting: waiting))
    }
}
