import ApusCore
import ApusTestKit
import ApusWire
import Testing

/// A task scheduler, a clock that the test turns, and a check of all invariants after every event.
struct Transcript {
    private(set) var scheduler: TaskScheduler
    private(set) var now = MonotonicTime(.seconds(100))

    init(_ configuration: TaskScheduler.Configuration) { self.scheduler = TaskScheduler(configuration) }

    /// By default with ipyparallel's high-water mark of one.
    init(hwm: Int? = 1, scheme: TaskScheduler.Scheme = .leastload, engines: [EngineUUID] = [], understandRecall: Bool = true) {
        self.init(TaskScheduler.Configuration(scheme: scheme, highWaterMark: hwm, storyLength: 100))
        for engine in engines { self.on(.engineJoined(engine, understandsRecall: understandRecall)) }
    }

    @discardableResult
    mutating func on(
        _ event: TaskScheduler.Event, sourceLocation: SourceLocation = #_sourceLocation
    ) -> [TaskScheduler.Effect] {
        var effects: [TaskScheduler.Effect] = []
        self.scheduler.handle(event, at: self.now, effects: &effects)
        #expect(throws: Never.self, sourceLocation: sourceLocation) { try self.scheduler.checkInvariants(at: self.now) }
        return effects
    }

    @discardableResult
    mutating func submit(
        _ task: TaskID, after: TaskDependency? = nil, follow: TaskDependency? = nil, timeout: Duration? = nil, retries: Int = 0,
        targets: [EngineUUID] = [], priority: Int = 0, client: Int = 0, need: TaskNeed? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) -> [TaskScheduler.Effect] {
        let request = TaskRequest(
            task, client: client, after: after, follow: follow, timeout: timeout, retries: retries, targets: targets,
            priority: priority, need: need)
        return self.on(.submitted(request), sourceLocation: sourceLocation)
    }

    @discardableResult
    mutating func reply(
        _ task: TaskID, from engine: EngineUUID, _ status: TaskReply.Status = .ok, dependenciesMet: Bool = true,
        sourceLocation: SourceLocation = #_sourceLocation
    ) -> [TaskScheduler.Effect] {
        let reply = TaskReply(to: task, from: engine, status, dependenciesMet: dependenciesMet)
        return self.on(.replied(reply), sourceLocation: sourceLocation)
    }

    mutating func wait(_ span: Duration) { self.now = self.now + span }
}

/// Engines and tasks by name.
let (ada, bob, eve) = (EngineUUID("ada"), EngineUUID("bob"), EngineUUID("eve"))
let (a, b, c, d, e) = (TaskID("a"), TaskID("b"), TaskID("c"), TaskID("d"), TaskID("e"))
