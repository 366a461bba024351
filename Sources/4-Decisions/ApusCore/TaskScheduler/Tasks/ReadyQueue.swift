internal import DequeModule
internal import HeapModule

/// Tasks that may run as soon as an engine has room: the highest priority first, then the greatest depth, then the first
/// submitted.
///
/// An entry may stay after its task has left the queue, for example by a time-out; the scheduler recognises and skips such
/// entries.
struct ReadyQueue: Sendable {
    struct Entry: Comparable, Sendable {
        private let priority: Int32
        let slot: Int32
        /// The complement of the depth in the upper 16 bits, below them the sequence: an entry that comes first has the lower
        /// number.
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

    /// Entries that arrived in order, as nearly all do.
    private var ordered = Deque<Entry>()
    /// Entries that arrived out of order: given back by an engine, released by a dependency, or of a higher priority or depth.
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
