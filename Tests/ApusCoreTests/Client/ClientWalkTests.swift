import ApusCore
import ApusTestKit
import ApusWire
import Testing

/// A client to which anything may happen, from a seed, and a record of what its callers were told.
private struct ClientWalk {
    private var client: SessionTranscript
    private var random: SeededGenerator
    private(set) var violations: [String] = []
    /// How often those who wait for each task were told that it has ended; tasks that were abandoned are not here.
    private(set) var endings: [TaskID: Int] = [:]
    /// Tasks whose replies the client holds back until output has come.
    private var held: Set<TaskID> = []
    /// Tasks that the client has forgotten.
    private var forgotten: Set<TaskID> = []
    private var submitted: [TaskID] = []
    /// The tasks that the client has in its slots.
    private var tasks: [ClientSession.Slot: TaskID] = [:]
    private var lost: Set<ClientSession.Channel> = []
    private var hub = 1
    private var questions: [EngineDirectory.Question] = []
    /// What the client has asked about lost tasks, and was not answered.
    private var asked: [ClientSession.Effect] = []
    private var timer: MonotonicTime?

    private static let engines = [ada, bob, eve]

    init(seed: UInt64) {
        self.client = SessionTranscript(engines: seed % 3 == 0 ? [:] : ["0": "ada", "1": "bob"])
        self.random = SeededGenerator(seed: seed)
    }

    // MARK: What happens

    mutating func run(steps: Int) { for _ in 0..<steps { self.step() } }

    private mutating func step() {
        switch Int.random(in: 0..<100, using: &self.random) {
        case ..<25: self.submit()
        case ..<50: self.reply()
        case ..<58: self.on(.outputCame(of: self.anyTask))
        case ..<66: self.on(.idled(after: self.anyTask))
        case ..<68: self.abandon()
        case ..<70: self.on(.replyWasTooLarge(ClientSession.Reply(to: self.anyTask), limit: 1))
        case ..<72: self.on(.limitsAreNotKept(by: 0, [self.anyTask, self.anyTask]))
        case ..<76: self.engineNews()
        case ..<79: self.question()
        case ..<83: self.lose()
        case ..<88: self.regain()
        case ..<89: self.hub += 1
        case ..<96: self.answerAboutLostTasks()
        default: self.pass(.milliseconds(Int.random(in: 0..<3000, using: &self.random)))
        }
    }

    private var anyTask: TaskID {
        mutating get {
            // The latest are the likeliest to be pending.
            self.submitted.suffix(20).randomElement(using: &self.random) ?? TaskID("nobody's")
        }
    }

    private mutating func submit() {
        let task = TaskID("\(self.submitted.count)")
        self.submitted.append(task)
        self.endings[task] = 0
        let channels: [ClientSession.Channel] = [.query, .mux, .task, .task, .control, .broadcast]
        let channel = channels.randomElement(using: &self.random)!
        let count = channel == .broadcast ? 2 : channel == .mux || channel == .control ? 1 : 0
        let policies: [ClientSession.OutputPolicy] = channel.takesTasks ? [.counted, .awaited, .ignored] : [.ignored]
        let request = ClientSession.Request(
            on: channel, to: Array(Self.engines.shuffled(using: &self.random).prefix(count)),
            output: policies.randomElement(using: &self.random)!)
        let (submission, effects) = self.client.submit(task, request)
        switch submission {
        case .accepted(let slot):
            let holder = self.tasks[slot]
            self.demand(holder == nil, "the slot of \(holder?.text ?? "") is given to \(task)")
            self.tasks[slot] = task
        case .refused:
            self.tell(task)
            self.demand(self.forgotten.insert(task).inserted, "\(task) is refused after its end")
        }
        for effect in effects { self.perform(effect) }
    }

    /// An answer to anything: also to what has had one.
    private mutating func reply() {
        let outputs = [nil, 0, 1, 2].randomElement(using: &self.random)!
        var reply = ClientSession.Reply(to: self.anyTask, outputs: outputs, isSynthetic: Bool.random(using: &self.random))
        if Bool.random(using: &self.random) { reply.hub = "hub \(self.hub)" }
        if Int.random(in: 0..<5, using: &self.random) == 0 {
            reply.original = reply.request
            reply.request = TaskID("a copy")
        }
        self.on(.replied(reply))
        if Int.random(in: 0..<5, using: &self.random) == 0 { self.on(.replied(reply)) }
    }

    private mutating func abandon() {
        let task = self.anyTask
        if self.endings[task] == 0 { self.endings[task] = nil }
        self.on(.abandoned(task))
    }

    private mutating func engineNews() {
        let number = Int.random(in: 0..<3, using: &self.random)
        let (id, uuid) = (EngineID(number), Self.engines[number])
        self.on(.engineNews(Bool.random(using: &self.random) ? .added(id, uuid, [:]) : .removed(id, uuid)))
    }

    private mutating func question() {
        if self.questions.count < 3 { self.questions.append(self.client.ask()) }
        guard Bool.random(using: &self.random), !self.questions.isEmpty else { return }
        let question = self.questions.remove(at: Int.random(in: 0..<self.questions.count, using: &self.random))
        let answers: [JSONValue?] = [
            nil, ["status": "error"], SessionTranscript.answer(["1": "bob"]), SessionTranscript.answer([:]),
        ]
        self.on(.enginesAnswered(question, answers.randomElement(using: &self.random)!))
    }

    private mutating func lose(_ channel: ClientSession.Channel? = nil) {
        let channel = channel ?? ClientSession.Channel.allCases.randomElement(using: &self.random)!
        self.lost.insert(channel)
        self.on(.disconnected(channel))
    }

    private mutating func regain() {
        guard let channel = self.lost.sorted(by: { "\($0)" < "\($1)" }).randomElement(using: &self.random) else { return }
        self.lost.remove(channel)
        self.on(.connected(channel))
    }

    private mutating func answerAboutLostTasks() {
        if self.asked.isEmpty { return }
        let question = self.asked.remove(at: Int.random(in: 0..<self.asked.count, using: &self.random))
        let dice = Int.random(in: 0..<10, using: &self.random)
        switch question {
        case .identifyHub(let recovery): self.on(dice == 0 ? .recoveryFailed(recovery) : .hubIdentified(recovery: recovery))
        case .fetchResults(let tasks, let recovery):
            let found = tasks.filter { _ in Bool.random(using: &self.random) }
            self.on(
                dice == 3
                    ? .recordsUnreadable(recovery: recovery)
                    : dice < 3
                        ? .resultsFailed(dice < 2 ? .refused : .failed, recovery: recovery)
                        : .resultsCame(found, recovery: recovery))
        case .findEngines(let tasks, let recovery):
            let engines = tasks.filter { _ in Bool.random(using: &self.random) }.map { ($0, Self.engines[Int($0.text)! % 3]) }
            self.on(
                dice < 2
                    ? dice == 0 ? .recoveryFailed(recovery) : .recordsUnreadable(recovery: recovery)
                    : .enginesFound(Dictionary(uniqueKeysWithValues: engines), recovery: recovery))
        default: break
        }
    }

    private mutating func pass(_ span: Duration) {
        let end = self.client.now + span
        while let timer = self.timer, timer <= end {
            self.timer = nil
            self.client.wait(timer - self.client.now)
            self.on(.timerFired)
        }
        self.client.wait(end - self.client.now)
    }

    // MARK: The end

    mutating func close() {
        self.on(.closing)
        self.run(steps: 20)
        self.on(.closed)
        // Late events change nothing.
        self.run(steps: 20)
    }

    /// The controller stays away for as long as patience lasts.
    mutating func losePatience() {
        for channel in ClientSession.Channel.allCases { self.lose(channel) }
        self.pass(.seconds(60))
    }

    /// The controller says that it shuts down.
    mutating func shutDown() {
        self.on(.shutdownAnnounced)
        self.run(steps: 20)
        self.pass(.milliseconds(200))
    }

    // MARK: What callers are told

    private mutating func on(_ event: ClientSession.Event) { for effect in self.client.on(event) { self.perform(effect) } }

    private mutating func perform(_ effect: ClientSession.Effect) {
        switch effect {
        case .keepReply(let slot, let next):
            let task = self.task(slot)
            self.demand(self.held.insert(task).inserted, "\(task) has two replies")
            self.take(next, of: slot)
        case .keepOutput(let slot, let next): self.take(next, of: slot)
        case .restore(let slot):
            self.tell(self.task(slot))
            self.forget(slot)
        case .conclude(let slot):
            let task = self.task(slot)
            self.demand(self.held.contains(task), "\(task) ends without an outcome")
            self.take(.end, of: slot)
        case .fail(let slot, _):
            let task = self.task(slot)
            self.demand(!self.held.contains(task), "\(task) fails and has a reply")
            self.tell(task)
            self.forget(slot)
        case .forget(let slot): self.forget(slot)
        case .sendAgain: self.demand(false, "a hub that takes up nothing is sent a request again")
        case .setTimer(let time): self.timer = time
        case .identifyHub, .fetchResults, .findEngines: self.asked.append(effect)
        case .announceChange, .warnOfNoEngines, .refreshEngines: break
        }
    }

    private mutating func take(_ next: ClientSession.Next, of slot: ClientSession.Slot) {
        let task = self.task(slot)
        switch next {
        case .wait: break
        case .tell: self.tell(task)
        case .end:
            // Those who were told are not told again.
            if self.endings[task] == 0 { self.tell(task) }
            self.forget(slot)
        }
    }

    /// The task that an effect names.
    private mutating func task(_ slot: ClientSession.Slot) -> TaskID {
        self.demand(self.tasks[slot] != nil, "slot \(slot) is named, and is free")
        return self.tasks[slot] ?? TaskID("nobody's")
    }

    private mutating func forget(_ slot: ClientSession.Slot) {
        let task = self.task(slot)
        self.tasks[slot] = nil
        self.demand(self.forgotten.insert(task).inserted, "\(task) is forgotten twice")
    }

    private mutating func tell(_ task: TaskID) { if let count = self.endings[task] { self.endings[task] = count + 1 } }

    private mutating func demand(_ holds: Bool, _ what: @autoclosure () -> String) {
        if !holds { self.violations.append(what()) }
    }
}

@Suite("Whatever happens to a client")
struct ClientWalkTests {
    @Test(
        "Every task ends exactly once by the time the client is closed, its patience over or its controller gone",
        arguments: UInt64(0)..<200)
    func everyTaskEndsOnce(seed: UInt64) {
        var walk = ClientWalk(seed: seed)
        walk.run(steps: 400)
        switch seed % 3 {
        case 0: walk.close()
        case 1: walk.losePatience()
        default: walk.shutDown()
        }
        #expect(walk.violations == [], "replay: seed \(seed)")
        #expect(walk.endings.count >= 50)
        #expect(walk.endings.values.allSatisfy { $0 == 1 }, "replay: seed \(seed)")
    }
}
