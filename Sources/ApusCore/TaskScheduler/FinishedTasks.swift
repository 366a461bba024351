/// How the last tasks ended, remembered for those that will depend on them: 24 bytes each, and a fixed number of them.
///
/// Tasks are known by a 64-bit fingerprint of their id. Once the limit is reached, each new one takes the place of the
/// oldest, which is then as unknown as if it had never been.
struct FinishedTasks: Sendable {
    struct Outcome: Sendable, Equatable {
        var succeeded: Bool
        /// The serial number of the engine that gave the answer; -1 if none did.
        var engine: Int32
    }

    private struct Entry: Sendable {
        var fingerprint: UInt64
        var outcome: Outcome
    }

    private let limit: Int
    /// In the order the tasks ended, starting at `oldest` once the limit is reached.
    private var ring: [Entry] = []
    private var oldest = 0
    /// An open-addressing table of indices into the ring, plus one; zero is empty. At most half full.
    private var table = [UInt32](repeating: 0, count: 64)

    init(limit: Int) { self.limit = min(limit, Int(UInt32.max) / 4) }

    var count: Int { self.ring.count }

    func outcome(of fingerprint: UInt64) -> Outcome? {
        var position = self.home(fingerprint)
        while self.table[position] != 0 {
            let entry = self.ring[Int(self.table[position] - 1)]
            if entry.fingerprint == fingerprint { return entry.outcome }
            position = (position + 1) & (self.table.count - 1)
        }
        return nil
    }

    mutating func remember(_ fingerprint: UInt64, _ outcome: Outcome) {
        guard self.limit > 0 else { return }
        let entry = Entry(fingerprint: fingerprint, outcome: outcome)
        if self.ring.count < self.limit {
            self.ring.append(entry)
            if self.ring.count * 2 > self.table.count {
                self.grow()
            } else {
                self.enter(self.ring.count - 1)
            }
        } else {
            self.withdraw(self.oldest)
            self.ring[self.oldest] = entry
            self.enter(self.oldest)
            self.oldest = (self.oldest + 1) % self.limit
        }
    }

    private func home(_ fingerprint: UInt64) -> Int { Int(truncatingIfNeeded: fingerprint) & (self.table.count - 1) }

    private mutating func enter(_ index: Int) {
        var position = self.home(self.ring[index].fingerprint)
        while self.table[position] != 0 { position = (position + 1) & (self.table.count - 1) }
        self.table[position] = UInt32(index + 1)
    }

    /// Takes an entry out of the table and closes the gap, so that no search stops short.
    private mutating func withdraw(_ index: Int) {
        let mask = self.table.count - 1
        var gap = self.home(self.ring[index].fingerprint)
        while self.table[gap] != UInt32(index + 1) { gap = (gap + 1) & mask }
        var position = gap
        while true {
            position = (position + 1) & mask
            let candidate = self.table[position]
            if candidate == 0 { break }
            let home = self.home(self.ring[Int(candidate - 1)].fingerprint)
            if (position &- home) & mask >= (position &- gap) & mask {
                self.table[gap] = candidate
                gap = position
            }
        }
        self.table[gap] = 0
    }

    private mutating func grow() {
        self.table = [UInt32](repeating: 0, count: self.table.count * 2)
        for index in self.ring.indices { self.enter(index) }
    }
}
