package import ApusWire

/// Remembers the ids of records that a store deleted to keep its limits, so that a look-up can say why the record is gone.
///
/// Keeps one hash for each id, of the last 32 to 64 thousand ids: about half a megabyte, however long the controller runs. Two
/// ids may share a hash, once in some 10^14 look-ups; the look-up then gives the wrong reason.
package struct CulledTasks: Sendable {
    private var recent: Set<Int> = []
    private var older: Set<Int> = []
    private static let generation = 32768

    package init() {}

    package mutating func insert(_ id: TaskID) {
        if self.recent.count >= Self.generation {
            // The next generation reuses the older set's memory.
            swap(&self.recent, &self.older)
            self.recent.removeAll(keepingCapacity: true)
        }
        self.recent.insert(id.hashValue)
    }

    package func contains(_ id: TaskID) -> Bool {
        let hash = id.hashValue
        return self.recent.contains(hash) || self.older.contains(hash)
    }
}
