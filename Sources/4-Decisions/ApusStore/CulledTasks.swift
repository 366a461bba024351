package import ApusWire

/// Remembers which records had to go, so that who asks for one is told why it is not there.
///
/// Keeps a hash an id, and of those the last 32 to 64 thousand: half a megabyte or so, however long the controller runs. Two
/// ids may share a hash, once in some 10^14 questions; then somebody is given the wrong reason.
package struct CulledTasks: Sendable {
    private var recent: Set<Int> = []
    private var older: Set<Int> = []
    private static let generation = 32768

    package init() {}

    package mutating func insert(_ id: TaskID) {
        if self.recent.count >= Self.generation {
            // The older set's memory serves the next generation.
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
