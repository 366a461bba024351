internal import DequeModule
internal import HeapModule

/// Tasks that may run as soon as an engine has room: higher priority first, then first submitted, first out.
///
/// An entry may outlive its reason (the task timed out, say); the scheduler recognises such entries and skips them.
struct ReadyQueue: Sendable {
    struct Entry: Comparable, Sendable {
        let priority: Int32
        let slot: Int32
        let sequence: UInt64

        static func < (left: Entry, right: Entry) -> Bool {
            left.priority != right.priority ? left.priority > right.priority : left.sequence < right.sequence
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
