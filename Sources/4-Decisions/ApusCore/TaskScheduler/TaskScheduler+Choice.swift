// The choice of an engine among those with room, by the scheme.
//
// Under a limit that adapts, an engine gets a second task only when none is idle, whatever the scheme.
extension TaskScheduler {
    /// The engine for a task under this rule; nil if none has room.
    mutating func choose(_ rule: PlacementRule, at now: MonotonicTime) -> Int32? {
        self.candidates.removeAll(keepingCapacity: true)
        switch rule {
        case .any: return self.chooseAny(at: now)
        case .excluding(let serials, _):
            if serials.isEmpty { return self.chooseAny(at: now) }
            for entry in self.idle.entries where !serials.contains(self.engines[Int(entry.engine)].serial) {
                self.candidates.append(entry.engine)
            }
            for entry in self.partly.entries
            where !serials.contains(self.engines[Int(entry.engine)].serial) && self.hasRoom(entry.engine, at: now) {
                self.candidates.append(entry.engine)
            }
        case .only(let serials):
            for serial in serials {
                if let engine = self.registered[serial], self.hasRoom(engine, at: now) { self.candidates.append(engine) }
            }
        }
        if self.fixedLimit == nil, self.candidates.contains(where: { self.engines[Int($0)].load == 0 }) {
            let idle = self.candidates.filter { self.engines[Int($0)].load == 0 }
            self.candidates = idle
        }
        return self.candidates.isEmpty ? nil : self.chooseCandidate()
    }

    /// The engine for a task that any engine may run; nil if none has room.
    mutating func chooseAny(at now: MonotonicTime) -> Int32? {
        if self.fixedLimit == nil, self.idle.isEmpty { self.dropLongRunning(at: now) }
        switch self.scheme {
        case .leastload:
            return (self.idle.first ?? self.partly.first)?.engine
        case .lru:
            guard let idle = self.idle.first else { return self.partly.first?.engine }
            guard self.fixedLimit != nil, let partly = self.partly.first else { return idle.engine }
            return (partly.key.lastUsed < idle.key.lastUsed ? partly : idle).engine
        case .plainrandom, .twobin, .weighted:
            self.candidates.removeAll(keepingCapacity: true)
            for entry in self.idle.entries { self.candidates.append(entry.engine) }
            if self.fixedLimit != nil || self.idle.isEmpty {
                for entry in self.partly.entries { self.candidates.append(entry.engine) }
            }
            return self.candidates.isEmpty ? nil : self.chooseCandidate()
        }
    }

    /// Removes engines whose first task has run for long from `partly`; their next reply puts them back.
    private mutating func dropLongRunning(at now: MonotonicTime) {
        if self.scheme == .leastload || self.scheme == .lru {
            while let best = self.partly.first, self.engines[Int(best.engine)].depth.looksLong(at: now) {
                self.partly.remove(best.engine)
            }
        } else {
            for entry in self.partly.entries where self.engines[Int(entry.engine)].depth.looksLong(at: now) {
                self.partly.remove(entry.engine)
            }
        }
    }

    /// Applies the scheme to the candidates, of which there is at least one.
    private mutating func chooseCandidate() -> Int32 {
        let count = self.candidates.count
        switch self.scheme {
        case .leastload:
            return self.least { EngineHeap.Key(load: $0.load, lastUsed: $0.lastUsed) }
        case .lru:
            return self.least { EngineHeap.Key(load: 0, lastUsed: $0.lastUsed) }
        case .plainrandom:
            return self.candidates[Int.random(in: 0..<count, using: &self.random)]
        case .twobin:
            let first = self.candidates[Int.random(in: 0..<count, using: &self.random)]
            let second = self.candidates[Int.random(in: 0..<count, using: &self.random)]
            return self.engines[Int(second)].lastUsed < self.engines[Int(first)].lastUsed ? second : first
        case .weighted:
            let first = self.drawByLoad()
            let second = self.drawByLoad()
            return self.engines[Int(second)].load < self.engines[Int(first)].load ? second : first
        }
    }

    private func least(_ key: (EngineState) -> EngineHeap.Key) -> Int32 {
        var best = self.candidates[0]
        for other in self.candidates.dropFirst() where key(self.engines[Int(other)]) < key(self.engines[Int(best)]) {
            best = other
        }
        return best
    }

    /// A candidate at random. An idle engine is a million times as likely as one with a task, which is twice as likely as one
    /// with two.
    private mutating func drawByLoad() -> Int32 {
        func weight(_ engine: Int32) -> Double { 1 / (Double(self.engines[Int(engine)].load) + 1e-6) }
        let total = self.candidates.reduce(0) { $0 + weight($1) }
        var left = Double.random(in: 0..<total, using: &self.random)
        for engine in self.candidates {
            left -= weight(engine)
            if left < 0 { return engine }
        }
        return self.candidates[self.candidates.count - 1]
    }
}
