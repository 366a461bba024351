internal import ApusWire

/// A search in the hub's database for the results of tasks whose replies a broken connection may have lost.
///
/// Each task is looked up in the hub's database: its result is there, or will come, or never will. A round asks for the results
/// of all tasks that have none, and rounds follow each other until no such task is left.
struct Recovery: Sendable {
    /// A question to the hub.
    enum Question: Sendable, Equatable {
        /// For the tasks' results.
        case results([TaskID])
        /// Which engines the hub has given the tasks to.
        case engines([TaskID])

        var tasks: [TaskID] {
            switch self {
            case .results(let tasks), .engines(let tasks): tasks
            }
        }
    }

    enum State: Sendable, Equatable {
        /// The hub has not said who it is. Becomes `asking`.
        case identifying
        /// The hub has the question. Becomes `asking` the next, or `resting`.
        case asking(Question)
        /// The round is over. Becomes `asking` when the next round begins.
        case resting(until: MonotonicTime)
    }

    /// The most tasks in one question: their results come in one message.
    static let askedAtOnce = 1000
    /// How long engines may take to come to a new controller; meanwhile they go on with the tasks of the old one.
    static let engineReturn = Duration.seconds(10)
    static let firstPause = Duration.milliseconds(20)
    static let longestPause = Duration.seconds(1)

    /// Tasks that had no outcome when the round began, in order of submission.
    var tasks: [TaskID]
    /// The session of the hub when the connection broke.
    let earlierHub: String?
    let began: MonotonicTime
    /// Whether the hub that is there now is another one; known once the hub has said who it is.
    var isAnotherHub = false
    var state = State.identifying
    /// The questions of the round that are left, the next one last.
    var questions: [Question] = []
    /// When the hub first could not read its records; nil if it could the last time.
    var unreadableSince: MonotonicTime?
    /// The growing time between two rounds.
    var pause = Recovery.firstPause

    init(of tasks: [TaskID], earlierHub: String?, at now: MonotonicTime) {
        self.tasks = tasks
        self.earlierHub = earlierHub
        self.began = now
    }

    /// Sets the questions of a round.
    mutating func beginRound() {
        self.questions = []
        for start in stride(from: 0, to: self.tasks.count, by: Self.askedAtOnce) {
            let some = Array(self.tasks[start..<min(start + Self.askedAtOnce, self.tasks.count)])
            self.questions.append(.results(some))
            // A new controller may have no result because there will never be one.
            if self.isAnotherHub { self.questions.append(.engines(some)) }
        }
        self.questions.reverse()
    }

    mutating func rest(at now: MonotonicTime) -> MonotonicTime {
        let end = now + self.pause
        self.state = .resting(until: end)
        self.pause = min(self.pause * 2, Self.longestPause)
        return end
    }
}
