import ApusCore
import Testing

/// Everything around a session: processes, the worker, timers and threads that write, which may do whatever they can at any time.
private struct KernelWorld {
    private(set) var session: KernelSession
    private(set) var problems: [String] = []
    /// Starts that were ordered and are not reported.
    private var orders = 1
    private var processes: Set<Int> = []
    private var lastProcess = 0
    /// Processes that are being written to.
    private var writes: Set<Int> = []
    private var timers: Set<KernelSession.Timer> = []
    private(set) var lastRequest = 0
    /// The process that each request was handed to.
    private var handed: [Int: Int] = [:]
    private(set) var ends: [Int: Int] = [:]
    private var now = 0
    private var isStopped = false

    init(_ options: KernelSession.Options = .init()) { self.session = KernelSession(options: options) }

    private var moment: MonotonicTime { MonotonicTime(.milliseconds(self.now)) }

    /// Every event that can come now. Late ones are among them: of processes that are gone, of timers of requests that have ended.
    var possibleEvents: [KernelSession.Event] {
        var events: [KernelSession.Event] = [
            .connected, .clearAsked, .interruptAsked(request: nil), .interruptAsked(request: self.lastRequest), .restartAsked,
            .stopAsked,
        ]
        if self.session.request == nil {
            events.append(.requested(.init(number: self.lastRequest + 1, isQuiet: false)))
            events.append(.requested(.init(number: self.lastRequest + 1, limit: 1)))
        }
        if self.orders > 0 { events += [.started(process: self.lastProcess + 1), .startFailed("no memory")] }
        events += self.writes.sorted().map { .written(process: $0) }
        for process in max(1, self.lastProcess - 1)..<max(1, self.lastProcess + 1) {
            let sayings: [KernelSession.Saying] = [
                .ready(at: self.moment), .begun, .missedInterrupt, .published(place: 0), .published(place: 1), .leaves,
                .replied(stopsOthers: false), .replied(stopsOthers: true),
            ]
            events += sayings.map { .said($0, by: process) }
            events += [false, true].map { .ended(process: process, how: "a fault", isTorn: $0, at: self.moment) }
            events.append(.timerFired(.linger(process: process)))
        }
        for request in max(1, self.lastRequest - 1)..<max(1, self.lastRequest + 1) {
            events += [.limit(request: request), .grace(request: request), .interruptAgain(request: request)].map {
                .timerFired($0)
            }
        }
        return events
    }

    mutating func bring(_ event: KernelSession.Event) {
        self.now += 100
        switch event {
        case .requested(let request): self.lastRequest = request.number
        case .started(let process):
            self.orders -= 1
            self.lastProcess = process
            self.processes.insert(process)
        case .startFailed: self.orders -= 1
        case .written(let process): self.writes.remove(process)
        case .ended(let process, _, _, _): self.processes.remove(process)
        case .timerFired(let timer): self.timers.remove(timer)
        case .stopAsked: self.isStopped = true
        case .connected, .clearAsked, .interruptAsked, .restartAsked, .said: break
        }
        for effect in self.session.handle(event) { self.perform(effect) }
        do { try self.session.checkInvariants() } catch { self.note("\(error)") }
    }

    private mutating func note(_ problem: String) { self.problems.append(problem) }

    private mutating func perform(_ effect: KernelSession.Effect) {
        switch effect {
        case .start:
            self.orders += 1
            if self.isStopped { self.note("a start after the stop") }
            if self.orders > 1 || !self.processes.isEmpty { self.note("a process beside another") }
        case .cancelStart, .report: break
        case .write(let pieces, let process):
            if !self.writes.insert(process).inserted { self.note("two threads write to process \(process)") }
            for case .request(let request) in pieces {
                if request != self.session.request { self.note("request \(request) is written after its end") }
                if let other = self.handed.updateValue(process, forKey: request) {
                    self.note("request \(request) was handed to process \(other) and to \(process)")
                }
            }
        case .interrupt(let process):
            // What the process runs at this moment is what was handed to it and is not answered.
            if !self.processes.contains(process) { self.note("an interrupt for process \(process), which is gone") }
        case .kill(let process), .letGo(let process, _):
            if !self.processes.contains(process) { self.note("an end for process \(process), which is gone") }
        case .startTimer(let timer, _): self.timers.insert(timer)
        case .stopTimer(let timer): self.timers.remove(timer)
        case .tellBusy(let request):
            if self.ends[request] != nil { self.note("busy after the end of request \(request)") }
        case .publish(let request):
            if request < 1 || request > self.lastRequest { self.note("output for request \(request)") }
        case .answer(let request, let answer, _):
            self.ends[request, default: 0] += 1
            if case .asPythonSays = answer, self.handed[request] == nil {
                self.note("request \(request) was answered and never handed")
            }
            if self.timers.contains(.limit(request: request)) || self.timers.contains(.grace(request: request)) {
                self.note("the limit of request \(request) is watched after its end")
            }
        }
    }

    /// Ends everything as an engine does, in an order that can occur.
    mutating func end() {
        self.bring(.stopAsked)
        for process in self.processes.sorted() { self.bring(.ended(process: process, how: "", isTorn: false, at: self.moment)) }
        if self.session.request != nil { self.note("request \(self.session.request ?? 0) is still open") }
        for request in stride(from: 1, through: self.lastRequest, by: 1) where self.ends[request] != 1 {
            self.note("request \(request) ended \(self.ends[request] ?? 0) times")
        }
    }

    var state: String { String(self.session.description.prefix { $0 != "," }) }
}

@Suite("A kernel, whatever happens and whenever")
struct KernelWalkTests {
    @Test("Every request ends exactly once", arguments: UInt64(0)..<200)
    func walk(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var options = KernelSession.Options()
        options.restarts = seed % 5 != 0
        var world = KernelWorld(options)
        for _ in 0..<200 {
            // Few walks would get far with a stop, an end or a restart at every tenth step.
            let events = world.possibleEvents.filter { event in
                switch event {
                case .stopAsked: Int.random(in: 0..<100, using: &generator) == 0
                case .startFailed, .ended, .restartAsked, .said(.leaves, _): Int.random(in: 0..<5, using: &generator) == 0
                default: true
                }
            }
            if let event = events.randomElement(using: &generator) { world.bring(event) }
        }
        world.end()
        #expect(world.problems == [], "replay: seed \(seed)")
    }

    @Test("Each state takes each event, and ends its request all the same")
    func everyEventInEveryState() {
        var problems: Set<String> = []
        var followers: [String: Set<String>] = [:]
        for restarts in [true, false] {
            var options = KernelSession.Options()
            options.restarts = restarts
            var found: [String: Int] = [:]
            // One sequence of events is longer than most: a request that waits and is interrupted before Python is up.
            var early = KernelWorld(options)
            early.bring(.requested(.init(number: 1)))
            early.bring(.started(process: 1))
            early.bring(.interruptAsked(request: 1))
            early.bring(.written(process: 1))
            var pending = [KernelWorld(options), early]
            while let world = pending.popLast() {
                // So many states differ: by a request that waits or was handed over, by writes, by timers.
                guard found[world.state, default: 0] < 60 else { continue }
                found[world.state, default: 0] += 1
                for event in world.possibleEvents {
                    var next = world
                    next.bring(event)
                    followers[world.state, default: [world.state]].insert(next.state)
                    pending.insert(next, at: pending.count / 2)
                    next.end()
                    problems.formUnion(next.problems)
                }
            }
        }
        #expect(problems == [])
        // The states that each state's description says it may become, and the state itself.
        let ends: Set = ["dying", "leaving", "stopping", "launching", "failed"]
        let promised: [String: Set<String>] =
            [
                "launching": ["launching", "starting", "failed", "stopped"],
                "starting": ends.union(["starting", "idle", "handing", "running", "interrupting"]),
                "idle": ends.union(["idle", "handing", "running"]),
                "handing": ends.union(["handing", "running", "interrupting"]),
                "running": ends.union(["running", "idle", "interrupting"]),
                "interrupting": ends.union(["interrupting", "idle"]),
                "dying": ["dying", "launching", "leaving", "stopping"],
                "leaving": ["leaving", "left", "stopping"],
                "left": ["left", "stopped"],
                "stopping": ["stopping", "stopped"],
                "failed": ["failed"],
                "stopped": ["stopped"],
            ]
        #expect(Set(followers.keys) == Set(promised.keys))
        for (state, next) in followers { #expect(next.isSubset(of: promised[state, default: []]), "\(state) became \(next)") }
    }
}
