/// The outcomes of the tasks that ended last, for tasks that depend on them: up to a limit, 32 bytes each.
///
/// Tasks are known by a 64-bit fingerprint of their id. Once the limit is reached, each new task takes the place of the
/// oldest, which is then as unknown as a task that was never submitted.
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
    /// Finds places in the ring.
    private var table = FingerprintTable()

    init(limit: Int) { self.limit = min(limit, Int(Int32.max) / 4) }

    var count: Int { self.ring.count }

    func outcome(of fingerprint: UInt64) -> Outcome? {
        let index = self.table.first(fingerprint) { self.ring[Int($0)].fingerprint == fingerprint }
        return index.map { self.ring[Int($0)].outcome }
    }

    mutating func remember(_ fingerprint: UInt64, _ outcome: Outcome) {
        guard self.limit > 0 else { return }
        let entry = Entry(fingerprint: fingerprint, outcome: outcome)
        if self.ring.count < self.limit {
            self.ring.append(entry)
            self.table.insert(fingerprint, Int32(self.ring.count - 1))
        } else {
            self.table.remove(self.ring[self.oldest].fingerprint, Int32(self.oldest))
            self.ring[self.oldest] = entry
            self.table.insert(fingerprint, Int32(self.oldest))
            self.oldest = (self.oldest + 1) % self.limit
        }
    }
}
