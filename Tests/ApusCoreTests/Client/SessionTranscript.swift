import ApusCore
import ApusTestKit
import ApusWire
import Testing

/// A client's session, a clock that the test turns, and a check of all invariants after every event.
struct SessionTranscript {
    private(set) var session: ClientSession
    private(set) var now = MonotonicTime(.seconds(100))
    /// The slots that tasks were given, also of those that have ended.
    private var slots: [TaskID: ClientSession.Slot] = [:]

    /// With every channel connected.
    init(patience: Duration = .seconds(60)) {
        self.session = ClientSession(patience: patience, outputPatience: .seconds(5))
        for channel in ClientSession.Channel.allCases { self.on(.connected(channel)) }
    }

    /// The same with a hub of that name, which answered that these engines are registered.
    init(patience: Duration = .seconds(60), hub: String = "hub", engines: [String: String]) {
        self.init(patience: patience)
        self.answerAsHub(hub)
        let question = self.ask()
        self.on(.enginesAnswered(question, Self.answer(engines)))
    }

    /// The content of a `connection_reply`.
    static func answer(_ engines: [String: String], apus: JSONValue = [:]) -> JSONValue {
        ["status": "ok", "engines": .object(engines.mapValues { .string($0) }), "apus": apus]
    }

    @discardableResult
    mutating func on(_ event: ClientSession.Event, sourceLocation: SourceLocation = #_sourceLocation) -> [ClientSession.Effect] {
        var effects: [ClientSession.Effect] = []
        self.session.handle(event, at: self.now, effects: &effects)
        #expect(throws: Never.self, sourceLocation: sourceLocation) { try self.session.checkInvariants() }
        return effects
    }

    mutating func ask() -> EngineDirectory.Question { self.session.askForEngines() }

    @discardableResult
    mutating func submit(
        _ task: TaskID, on channel: ClientSession.Channel = .task, to targets: [EngineUUID] = [],
        output: ClientSession.OutputPolicy = .counted, sourceLocation: SourceLocation = #_sourceLocation
    ) -> [ClientSession.Effect] {
        let (submission, effects) = self.submit(
            task, ClientSession.Request(on: channel, to: targets, output: output), sourceLocation: sourceLocation)
        if case .refused(let failure) = submission {
            Issue.record("task \(task) is refused: \(failure)", sourceLocation: sourceLocation)
        }
        return effects
    }

    /// Submits a task, and gives the reason why it is refused; nil when it is accepted.
    mutating func refusal(of task: TaskID, sourceLocation: SourceLocation = #_sourceLocation) -> ClientSession.Failure? {
        let submission = self.submit(task, ClientSession.Request(on: .task), sourceLocation: sourceLocation).0
        return if case .refused(let failure) = submission { failure } else { nil }
    }

    mutating func submit(
        _ task: TaskID, _ request: ClientSession.Request, sourceLocation: SourceLocation = #_sourceLocation
    ) -> (ClientSession.Submission, [ClientSession.Effect]) {
        var effects: [ClientSession.Effect] = []
        let submission = self.session.submit(task, request, effects: &effects)
        if case .accepted(let slot) = submission { self.slots[task] = slot }
        #expect(throws: Never.self, sourceLocation: sourceLocation) { try self.session.checkInvariants() }
        return (submission, effects)
    }

    /// The slot that the task was given; -1 for one that was not accepted.
    subscript(task: TaskID) -> ClientSession.Slot { self.slots[task] ?? -1 }

    /// Load-balanced tasks, looked at when the last one is submitted, for many.
    mutating func submit(_ tasks: [TaskID]) {
        var effects: [ClientSession.Effect] = []
        for task in tasks {
            if case .accepted(let slot) = self.session.submit(task, ClientSession.Request(on: .task), effects: &effects) {
                self.slots[task] = slot
            }
        }
        #expect(throws: Never.self) { try self.session.checkInvariants() }
    }

    @discardableResult
    mutating func reply(
        _ task: TaskID, original: TaskID? = nil, outputs: Int? = 0, isSynthetic: Bool = false, hub: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) -> [ClientSession.Effect] {
        let reply = ClientSession.Reply(to: task, original: original, outputs: outputs, isSynthetic: isSynthetic, hub: hub)
        return self.on(.replied(reply), sourceLocation: sourceLocation)
    }

    /// A reply without output, and no look at all that is kept, for many.
    mutating func replyUnchecked(_ task: TaskID) -> [ClientSession.Effect] {
        var effects: [ClientSession.Effect] = []
        self.session.handle(.replied(ClientSession.Reply(to: task, outputs: 0)), at: self.now, effects: &effects)
        return effects
    }

    /// A question to the hub and its answer, which says who the hub is.
    mutating func answerAsHub(_ hub: String) {
        self.submit(TaskID("who are you"), on: .query, output: .ignored)
        self.reply(TaskID("who are you"), outputs: nil, hub: hub)
    }

    mutating func wait(_ span: Duration) { self.now = self.now + span }

    /// Turns the clock on and fires the timer.
    @discardableResult
    mutating func fire(after span: Duration, sourceLocation: SourceLocation = #_sourceLocation) -> [ClientSession.Effect] {
        self.wait(span)
        return self.on(.timerFired, sourceLocation: sourceLocation)
    }

    /// The effect that sets the timer to so long after now.
    func timer(in span: Duration) -> ClientSession.Effect { .setTimer(self.now + span) }
}
