package import ApusWire
import DequeModule

/// The task records of one controller, as a value.
///
/// Tasks that have not ended are always kept. Of the others the ones that ended last are kept, within a number of records and
/// of bytes; stubs count as ended. So the memory used is that of the live tasks and a constant. Beyond the limit of bytes, the
/// large buffers of requests are dropped first, because they only serve to run the task again; then whole records.
package struct MemoryTasks: Sendable {
    package struct Limits: Sendable {
        /// How many records of tasks that have ended are kept.
        package var records: Int
        /// How many bytes of these records' messages and outputs are kept.
        package var bytes: Int

        package static let defaultRecords = 1024
        package static let defaultBytes = 256 << 20

        /// By default as many records as ipyparallel keeps, and a quarter of its bytes, which a laptop can spare.
        package init(records: Int = Self.defaultRecords, bytes: Int = Self.defaultBytes) {
            self.records = records
            self.bytes = bytes
        }
    }

    /// A place for one record; reused when the record is removed.
    private struct Slot: Sendable {
        var record: TaskRecord?
        /// The number of this record's valid entry in `cullable`; 0 while it must be kept.
        var ticket: UInt64 = 0
        /// The record's bytes, counted in `cullableByteCount` while there is a ticket.
        var byteCount = 0
    }

    private let limits: Limits
    private var slots: [Slot] = []
    private var freeSlots: [Int] = []
    private var slotOfTask: [TaskID: Int] = [:]
    private var nextSerial: Int64 = 1

    /// Records that may be removed, the next one at the front. Entries whose ticket is no longer their slot's are skipped.
    private var cullable: Deque<(slot: Int, ticket: UInt64)> = []
    private var lastTicket: UInt64 = 0
    /// The removable records whose requests have large buffers, those that ended first at the front.
    private var large: Deque<(slot: Int, ticket: UInt64)> = []
    /// The smallest buffers of a request, in bytes, that are dropped before whole records are.
    package static let largeRequest = 64 * 1024
    /// How many entries of `cullable` are valid.
    private var cullableCount = 0
    private var cullableByteCount = 0
    private var finishedCount = 0

    private var culled = CulledTasks()

    package init(limits: Limits = Limits()) { self.limits = limits }

    // MARK: Changes

    package mutating func apply(_ change: TaskChange) {
        switch change {
        case .submitted(let id, let request, let client, let date, let queue, let engine):
            let slot = self.slot(of: id)
            guard self.slots[slot].record?.isStub == true else { return }
            self.unmarkCullable(slot)
            self.slots[slot].record?.submit(request: request, client: client, date: date, queue: queue, engine: engine)
        case .assigned(let id, let engine, let failures):
            guard let slot = self.slotOfTask[id] else { return }
            self.slots[slot].record?.assign(to: engine, failures: failures)
        case .completed(let id, let reply, let received):
            guard let slot = self.slotOfTask[id] else { return }
            self.complete(slot, reply: reply, received: received)
        case .output(let id, let output):
            if self.slotOfTask[id] == nil && self.culled.contains(id) { return }
            let slot = self.slot(of: id)
            self.slots[slot].record?.append(output)
            if self.slots[slot].record?.isStub == true && self.slots[slot].ticket == 0 { self.markCullable(slot) }
            self.recount(slot)
        case .resubmitted(let id, let newID):
            guard let slot = self.slotOfTask[id] else { return }
            self.slots[slot].record?.resubmit(as: newID)
        case .drop(let ids):
            for id in ids { if let slot = self.slotOfTask[id] { self.remove(slot) } }
        case .dropCompleted:
            self.removeAll { $0.isFinished }
        case .dropCompletedOf(let engine):
            self.removeAll { $0.isFinished && $0.engine == engine }
        }
        self.cull()
    }

    private mutating func complete(_ slot: Int, reply: Message, received: WireDate) {
        guard self.slots[slot].record?.isFinished == false, self.slots[slot].record?.isStub == false else { return }
        // A record that is kept for long must not keep in memory the bytes read together with it. Until now the scheduler kept
        // them anyway.
        if let request = self.slots[slot].record?.request { self.slots[slot].record?.request = request.forKeeping() }
        self.slots[slot].record?.complete(reply: reply.forKeeping(), received: received)
        self.finishedCount += 1
        self.markCullable(slot)
        self.recount(slot)
        if (self.slots[slot].record?.request?.bufferByteCount ?? 0) >= Self.largeRequest {
            self.large.append((slot, self.slots[slot].ticket))
        }
    }

    private mutating func slot(of id: TaskID) -> Int {
        // One search in the dictionary, which inserts the next free place if the id is new.
        let candidate = self.freeSlots.last ?? self.slots.count
        let slot = Self.value(of: &self.slotOfTask[id, default: candidate])
        guard slot == candidate else { return slot }
        let record = TaskRecord(id: id, serial: self.nextSerial)
        self.nextSerial += 1
        if self.freeSlots.popLast() == nil {
            self.slots.append(Slot(record: record))
        } else {
            self.slots[slot].record = record
        }
        return slot
    }

    /// Reading a default through `inout` leaves it in the dictionary.
    private static func value(of slot: inout Int) -> Int { slot }

    private mutating func remove(_ slot: Int) {
        guard let id = self.slots[slot].record?.id else { return }
        self.unmarkCullable(slot)
        if self.slots[slot].record?.isFinished == true { self.finishedCount -= 1 }
        self.slotOfTask[id] = nil
        self.slots[slot].record = nil
        self.freeSlots.append(slot)
    }

    private mutating func removeAll(where matches: (TaskRecord) -> Bool) {
        for slot in self.slots.indices { if let record = self.slots[slot].record, matches(record) { self.remove(slot) } }
    }

    // MARK: Culling

    private mutating func markCullable(_ slot: Int) {
        self.lastTicket += 1
        self.slots[slot].ticket = self.lastTicket
        self.slots[slot].byteCount = 0
        self.cullable.append((slot, self.lastTicket))
        self.cullableCount += 1
    }

    private mutating func unmarkCullable(_ slot: Int) {
        guard self.slots[slot].ticket != 0 else { return }
        self.cullableByteCount -= self.slots[slot].byteCount
        self.cullableCount -= 1
        self.slots[slot].ticket = 0
        self.slots[slot].byteCount = 0
    }

    private mutating func recount(_ slot: Int) {
        guard self.slots[slot].ticket != 0, let byteCount = self.slots[slot].record?.byteCount else { return }
        self.cullableByteCount += byteCount - self.slots[slot].byteCount
        self.slots[slot].byteCount = byteCount
    }

    private mutating func cull() {
        while self.cullableByteCount > self.limits.bytes, let entry = self.large.popFirst() {
            guard self.slots[entry.slot].ticket == entry.ticket else { continue }
            self.slots[entry.slot].record?.leaveOutRequestBuffers()
            self.recount(entry.slot)
        }
        while self.cullableCount > self.limits.records || self.cullableByteCount > self.limits.bytes,
            let entry = self.cullable.popFirst()
        {
            guard self.slots[entry.slot].ticket == entry.ticket, let id = self.slots[entry.slot].record?.id else { continue }
            self.culled.insert(id)
            self.remove(entry.slot)
        }
        // Purged records leave entries behind, which must not pile up when the limits are never reached.
        if self.cullable.count > 2 * self.cullableCount + 1024 {
            self.cullable = Deque(self.cullable.filter { self.slots[$0.slot].ticket == $0.ticket })
        }
        if self.large.count > 2 * self.cullableCount + 1024 {
            self.large = Deque(self.large.filter { self.slots[$0.slot].ticket == $0.ticket })
        }
    }

    // MARK: Look-ups

    package func state(of id: TaskID) -> TaskState {
        guard let record = self.record(id) else { return self.culled.contains(id) ? .culled : .unknown }
        return record.isFinished ? .finished : record.isStub ? .stub : .unfinished
    }

    package func record(_ id: TaskID) -> TaskRecord? { self.slotOfTask[id].flatMap { self.slots[$0].record } }

    /// Copies of the records that may match, which can be matched without holding this value.
    package func candidates(for query: TaskQuery) -> [TaskRecord] {
        if let ids = query.candidates { return Set(ids).compactMap { self.record($0) } }
        return self.slots.compactMap { $0.record }
    }

    /// The candidates that match, in the order in which the store first heard of them. The time is in proportion to the length of
    /// the query's patterns and the records' texts.
    package static func records(matching query: TaskQuery, among candidates: [TaskRecord]) -> [TaskRecord] {
        candidates.filter { query.matches($0) }.sorted { $0.serial < $1.serial }
    }

    package var unfinished: [TaskRecord] {
        self.slots.compactMap(\.record).filter { !$0.isFinished && !$0.isStub }.sorted { $0.serial < $1.serial }
    }

    package var history: [TaskID] {
        var tasks: [(date: WireDate, serial: Int64, id: TaskID)] = []
        for slot in self.slots {
            if let record = slot.record, let date = record.submitted { tasks.append((date, record.serial, record.id)) }
        }
        return tasks.sorted { ($0.date, $0.serial) < ($1.date, $1.serial) }.map { $0.id }
    }

    package var counts: TaskCounts {
        let stubs = self.cullableCount - self.finishedCount
        return TaskCounts(
            unfinished: self.slotOfTask.count - self.cullableCount, finished: self.finishedCount, stubs: stubs,
            byteCount: self.cullableByteCount)
    }

    /// Stops the program when a count has gone wrong. For tests, after every change.
    package func checkInvariants() {
        let records = self.slots.compactMap { $0.record }
        precondition(records.count == self.slotOfTask.count)
        precondition(records.count + self.freeSlots.count == self.slots.count)
        precondition(records.count { $0.isFinished } == self.finishedCount)
        precondition(records.count { $0.isFinished || $0.isStub } == self.cullableCount)
        precondition(
            records.reduce(0) { $0 + ($1.isFinished || $1.isStub ? $1.byteCount : 0) } == self.cullableByteCount)
        precondition(self.cullable.count { self.slots[$0.slot].ticket == $0.ticket } == self.cullableCount)
        precondition(self.large.count <= 2 * self.cullableCount + 1024)
        precondition(self.cullable.count <= 2 * self.cullableCount + 1024)
        precondition(self.cullableCount <= self.limits.records && self.cullableByteCount <= self.limits.bytes)
    }
}
