internal import ApusWire

/// The pending tasks of a client, each in a slot of its own, and a table that finds the slot by the task's id.
///
/// A slot is a small number. It belongs to one task until the task is removed, and is then given to another.
struct PendingTasks: Sendable {
    typealias Slot = ClientSession.Slot

    private struct Entry {
        /// The hash of the task's id, kept so that the id need not be hashed again when the task is removed.
        let fingerprint: UInt64
        var task: ClientSession.Pending
        var isTaken = true
    }

    /// Tasks by slot. A free slot keeps its last task, which costs less than to clear it.
    private var entries: [Entry] = []
    /// The free slots, the one freed last at the end, for its memory is likely to be in the processor's cache.
    private var freeSlots: [Slot] = []
    private var slots = FingerprintTable()

    var count: Int { self.slots.count }
    var isEmpty: Bool { self.slots.count == 0 }
    /// The tasks, in no particular order.
    var tasks: some Sequence<ClientSession.Pending> { self.entries.lazy.filter { $0.isTaken }.map { $0.task } }

    /// A hash of the id's bytes, eight at a time.
    ///
    /// Swift's own hash resists ids that a stranger chooses so that they collide. Here it would cost more than all other work of
    /// the session for a submission, and the client itself chooses the ids in this table.
    private static func fingerprint(of id: TaskID) -> UInt64 {
        var text = id.text
        return text.withUTF8 { text in
            let bytes = UnsafeRawBufferPointer(text)
            if bytes.count < 8 { return Self.mix(bytes.reduce(0) { Self.mix($0, UInt64($1)) }, 0) }
            var hash: UInt64 = 0
            var start = 0
            while start < bytes.count {
                // The last eight bytes may overlap those before.
                start = min(start, bytes.count - 8)
                hash = Self.mix(hash, bytes.loadUnaligned(fromByteOffset: start, as: UInt64.self))
                start += 8
            }
            return Self.mix(hash, 0)
        }
    }

    private static func mix(_ hash: UInt64, _ word: UInt64) -> UInt64 {
        let product = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15
        return product ^ product >> 32
    }

    func slot(of id: TaskID) -> Slot? { self.slot(of: id, Self.fingerprint(of: id)) }

    private func slot(of id: TaskID, _ fingerprint: UInt64) -> Slot? {
        self.slots.first(fingerprint) { self.entries[Int($0)].task.id == id }.map { Slot($0) }
    }

    /// The task in a slot, which must not be free.
    subscript(slot: Slot) -> ClientSession.Pending {
        get { self.entries[slot].task }
        _modify { yield &self.entries[slot].task }
    }

    /// Gives the task a slot. A task whose id is pending already replaces that one in its slot.
    mutating func insert(_ task: consuming ClientSession.Pending) -> Slot {
        let fingerprint = Self.fingerprint(of: task.id)
        if let slot = self.slot(of: task.id, fingerprint) {
            self.entries[slot].task = task
            return slot
        }
        let entry = Entry(fingerprint: fingerprint, task: task)
        let slot: Slot
        if let free = self.freeSlots.popLast() {
            slot = free
            self.entries[slot] = entry
        } else {
            slot = self.entries.count
            self.entries.append(entry)
        }
        self.slots.insert(fingerprint, Int32(slot))
        return slot
    }

    /// Frees a slot, which must be taken.
    mutating func remove(at slot: Slot) {
        self.slots.remove(self.entries[slot].fingerprint, Int32(slot))
        self.entries[slot].isTaken = false
        self.freeSlots.append(slot)
    }

    /// Removes the task of this id and gives the slot that was its own; nil when there is no such task.
    mutating func remove(_ id: TaskID) -> Slot? {
        guard let slot = self.slot(of: id) else { return nil }
        self.remove(at: slot)
        return slot
    }

    /// Looks for contradictions between slots and table; slow, for tests.
    func checkInvariants() throws(BrokenInvariant) {
        func demand(_ holds: Bool, _ what: @autoclosure () -> String) throws(BrokenInvariant) {
            if !holds { throw BrokenInvariant(description: what()) }
        }
        let taken = self.entries.indices.filter { self.entries[$0].isTaken }
        try demand(taken.count == self.count, "\(taken.count) slots are taken, \(self.count) are in the table")
        for slot in taken { try demand(self.slot(of: self[slot].id) == slot, "task \(self[slot].id) is misplaced") }
        let free = Set(self.freeSlots)
        try demand(free.count == self.freeSlots.count, "a slot is free twice")
        try demand(free.isDisjoint(with: taken) && free.count + taken.count == self.entries.count, "a slot is lost")
    }
}
