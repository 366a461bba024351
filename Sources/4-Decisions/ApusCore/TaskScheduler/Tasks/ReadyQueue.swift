internal import DequeModule
internal import HeapModule

/// Tasks that may run as soon as an engine has room: higher priority first, then those of tasks that run, then first submitted,
/// first out.
///
/// An entry may outlive its reason (the task timed out, say); the scheduler recognises such entries and skips them.
struct ReadyQueue: Sendable {
    struct Entry: Comparable, Sendable {
        private let priority: Int32
        let slot: Int32
        /// The depth's complement in the upper 16 bits, below them the sequence: what comes first is less.
        private let order: UInt64
        private static let sequenceBits: UInt64 = 48

        var sequence: UInt64 { self.order & ((1 << Self.sequenceBits) - 1) }

        init(priority: Int32, depth: UInt16, slot: Int32, sequence: UInt64) {
            self.priority = priority
            self.slot = slot
            self.order = UInt64(UInt16.max - depth) << Self.sequenceBits | sequence
        }

        static func < (left: Entry, right: Entry) -> Bool {
            left.priority != right.priority ? left.priority > right.priority : left.order < right.order
        }
    }

    /// Entries that arrived in order, which is nearly all of them.
    private var ordered = Deque<Entry>()
    /// The others: given back by an engine, released by a dependency, or of a higher priority than those before.
    private var disordered = Heap<Entry>()

    init() {}

    init(_ entries: [Entry]) { self.ordered = Deque(entries.sorted()) }

    var count: Int { self.ordered.count + self.disordered.count }

    var first: Entry? {
        guard let early = self.disordered.min else { return self.ordered.first }
        guard let usual = self.ordered.first else { return early }
        return min(early, usual)
    }

    mutating func insert(_ entry: Entry) {
        if let last = self.ordered.last, entry < last {
            self.disordered.insert(entry)
        } else {
            self.ordered.append(entry)
        }
    }

    mutating func removeFirst() {
        guard let early = self.disordered.min else {
            self.ordered.removeFirst()
            return
        }
        if let usual = self.ordered.first, usual < early {
            self.ordered.removeFirst()
        } else {
            self.disordered.removeMin()
        }
    }

    /// All entries, in no particular order.
    var entries: [Entry] { Array(self.ordered) + self.disordered.unordered }
}
