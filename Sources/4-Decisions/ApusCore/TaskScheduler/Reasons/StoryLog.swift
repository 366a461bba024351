package import ApusWire

/// A step in the life of a task, as `TaskScheduler.story(of:)` tells it.
package enum TaskStep: Sendable, Equatable {
    case submitted
    case sent(EngineUUID)
    /// The task was taken up from the controller before this one, with the engine that had been given it, if any.
    case restored(EngineUUID?)
    case answered(TaskReply)
    case givenBack(EngineUUID)
    case failed(TaskFailure)
}

/// The last steps of all tasks, oldest overwritten first.
struct StoryLog: Sendable {
    struct Entry: Sendable {
        let time: MonotonicTime
        let task: TaskID
        let step: TaskStep
    }

    private let length: Int
    private var ring: [Entry] = []
    private var oldest = 0

    init(length: Int) { self.length = length }

    @inline(__always)
    mutating func note(_ task: TaskID, _ step: @autoclosure () -> TaskStep, at now: MonotonicTime) {
        guard self.length > 0 else { return }
        self.append(Entry(time: now, task: task, step: step()))
    }

    private mutating func append(_ entry: Entry) {
        if self.ring.count < self.length {
            self.ring.append(entry)
        } else {
            self.ring[self.oldest] = entry
            self.oldest = (self.oldest + 1) % self.length
        }
    }

    /// The entries about one task, oldest first.
    func entries(of task: TaskID) -> [Entry] {
        (self.ring[self.oldest...] + self.ring[..<self.oldest]).filter { $0.task == task }
    }
}
