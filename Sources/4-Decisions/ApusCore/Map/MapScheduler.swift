/// Chooses how many calls of a map go into each task, from how long calls were measured to take.
///
/// A task costs some tens of microseconds wherever it passes, so short calls must share one; long calls must not, or engines would end
/// far apart. The first tasks are single calls. From then on a task gets about ten milliseconds of measured calls, at most four times as
/// many as any task before it, and towards the end less, so that all engines finish together. A bounded number of tasks is under way, and
/// so memory does not grow with the map.
///
/// The scheduler is a value: an event goes in, the effects it calls for come out.
package struct MapScheduler: Sendable {
    /// How the number of calls in a task is chosen.
    package enum Sizing: Sendable {
        /// By the times of tasks that have ended.
        case measured
        /// Each call is a task.
        case single
    }

    package enum Event: Sendable, Equatable {
        /// The map begins, or engines came or went.
        case engines(Int)
        /// A task ended. Its first calls have outcomes; the others were given back, because the task had taken long.
        case ended(Range<Int>, calls: Int, cost: Cost?)
        /// All elements that were not sent are to be sent now.
        case restWanted
        /// No more elements are to be sent.
        case stopped
    }

    /// The measured cost of a task.
    package struct Cost: Sendable, Equatable {
        package let microseconds: Double
        /// Bytes of the request or of the reply, whichever has more.
        let bytes: Int

        package init(microseconds: Double, bytes: Int) {
            // Both numbers come from peers. A clock that was set back makes a negative time, and a faulty peer may send any
            // number.
            self.microseconds = microseconds.isFinite ? min(max(microseconds, 0), 1e12) : 0
            self.bytes = max(bytes, 0)
        }
    }

    package enum Effect: Sendable, Equatable {
        /// Send the calls of these elements as one task.
        case send(Range<Int>)
        /// Every element has its outcome, or never will have; nothing is under way.
        case finish
    }

    private let sizing: Sizing
    /// The elements that were never sent.
    private var unsent: Range<Int>
    /// Elements that tasks gave back, to be sent before those that were never sent.
    private var returned: [Range<Int>] = []
    /// Tasks sent and not ended.
    private var underWay = 0
    private var engines = 1
    private var isStopped = false
    private var isFinished = false
    /// The estimated cost of a call; nil before the first task has ended.
    private var call: (microseconds: Double, bytes: Double)?
    /// The number of calls in the largest task that has ended.
    private var largest = 0

    package init(count: Int, sizing: Sizing) {
        self.sizing = sizing
        self.unsent = 0..<max(count, 0)
    }

    /// Elements that are not under way and have no outcome.
    package var waiting: Int { self.unsent.count + self.returned.reduce(0) { $0 + $1.count } }

    /// Microseconds of calls in a task: much more than the cost of a task itself, and too short for a user to notice.
    package static let taskMicroseconds = 10_000.0
    /// Bytes of a task's request or reply when the number of calls is chosen by their size.
    private static let taskBytes = 1 << 20
    /// The most calls in a task, however short they are: all wait for the slowest of their task.
    private static let callLimit = 2000
    /// Tasks for each engine under way: one that runs, one that is next, and some on their way there and back.
    private static let tasksPerEngine = 4
    /// Tasks for each engine under way where each call, perhaps a short one, is a task.
    private static let singlesPerEngine = 64

    package mutating func handle(_ event: Event) -> [Effect] {
        if self.isFinished { return [] }
        switch event {
        case .engines(let count): self.engines = max(1, count)
        case .ended(let elements, let calls, let cost):
            self.underWay -= 1
            let calls = min(max(calls, 1), elements.count)
            if calls < elements.count, !self.isStopped { self.returned.append(elements.dropFirst(calls)) }
            if let cost { self.learn(cost, calls) }
        case .restWanted: return self.sendRest()
        case .stopped:
            self.isStopped = true
            self.unsent = self.unsent.upperBound..<self.unsent.upperBound
            self.returned = []
        }
        let limit = self.engines * (self.sizing == .single ? Self.singlesPerEngine : Self.tasksPerEngine)
        var effects: [Effect] = []
        while self.underWay < limit, let elements = self.next(self.size) { effects.append(.send(elements)) }
        if self.underWay == 0 {
            self.isFinished = true
            effects.append(.finish)
        }
        return effects
    }

    private mutating func sendRest() -> [Effect] {
        var effects: [Effect] = []
        let size = self.size
        while let elements = self.next(size) { effects.append(.send(elements)) }
        return effects
    }

    /// Adapts the estimate to a longer time at once and to a shorter one slowly: a task that is too small costs little, one that
    /// is too large delays others.
    private mutating func learn(_ cost: Cost, _ calls: Int) {
        let (microseconds, bytes) = (cost.microseconds / Double(calls), Double(cost.bytes) / Double(calls))
        self.largest = max(self.largest, calls)
        guard let known = self.call else {
            self.call = (microseconds, bytes)
            return
        }
        self.call = (
            max(microseconds, 0.7 * known.microseconds + 0.3 * microseconds), max(bytes, 0.7 * known.bytes + 0.3 * bytes)
        )
    }

    /// How many calls the next task gets.
    private var size: Int {
        guard self.sizing == .measured, let call = self.call else { return 1 }
        func fitting(_ whole: Double, _ each: Double) -> Int {
            each * Double(Self.callLimit) <= whole ? Self.callLimit : Int(whole / each)
        }
        let most = min(
            fitting(Self.taskMicroseconds, call.microseconds), fitting(Double(Self.taskBytes), call.bytes), 4 * self.largest)
        // Towards the end every engine gets a smaller share of the remaining calls, but never so few that the task costs more
        // than they.
        let share = max(self.waiting / (2 * self.engines), fitting(Self.taskMicroseconds / 10, call.microseconds))
        return max(1, min(most, share))
    }

    private mutating func next(_ size: Int) -> Range<Int>? {
        if let range = self.returned.last {
            let elements = range.prefix(size)
            self.returned[self.returned.count - 1] = range.dropFirst(size)
            if range.count <= size { self.returned.removeLast() }
            self.underWay += 1
            return elements
        }
        guard !self.unsent.isEmpty else { return nil }
        let elements = self.unsent.prefix(size)
        self.unsent = self.unsent.dropFirst(size)
        self.underWay += 1
        return elements
    }
}
