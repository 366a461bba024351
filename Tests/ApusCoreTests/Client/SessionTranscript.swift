import ApusCore
import ApusTestKit
import ApusWire
import Testing

/// A client's session, a clock that the test turns, and a check of all invariants after every event.
struct SessionTranscript {
    private(set) var session: ClientSession
    private(set) var now = MonotonicTime(.seconds(100))

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
        let request = ClientSession.Request(on: channel, to: targets, output: output)
        return self.on(.submitted(task, request), sourceLocation: sourceLocation)
    }

    /// Load-balanced tasks, looked at when the last one is submitted, for many.
    mutating func submit(_ tasks: [TaskID]) {
        var effects: [ClientSession.Effect] = []
        for task in tasks {
            self.session.handle(.submitted(task, ClientSession.Request(on: .task)), at: self.now, effects: &effects)
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
