internal import ApusCore
public import ApusWire

/// A cluster in one value: the task scheduler, engines that fail in every way, and clients, all driven by a seed.
///
/// Engines die, retire, join twice, refuse tasks, lack modules, give tasks back, and answer late, twice, or without a request. In
/// some worlds the owner of the engines says that no engine is coming, or tasks have a time-out for engines. Clients submit graphs
/// of tasks, some of them impossible, and abort tasks at random. Everything that happens follows from the seed, so the seed of a
/// run that breaks a promise repeats that run.
///
/// Two promises are checked: every accepted task ends once, and the stated cause of its end is true; and no task waits without a
/// reason, or longer than the reason holds.
///
/// ```swift
/// let world = SimulatedCluster.run(seed: 7)
/// #expect(world.problem == nil)
/// ```
public struct SimulatedCluster: Sendable {
    /// How often each accepted task has ended. Every count is one if no promise is broken.
    public private(set) var endings: [TaskID: Int] = [:]
    /// The promises that were broken, each with its time. The first may be the cause of the others.
    public private(set) var violations: [String] = []
    /// The scheduler's events and effects, one line each.
    public private(set) var transcript: [String] = []

    /// An event that will reach the scheduler, or an act of an engine or a client.
    fileprivate enum Happening: Sendable {
        case event(TaskScheduler.Event)
        case submission
        case abort
        case arrival(TaskID, EngineUUID)
        case recallArrives([TaskID], EngineUUID)
        case completion(TaskID, EngineUUID)
        /// The task submits tasks of its own and waits for them.
        case nesting(TaskID, EngineUUID)
        /// All tasks that the task submitted have ended.
        case awakening(TaskID, EngineUUID)
        case engineStarts
        case engineFalls
        /// An engine that was given up while it lived registers again.
        case engineReturns(EngineUUID)
        /// A request other than a task runs on an engine.
        case push
        /// The owner of the engines says whether any are coming.
        case ownerSpeaks
        case nonsense
    }

    private struct Scheduled: Sendable {
        let time: UInt64
        let order: UInt64
        let happening: Happening
    }

    private struct Engine: Sendable {
        let uuid: EngineUUID
        let understandsRecall: Bool
        let abilities: EngineAbilities
        /// Whether the engine has the module that some tasks require.
        let hasModule: Bool
        /// Whether the engine has run a request that makes the conditions of tasks hold.
        var isPushed = false
        /// Tasks that have arrived; the first of them runs.
        var queue: [TaskID] = []
        var seen: Set<TaskID> = []
        /// Tasks that have begun and wait for tasks that they submitted.
        var aside: Set<TaskID> = []
        /// The tasks of the queue that have waited for tasks that they submitted.
        var resumed: Set<TaskID> = []
        /// When the last message in each direction arrives; messages on one connection do not overtake each other.
        var inboundUntil: UInt64 = 0
        var outboundUntil: UInt64 = 0
    }

    /// A task and the engine that runs it.
    private struct RunningTask: Hashable, Sendable {
        let task: TaskID
        let engine: EngineUUID
    }

    private struct Nature: Sendable {
        var duration: UInt64
        var failsIn100: Int
        var abortsIn100: Int
        var refusedIn100: Int
        var requiresModule = false
        /// How often engines refuse the task if nothing was pushed to them.
        var refusals = 0
        /// How many tasks the task submits and waits for.
        var children = 0
    }

    private var scheduler: TaskScheduler
    private var random: SeededGenerator
    private let remembersAll: Bool
    /// Whether engines differ in what they can run.
    private let isMixed: Bool
    private var requests: [TaskID: TaskRequest] = [:]
    private var isHurried = false
    private var now: UInt64 = 1
    private var order: UInt64 = 0
    private var agenda: [Scheduled] = []
    private var timer: UInt64?
    private var engines: [EngineUUID: Engine] = [:]
    private var engineOrder: [EngineUUID] = []
    private var departed: Set<EngineUUID> = []
    /// Engines that were given up while they lived; an engine is given up at most once.
    private var givenUp: Set<EngineUUID> = []
    private var startedEngines = 0
    private var natures: [TaskID: Nature] = [:]
    private var submitted: [TaskID] = []
    /// The running task that submitted each task; and the tasks for which each running task still waits. A task may go on at an
    /// engine that was given up and run again at another; each of the two runs submits and awaits tasks of its own.
    private var parents: [TaskID: RunningTask] = [:]
    private var unfinishedChildren: [RunningTask: Set<TaskID>] = [:]
    /// Whether tasks submit tasks.
    private let isNested: Bool
    /// Tasks that ended well, so that each has a result.
    private var succeeded: Set<TaskID> = []
    /// The engines that answered tasks.
    private var endedOn: [TaskID: EngineUUID] = [:]
    private var submissionTimes: [TaskID: UInt64] = [:]
    /// The engines that have refused a task.
    private var refusals: [TaskID: Set<EngineUUID>] = [:]
    /// Whether the engines have an owner, which says whether any are coming.
    private let isOwned: Bool
    private var noneIsComing = false
    /// The time since which no engine is registered; nil while an engine is registered.
    private var emptySince: UInt64? = 0
    /// For each task, the inputs whose results were found in the store.
    private var found: [TaskID: Set<TaskID>] = [:]
    private var effects: [TaskScheduler.Effect] = []
    /// Whether all planned acts are over: new engines then take and finish any task, so that all tasks can end.
    private var isWindingUp = false

    public init(seed: UInt64, engines: Int, tasks: Int) {
        self.random = SeededGenerator(seed: seed)
        let schemes = TaskScheduler.Scheme.allCases
        // Half of the worlds have short tasks in quick succession, so that queues grow at engines whose depth adapts.
        let isHurried = Bool.random(using: &self.random)
        let marks: [Int?] = isHurried ? [nil] : [nil, 1, 2, 0]
        let configuration = TaskScheduler.Configuration(
            scheme: schemes[Int.random(in: 0..<schemes.count, using: &self.random)],
            highWaterMark: marks[Int.random(in: 0..<marks.count, using: &self.random)],
            rememberedTasks: Bool.random(using: &self.random) ? 1_000_000 : 20, seed: seed,
            engineTimeout: [nil, nil, .milliseconds(Int.random(in: 0..<20, using: &self.random))].randomElement(
                using: &self.random)!,
            dependencyInterval: [nil, .milliseconds(Int.random(in: 0..<20, using: &self.random))].randomElement(
                using: &self.random)!, hasRecords: seed % 3 == 1)
        self.isOwned = Int.random(in: 0..<3, using: &self.random) == 0
        self.remembersAll = configuration.rememberedTasks > tasks
        self.scheduler = TaskScheduler(configuration)
        self.isMixed = Bool.random(using: &self.random)
        self.isNested = Bool.random(using: &self.random)
        self.isHurried = isHurried
        let span: UInt64 = isHurried ? 1_500_000 : 100_000_000
        for _ in 0..<engines { self.plan(.engineStarts, in: self.below(200_000)) }
        for _ in 0..<tasks { self.plan(.submission, in: self.below(span)) }
        for _ in 0..<tasks / 10 { self.plan(.abort, in: self.below(span)) }
        for _ in 0..<tasks / 5 { self.plan(.nonsense, in: self.below(span)) }
        for _ in 0..<engines { self.plan(.engineFalls, in: self.below(span)) }
        for _ in 0..<engines { self.plan(.engineStarts, in: self.below(span)) }
        for _ in 0..<engines { self.plan(.push, in: self.below(span)) }
        if self.isOwned { for _ in 0..<6 { self.plan(.ownerSpeaks, in: self.below(span)) } }
    }

    /// Runs the world of a seed to its end: one to eight engines at the start, and a hundred tasks, some of which submit more.
    public static func run(seed: UInt64) -> SimulatedCluster {
        var world = SimulatedCluster(seed: seed, engines: Int(1 + seed % 8), tasks: 100)
        world.runUntilQuiet()
        return world
    }

    /// The first promise that was broken, in a sentence; nil if none was.
    public var problem: String? {
        if let first = self.violations.first { return first }
        let more = self.endings.filter { $0.value != 1 }.keys.map(\.text).sorted()
        return more.isEmpty ? nil : "not ended exactly once: \(more.joined(separator: ", "))"
    }

    /// Runs until every task has ended, or a promise is broken.
    public mutating func runUntilQuiet() {
        var rounds = 0
        while self.violations.isEmpty {
            if let next = self.takeNext() {
                self.now = max(self.now, next.time)
                self.happen(next.happening)
            } else if self.scheduler.waiting.isEmpty, self.scheduler.assignedCount == 0 {
                break
            } else {
                rounds += 1
                self.windUp()
                if rounds > 50 { self.violate("tasks wait for ever: \(self.scheduler.waiting)") }
            }
        }
        for (task, count) in self.endings where count != 1 { self.violate("\(task) ended \(count) times") }
    }

    /// Checks the world when its agenda is empty: a task that still waits must have a reason that a new engine can remove. Then
    /// lets an engine start, or all engines leave.
    private mutating func windUp() {
        self.isWindingUp = true
        for task in self.scheduler.waiting where self.scheduler.whyWaiting(task) == nil {
            self.violate("\(task) waits without a reason")
        }
        let aside = self.engines.values.reduce(0) { $0 + $1.aside.count }
        if self.scheduler.assignedCount > aside { self.violate("tasks are assigned, and no engine works") }
        for task in self.scheduler.waiting where self.scheduler.whyWaiting(task) == .enginesBusy {
            self.violate("\(task) waits for engines that all wait")
        }
        guard self.isOwned else { return self.plan(.engineStarts, in: 1) }
        // In a world whose engines have an owner, all tasks must end even without an engine.
        self.tell(noneIsComing: true)
        for engine in self.scheduler.engineList { self.deliver(.engineLeft(engine)) }
        if self.scheduler.waitingCount + self.scheduler.assignedCount > 0 {
            self.violate("tasks wait for engines that never come")
        }
    }

    private mutating func tell(noneIsComing: Bool) {
        self.noneIsComing = noneIsComing
        self.deliver(noneIsComing ? .noEngineIsComing("the money is spent") : .engineIsComing)
    }

    private mutating func push() {
        guard let uuid = self.engines.keys.sorted(by: { $0.text < $1.text }).randomElement(using: &self.random) else { return }
        self.engines[uuid]?.isPushed = true
        self.deliver(.engineTouched(uuid))
    }

    // MARK: Chance

    private mutating func below(_ bound: UInt64) -> UInt64 { UInt64.random(in: 0..<bound, using: &self.random) }

    private mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self.random) < percent }

    private mutating func plan(_ happening: Happening, in delay: UInt64) {
        self.order += 1
        self.agenda.append(Scheduled(time: self.now + delay, order: self.order, happening: happening))
    }

    private mutating func takeNext() -> Scheduled? {
        let next = self.agenda.indices.min {
            (self.agenda[$0].time, self.agenda[$0].order) < (self.agenda[$1].time, self.agenda[$1].order)
        }
        if let timer, next.map({ timer <= self.agenda[$0].time }) ?? true {
            self.timer = nil
            return Scheduled(time: timer, order: 0, happening: .event(.timerFired))
        }
        guard let next else { return nil }
        let taken = self.agenda[next]
        self.agenda.swapAt(next, self.agenda.count - 1)
        self.agenda.removeLast()
        return taken
    }

    private mutating func violate(_ what: String) {
        self.violations.append("\(MonotonicTime(nanoseconds: self.now)): \(what)")
    }

    // MARK: Acts

    private mutating func happen(_ happening: Happening) {
        switch happening {
        case .event(let event): self.deliver(event)
        case .submission: self.submit()
        case .abort: self.abort()
        case .arrival(let task, let engine): self.arrive(task, at: engine)
        case .recallArrives(let tasks, let engine): self.giveBack(tasks, from: engine)
        case .completion(let task, let engine): self.complete(task, on: engine)
        case .nesting(let task, let engine): self.nest(task, on: engine)
        case .awakening(let task, let engine): self.awaken(task, on: engine)
        case .engineStarts: self.startEngine()
        case .engineFalls: self.fallEngine()
        case .engineReturns(let engine): self.returnEngine(engine)
        case .push: self.push()
        case .ownerSpeaks: self.tell(noneIsComing: self.chance(60))
        case .nonsense: self.talkNonsense()
        }
    }

    /// - Parameter parent: The task that submits the new task; nil if a client submits it.
    @discardableResult
    private mutating func submit(within parent: TaskID? = nil) -> TaskID {
        let id = TaskID("t\(self.submitted.count)")
        var request = TaskRequest(id, client: Int(self.below(3)))
        if let parent { request.depth = 1 + (self.requests[parent]?.depth ?? 0) }
        func condition(_ world: inout SimulatedCluster) -> TaskDependency? {
            guard !world.submitted.isEmpty else { return nil }
            let ids = (0...world.below(3)).map { _ in world.submitted[Int(world.below(UInt64(world.submitted.count)))] }
            let success = world.chance(80)
            var dependency = TaskDependency(ids, all: world.chance(60), success: success, failure: !success || world.chance(30))
            if world.chance(3) { dependency.tasks.append(world.chance(50) ? id : TaskID("unheard of")) }
            return dependency
        }
        // A task that depends on the task that waits for it would wait for ever, which is a user's mistake.
        let mayDepend = parent == nil
        if mayDepend, self.chance(25) { request.after = condition(&self) }
        if mayDepend, self.chance(15) { request.follow = condition(&self) }
        if self.chance(20) { request.timeout = .microseconds(Int64(self.below(20_000))) }
        if self.chance(30) { request.retries = Int(self.below(6)) }
        if self.chance(10) { request.engineTimeout = .microseconds(Int64(self.below(3) * self.below(20_000))) }
        if self.chance(5) { request.resources = ["gpu": Double(1 + self.below(2))] }
        if self.chance(10) {
            let errors: Set<String> = self.chance(50) ? [] : ["EngineError"]
            request.retryRule = RetryRule(pause: .milliseconds(Int(self.below(20))), errors: errors)
        }
        if mayDepend, self.chance(20), !self.submitted.isEmpty {
            request.inputs = (0...self.below(3)).map { _ in self.submitted[Int(self.below(UInt64(self.submitted.count)))] }
            if self.chance(10) { request.inputs.append(self.chance(30) ? id : TaskID("of an earlier controller")) }
        }
        if self.chance(20), !self.engineOrder.isEmpty {
            request.targets = (0...self.below(2)).map { _ in self.engineOrder[Int(self.below(UInt64(self.engineOrder.count)))] }
        }
        if self.chance(60) {
            let needs: [TaskNeed] = [
                .python, .name("f"), .name("g"), .name("x"), .build("1"), .build("3"), .limit(.python), .limit(.name("f")),
            ]
            request.need = needs[Int(self.below(UInt64(needs.count)))]
        }
        self.requests[id] = request
        if self.chance(10) { request.priority = Int(self.below(5)) - 2 }
        let lengths: [UInt64] = [5_000, 20_000, 100_000, 800_000, 30_000_000]
        self.natures[id] = Nature(
            duration: 1 + self.below(lengths[self.isHurried && self.chance(90) ? 0 : Int(self.below(5))]),
            failsIn100: self.chance(30) ? 60 : 5, abortsIn100: 3,
            refusedIn100: self.chance(10) ? 70 : 0, requiresModule: self.chance(10),
            refusals: self.chance(5) ? Int(1 + self.below(10)) : 0)
        if self.isNested, request.depth < 4, self.chance(25) {
            let children = Int(1 + self.below(3))
            self.natures[id]?.children = children
        }
        self.submitted.append(id)
        self.submissionTimes[id] = self.now
        self.endings[id] = 0
        self.deliver(.submitted(request))
        return id
    }

    private mutating func abort() {
        guard !self.submitted.isEmpty else { return }
        if self.chance(5) { return self.deliver(.clientAborted(Int(self.below(3)))) }
        let last = self.submitted.suffix(10)
        self.deliver(.aborted((0...self.below(3)).map { _ in last.randomElement(using: &self.random) ?? TaskID("none") }))
    }

    private mutating func startEngine() {
        let uuid = EngineUUID("e\(self.startedEngines)")
        self.startedEngines += 1
        let understandsRecall = self.chance(75)
        let kinds: [EngineAbilities] = [
            .stock, EngineAbilities(runsPython: false, functions: ["f"], build: "1"),
            EngineAbilities(runsPython: true, functions: ["g"], build: "2"),
        ]
        // The last engine can run any task that waits, and owns enough of each resource.
        let last = EngineAbilities(runsPython: true, functions: ["f", "g"], build: "1")
        let abilities = !self.isMixed ? .stock : self.isWindingUp ? last : kinds[Int(self.below(3))]
        self.engines[uuid] = Engine(
            uuid: uuid, understandsRecall: understandsRecall, abilities: abilities,
            hasModule: self.isWindingUp || self.chance(50))
        self.engineOrder.append(uuid)
        let resources: [String: Double] =
            self.isWindingUp ? ["gpu": 2] : self.chance(40) ? ["gpu": Double(1 + self.below(2))] : [:]
        self.deliver(
            .engineJoined(uuid, understandsRecall: understandsRecall, abilities: abilities, resources: resources))
    }

    /// Makes an engine die, retire, or be given up while it lives; the scheduler may hear twice that the engine left.
    private mutating func fallEngine() {
        guard let uuid = self.engineOrder.filter({ self.engines[$0] != nil }).randomElement(using: &self.random) else { return }
        if self.chance(40) {
            self.deliver(.engineRetired(uuid))
            if self.chance(50) { self.plan(.event(.engineLeft(uuid)), in: self.below(10_000_000)) }
            // The engine goes on answering until it is given up; whether it answers in time depends on its tasks.
            return
        }
        if self.chance(15), self.givenUp.insert(uuid).inserted {
            self.deliver(.engineLeft(uuid))
            self.plan(.engineReturns(uuid), in: self.below(5_000_000))
            return
        }
        let lastWords = self.engines[uuid]?.queue.first
        self.engines[uuid] = nil
        self.departed.insert(uuid)
        self.deliver(.engineLeft(uuid))
        if self.chance(30) { self.plan(.event(.engineLeft(uuid)), in: self.below(1_000_000)) }
        if let lastWords, self.chance(50) {
            self.plan(.event(.replied(TaskReply(to: lastWords, from: uuid, .ok))), in: self.below(1_000_000))
        }
    }

    /// Registers an engine again after it was taken for dead. The engine has dropped its tasks, and recognises messages that it has
    /// seen by their signatures.
    private mutating func returnEngine(_ uuid: EngineUUID) {
        guard let engine = self.engines[uuid], self.departed.contains(uuid) else { return }
        self.departed.remove(uuid)
        // Messages on their way, in both directions, were lost with the connection.
        self.agenda.removeAll { $0.happening.isOf(uuid) }
        self.engines[uuid]?.queue = []
        self.engines[uuid]?.aside = []
        self.engines[uuid]?.resumed = []
        self.deliver(.engineJoined(uuid, understandsRecall: engine.understandsRecall, abilities: engine.abilities))
    }

    /// Delivers an event that a confused peer might cause.
    private mutating func talkNonsense() {
        let task = self.submitted.randomElement(using: &self.random) ?? TaskID("none")
        let engine = self.engineOrder.randomElement(using: &self.random) ?? EngineUUID("none")
        let owns = self.scheduler.engine(of: task) == engine
        switch self.below(7) {
        case 6: self.deliver(.engineTouched(engine))
        case 5 where !owns: self.deliver(self.chance(50) ? .waits(task, on: engine) : .goesOn(task, on: engine))
        case 0 where !owns: self.deliver(.replied(TaskReply(to: task, from: engine, .ok)))
        case 1 where !owns: self.deliver(.recalled([task, TaskID("unheard of")], by: engine))
        case 2: if self.scheduler.engineList.contains(engine) { self.deliver(.engineJoined(engine, understandsRecall: true)) }
        case 3: self.deliver(.timerFired)
        default:
            // A task that the scheduler has forgotten would be taken for a new one.
            let isKnown = self.scheduler.isLive(task) || (self.remembersAll && !self.submitted.isEmpty)
            if isKnown { self.deliver(.submitted(TaskRequest(task, retries: 3))) }
        }
    }

    // MARK: Engines

    private mutating func arrive(_ task: TaskID, at uuid: EngineUUID) {
        guard let engine = self.engines[uuid] else { return }
        self.engines[uuid]?.queue.append(task)
        if engine.queue.isEmpty { self.start(task, on: uuid) }
    }

    private mutating func start(_ task: TaskID, on uuid: EngineUUID) {
        let duration = self.natures[task]?.duration ?? 1
        let nests =
            !self.isWindingUp && self.natures[task]?.children ?? 0 > 0 && self.engines[uuid]?.resumed.contains(task) == false
        self.plan(nests ? .nesting(task, uuid) : .completion(task, uuid), in: duration)
    }

    private mutating func nest(_ task: TaskID, on uuid: EngineUUID) {
        guard let engine = self.engines[uuid], engine.queue.first == task else { return }
        self.engines[uuid]?.queue.removeFirst()
        self.engines[uuid]?.aside.insert(task)
        self.post(.waits(task, on: uuid), from: uuid)
        if engine.queue.count > 1 { self.start(engine.queue[1], on: uuid) }
        // The ids must be known before the first task is submitted, because this task may end at once.
        let first = self.submitted.count
        let children = (first..<first + (self.natures[task]?.children ?? 0)).map { TaskID("t\($0)") }
        let parent = RunningTask(task: task, engine: uuid)
        self.unfinishedChildren[parent] = Set(children)
        for child in children { self.parents[child] = parent }
        for _ in children { self.submit(within: task) }
    }

    private mutating func awaken(_ task: TaskID, on uuid: EngineUUID) {
        guard self.engines[uuid]?.aside.remove(task) != nil, let engine = self.engines[uuid] else { return }
        self.post(.goesOn(task, on: uuid), from: uuid)
        self.engines[uuid]?.resumed.insert(task)
        // The task goes behind the task that runs, and before the tasks that have not begun.
        self.engines[uuid]?.queue.insert(task, at: min(1, engine.queue.count))
        if engine.queue.isEmpty { self.start(task, on: uuid) }
    }

    private mutating func complete(_ task: TaskID, on uuid: EngineUUID) {
        guard let engine = self.engines[uuid], engine.queue.first == task, let nature = self.natures[task] else { return }
        self.engines[uuid]?.queue.removeFirst()
        self.engines[uuid]?.resumed.remove(task)
        if engine.queue.count > 1 { self.start(engine.queue[1], on: uuid) }
        var reply = TaskReply(to: task, from: uuid, .ok)
        if nature.requiresModule, !engine.hasModule {
            reply = TaskReply(to: task, from: uuid, .error, dependenciesMet: false, lacks: "gurobipy")
            self.refusals[task, default: []].insert(uuid)
        } else if !self.isWindingUp {
            let isRefused = nature.refusals > 0 && !engine.isPushed
            if isRefused { self.natures[task]?.refusals -= 1 }
            if isRefused || self.chance(nature.refusedIn100) {
                self.refusals[task, default: []].insert(uuid)
                reply = TaskReply(to: task, from: uuid, .error, dependenciesMet: false)
            } else if self.chance(nature.failsIn100) {
                reply.status = .error
            } else if self.chance(nature.abortsIn100) {
                reply.status = .aborted
            }
        }
        self.post(.replied(reply), from: uuid)
        // Failures are not repeated: if the engine tries the task again, a repeated failure looks like a second failure.
        if reply.status == .ok, self.chance(3) { self.post(.replied(reply), from: uuid) }
    }

    private mutating func giveBack(_ tasks: [TaskID], from uuid: EngineUUID) {
        guard let engine = self.engines[uuid] else { return }
        let given = engine.queue.dropFirst().filter { tasks.contains($0) && !engine.resumed.contains($0) }
        self.engines[uuid]?.queue.removeAll { given.contains($0) }
        self.post(.recalled(Array(given), by: uuid), from: uuid)
    }

    /// Sends an event to the scheduler, after the earlier messages of the engine.
    private mutating func post(_ event: TaskScheduler.Event, from uuid: EngineUUID) {
        let arrival = max(self.now + 20_000 + self.below(60_000), self.engines[uuid]?.outboundUntil ?? 0)
        self.engines[uuid]?.outboundUntil = arrival
        self.plan(.event(event), in: arrival - self.now)
    }

    /// Sends a message to an engine, after the earlier messages to it.
    private mutating func forward(_ happening: Happening, to uuid: EngineUUID) {
        let arrival = max(self.now + 20_000 + self.below(60_000), self.engines[uuid]?.inboundUntil ?? 0)
        self.engines[uuid]?.inboundUntil = arrival
        self.plan(happening, in: arrival - self.now)
    }

    // MARK: The scheduler

    private mutating func deliver(_ event: TaskScheduler.Event) {
        // A retired or fallen engine's answers may come after its end was announced.
        if case .engineLeft(let uuid, _) = event { self.departed.insert(uuid) }
        if case .engineLeft(let uuid, _) = event, !self.givenUp.contains(uuid), self.chance(50) { self.engines[uuid] = nil }
        if case .resultFound(let input, let task) = event { self.found[task, default: []].insert(input) }
        self.effects.removeAll(keepingCapacity: true)
        self.scheduler.handle(event, at: MonotonicTime(nanoseconds: self.now), effects: &self.effects)
        self.transcript.append("\(self.now) \(event)")
        self.emptySince = self.scheduler.registeredEngines.isEmpty ? self.emptySince ?? self.now : nil
        for effect in self.effects {
            self.transcript.append("    \(effect)")
            self.perform(effect, of: event)
        }
        do {
            try self.scheduler.checkInvariants(at: MonotonicTime(nanoseconds: self.now))
        } catch {
            self.violate("\(error)")
        }
    }

    private mutating func perform(_ effect: TaskScheduler.Effect, of event: TaskScheduler.Event) {
        switch effect {
        case .send(let task, let engine): self.send(task, to: engine, again: false)
        case .sendAgain(let task, let engine): self.send(task, to: engine, again: true)
        case .relay(let task, let engine):
            guard case .replied(let reply) = event, reply.task == task, reply.engine == engine else {
                return self.violate("\(task) was answered by nobody")
            }
            if reply.status == .ok { self.succeeded.insert(task) }
            self.endedOn[task] = engine
            self.end(task)
        case .fail(let task, let failure):
            self.checkCause(failure, of: task)
            self.end(task)
        case .findResult(let input, let task):
            if self.scheduler.isLive(input) { self.violate("the result of \(input) is sought, which lives") }
            // A store may be slow, and may have deleted the result.
            let isThere = self.chance(80)
            self.plan(
                .event(isThere ? .resultFound(of: input, for: task) : .resultMissing(of: input, for: task, why: "purged")),
                in: self.below(500_000))
        case .findOutcome(let task):
            if self.scheduler.isLive(task) || self.scheduler.hasEnded(task) {
                self.violate("the end of \(task) is sought, which is known")
            }
            // The records may have lost it, or not be readable.
            let isThere = self.endings[task] == 1 && self.chance(80)
            let ended = TaskScheduler.Event.ended(task, succeeded: self.succeeded.contains(task), on: self.endedOn[task])
            self.plan(
                .event(isThere ? ended : .outcomeMissing(of: task, why: self.chance(50) ? "a disk error" : nil)),
                in: self.below(500_000))
        case .refuse(let task):
            guard case .submitted(let request) = event, request.id == task else { return self.violate("\(task) refused unasked") }
        case .recall(let tasks, let engine):
            if self.engines[engine]?.understandsRecall == false { self.violate("\(engine) does not understand recall") }
            self.forward(.recallArrives(tasks, engine), to: engine)
        case .setTimer(let time): self.timer = max(time.nanoseconds, self.now)
        }
    }

    /// Checks that the stated cause of a task's end is true.
    private mutating func checkCause(_ failure: TaskFailure, of task: TaskID) {
        let present = self.scheduler.registeredEngines
        let request = self.requests[task]
        let isTrue: Bool
        switch failure {
        case .inputFailed(let input): isTrue = self.endings[input] != 0 && !self.succeeded.contains(input)
        case .inputMissing(let input, _): isTrue = request?.inputs.contains(input) == true
        case .invalidDependency(.unknown(let other)): isTrue = !self.scheduler.isLive(other)
        case .invalidDependency(.itself), .invalidDependency(.noEnding), .invalidDependency(.unreadable): isTrue = true
        case .impossibleDependency(.ended(let other, let succeeded, _)),
            .impossibleDependency(.noneEnded(let other, let succeeded, _)):
            isTrue = self.endings[other] != 0 && self.succeeded.contains(other) == succeeded
        case .impossibleDependency(.refused(let refusals)):
            let refusing = Set(refusals.map(\.engine))
            let isOpen = request?.targets.isEmpty == true && request?.follow == nil && request?.need == nil
            isTrue =
                refusing.isSubset(of: self.refusals[task] ?? []) && refusing.isSubset(of: present)
                && (!isOpen || request?.resources.isEmpty == false
                    || (refusing.count == present.count && refusals.allSatisfy { $0.lacks != nil }))
        case .impossibleDependency(.targetsGone): isTrue = request?.targets.contains(where: present.contains) == false
        case .impossibleDependency(.ownTooLittle): isTrue = request?.resources.isEmpty == false
        case .impossibleDependency(.targetsElsewhere): isTrue = request?.targets.isEmpty == false
        case .impossibleDependency(.followsSeveral), .impossibleDependency(.followedGone): isTrue = request?.follow != nil
        case .impossibleDependency(.failedEverywhere): isTrue = (request?.timeout ?? .zero) > .zero
        case .timeout(let reason): isTrue = (request?.timeout ?? .zero) > .zero && reason != nil
        case .engineDied(let engine, _): isTrue = !present.contains(engine)
        case .noEngine(let reason):
            switch reason.cause {
            case .noneIsComing: isTrue = self.noneIsComing && present.isEmpty
            case .noneCame(let limit):
                let waited = min(self.now - (self.emptySince ?? self.now), self.now - (self.submissionTimes[task] ?? 0))
                isTrue = present.isEmpty && MonotonicTime(nanoseconds: waited) >= MonotonicTime(limit)
            }
        case .answerLost: isTrue = false
        case .aborted: isTrue = true
        }
        if !isTrue { self.violate("\(task) ended as \(failure), which is not so") }
    }

    private mutating func send(_ task: TaskID, to uuid: EngineUUID, again: Bool) {
        if self.departed.contains(uuid) { return self.violate("\(task) sent to \(uuid), which is gone") }
        if self.endings[task] != 0 { self.violate("\(task) sent after its end") }
        for input in self.requests[task]?.inputs ?? []
        where !self.succeeded.contains(input) && self.found[task]?.contains(input) != true {
            self.violate("\(task) sent without the result of \(input)")
        }
        guard let engine = self.engines[uuid] else { return }
        if engine.seen.contains(task) != again { self.violate("\(task) sent to \(uuid) as if \(again ? "again" : "new")") }
        if engine.queue.contains(task) || engine.aside.contains(task) { self.violate("\(task) sent to \(uuid), which has it") }
        self.engines[uuid]?.seen.insert(task)
        self.checkAbility(of: engine, for: task)
        self.forward(.arrival(task, uuid), to: uuid)
    }

    /// Checks that an engine that cannot run a task gets it only if no engine can, or if the task must go there.
    private mutating func checkAbility(of engine: Engine, for task: TaskID) {
        guard let request = self.requests[task], let need = request.need, request.targets.isEmpty, request.follow == nil else {
            return
        }
        let present = self.scheduler.registeredEngines.compactMap { self.engines[$0]?.abilities }
        func can(_ abilities: EngineAbilities, _ need: TaskNeed?, amongAll present: [EngineAbilities]) -> Bool {
            switch need {
            case nil: true
            case .python: abilities.runsPython
            case .build(let build): abilities.build == build
            case .name(let name):
                abilities.functions.contains(name)
                    || (abilities.runsPython && !present.contains { $0.functions.contains(name) })
            case .limit(let need): abilities.keepsLimits && can(abilities, need, amongAll: present.filter { $0.keepsLimits })
            }
        }
        if !can(engine.abilities, need, amongAll: present), present.contains(where: { can($0, need, amongAll: present) }) {
            self.violate("\(task) sent to \(engine.uuid), which cannot run it")
        }
    }

    private mutating func end(_ task: TaskID) {
        self.endings[task, default: 0] += 1
        if let parent = self.parents.removeValue(forKey: task) {
            self.unfinishedChildren[parent]?.remove(task)
            if self.unfinishedChildren[parent]?.isEmpty == true {
                self.plan(.awakening(parent.task, parent.engine), in: 20_000 + self.below(60_000))
            }
        }
        if self.scheduler.isLive(task) { self.violate("\(task) lives after its end") }
    }
}

extension SimulatedCluster.Happening {
    /// Whether the happening is an act of this engine, or a message from or to it.
    fileprivate func isOf(_ engine: EngineUUID) -> Bool {
        switch self {
        case .arrival(_, engine), .recallArrives(_, engine), .completion(_, engine), .nesting(_, engine), .awakening(_, engine):
            true
        case .event(.recalled(_, engine)), .event(.waits(_, engine)), .event(.goesOn(_, engine)): true
        case .event(.replied(let reply)): reply.engine == engine
        default: false
        }
    }
}
