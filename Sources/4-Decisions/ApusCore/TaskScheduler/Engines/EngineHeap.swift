/// Engines ordered by load, then by how long ago they were last given a task, so that the best is found without a search.
///
/// Engines are named by their slot in the scheduler.
struct EngineHeap: Sendable {
    struct Key: Comparable, Sendable {
        var load: Int32
        /// Grows with each use; negative for engines never used, the newest lowest.
        var lastUsed: Int64

        static func < (left: Key, right: Key) -> Bool {
            left.load != right.load ? left.load < right.load : left.lastUsed < right.lastUsed
        }
    }

    struct Entry: Sendable {
        var key: Key
        var engine: Int32
    }

    /// A binary heap, the least key first.
    private(set) var entries: [Entry] = []
    /// By engine: its index in the heap, or -1.
    private var positions: [Int32] = []

    var first: Entry? { self.entries.first }
    var count: Int { self.entries.count }
    var isEmpty: Bool { self.entries.isEmpty }

    func contains(_ engine: Int32) -> Bool {
        Int(engine) < self.positions.count && self.positions[Int(engine)] >= 0
    }

    /// Adds an engine, or gives it a new key.
    mutating func update(_ engine: Int32, _ key: Key) {
        while self.positions.count <= Int(engine) { self.positions.append(-1) }
        let position = self.positions[Int(engine)]
        if position >= 0 {
            self.entries[Int(position)].key = key
            self.siftDown(self.siftUp(Int(position)))
        } else {
            self.entries.append(Entry(key: key, engine: engine))
            self.positions[Int(engine)] = Int32(self.entries.count - 1)
            _ = self.siftUp(self.entries.count - 1)
        }
    }

    /// Removes an engine if it is there.
    mutating func remove(_ engine: Int32) {
        guard self.contains(engine) else { return }
        let position = Int(self.positions[Int(engine)])
        self.positions[Int(engine)] = -1
        let last = self.entries.removeLast()
        if position < self.entries.count {
            self.entries[position] = last
            self.positions[Int(last.engine)] = Int32(position)
            self.siftDown(self.siftUp(position))
        }
    }

    private mutating func siftUp(_ start: Int) -> Int {
        var position = start
        let moving = self.entries[position]
        while position > 0 {
            let parent = (position - 1) / 2
            guard moving.key < self.entries[parent].key else { break }
            self.put(self.entries[parent], at: position)
            position = parent
        }
        self.put(moving, at: position)
        return position
    }

    private mutating func siftDown(_ start: Int) {
        var position = start
        let moving = self.entries[position]
        while true {
            var child = 2 * position + 1
            guard child < self.entries.count else { break }
            if child + 1 < self.entries.count, self.entries[child + 1].key < self.entries[child].key { child += 1 }
            guard self.entries[child].key < moving.key else { break }
            self.put(self.entries[child], at: position)
            position = child
        }
        self.put(moving, at: position)
    }

    private mutating func put(_ entry: Entry, at position: Int) {
        self.entries[position] = entry
        self.positions[Int(entry.engine)] = Int32(position)
    }
}
