import ApusStore
import ApusWire
import DequeModule

/// What the journal's rows say and the tables do not say yet, by task.
struct JournaledChanges {
    /// The changes to one task since the tables have heard of it.
    struct Entry {
        let task: TaskID
        /// Tells the entry from others of its task, and where it stands among all.
        let number: Int
        /// Where the record stands among all if one begins with the changes; nil if none does.
        var serial: Int64?
        /// The journal's rows with the first and the last of the changes.
        let first: Int64
        var last: Int64
        var changes: [TaskChange]
        var byteCount: Int
        var hasEnded = false
    }

    private var entries: [TaskID: Entry] = [:]
    /// The tasks of the entries in order of arrival, and some whose entry was taken.
    private var order: Deque<(task: TaskID, number: Int)> = []
    /// The tasks that have ended, in the order of their ends, and some whose entry was taken.
    private var ended: Deque<(task: TaskID, number: Int)> = []
    /// The number of the last entry.
    private(set) var lastNumber = 0
    /// Bytes of the changes to tasks that have ended.
    private(set) var endedByteCount = 0

    var isEmpty: Bool { self.entries.isEmpty }

    /// Takes a change that is in this row of the journal.
    ///
    /// - Parameter serial: Where the record stands if it begins with the change.
    mutating func append(_ change: TaskChange, of task: TaskID, serial: Int64?, row: Int64, byteCount: Int) {
        let hadEnded = self.entries[task]?.append(change, serial: serial, row: row, byteCount)
        if hadEnded == nil {
            self.lastNumber += 1
            self.entries[task] = Entry(
                task: task, number: self.lastNumber, serial: serial, first: row, last: row, changes: [change],
                byteCount: byteCount, hasEnded: change.isEnd)
            self.order.append((task, self.lastNumber))
        }
        guard let entry = self.entries[task], entry.hasEnded else { return }
        if hadEnded != true { self.ended.append((task, entry.number)) }
        self.endedByteCount += hadEnded == true ? byteCount : entry.byteCount
    }

    // MARK: What goes to the tables

    /// Up to so many entries, the first that arrived, of those with no larger number than this.
    func oldest(_ limit: Int, through last: Int = .max) -> [Entry] {
        var chosen: [Entry] = []
        for (task, number) in self.order {
            if chosen.count == limit || number > last { break }
            if let entry = self.entries[task], entry.number == number { chosen.append(entry) }
        }
        return chosen
    }

    /// Up to so many entries of tasks that have ended, the first that ended.
    func firstEnded(_ limit: Int) -> [Entry] {
        var chosen: [Entry] = []
        for (task, number) in self.ended {
            if chosen.count == limit { break }
            if let entry = self.entries[task], entry.number == number { chosen.append(entry) }
        }
        return chosen
    }

    /// The entries of these tasks.
    func entries(of tasks: Set<TaskID>) -> [Entry] {
        tasks.compactMap { self.entries[$0] }.sorted { $0.number < $1.number }
    }

    /// Removes entries that the tables have taken.
    mutating func remove(_ taken: some Sequence<Entry>) {
        for entry in taken {
            guard self.entries.removeValue(forKey: entry.task) != nil else { continue }
            if entry.hasEnded { self.endedByteCount -= entry.byteCount }
        }
        while let (task, number) = self.order.first, self.entries[task]?.number != number { self.order.removeFirst() }
        while let (task, number) = self.ended.first, self.entries[task]?.number != number { self.ended.removeFirst() }
    }

    /// The first row of the journal that is needed once these entries are taken; nil for none.
    func firstRow(without taken: Set<TaskID>) -> Int64? {
        for (task, number) in self.order {
            if let entry = self.entries[task], entry.number == number, !taken.contains(task) { return entry.first }
        }
        return nil
    }
}

extension JournaledChanges.Entry {
    /// Gives whether the task had ended before.
    fileprivate mutating func append(_ change: TaskChange, serial: Int64?, row: Int64, _ byteCount: Int) -> Bool {
        let before = self.hasEnded
        self.changes.append(change)
        if self.serial == nil { self.serial = serial }
        self.last = row
        self.byteCount += byteCount
        self.hasEnded = before || change.isEnd
        return before
    }
}

extension TaskChange {
    /// Whether a record begins with the change if there is none.
    var begins: Bool {
        switch self {
        case .submitted, .output: true
        default: false
        }
    }

    fileprivate var isEnd: Bool {
        if case .completed = self { true } else { false }
    }
}
