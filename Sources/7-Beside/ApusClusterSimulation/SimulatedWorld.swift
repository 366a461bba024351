internal import ApusClient
internal import ApusController
internal import ApusCore
internal import ApusTransport
internal import ApusWire
internal import Locks
internal import Logging
internal import NIOCore

/// A whole cluster in one thread, from one seed: the real controller, engines and clients, with a simulated network and clock.
///
/// Engines die, are told to end, are slow, and pause until they are given up. Connections of clients are cut. Controllers are
/// killed and started again, and changes that were not flushed may be lost from their disk. Messages are late or come twice.
/// Clients send maps and requests of all views, with dependencies, retries, time-outs, run limits, resources and results as
/// arguments; they abort requests, query the hub, and have it forget tasks. Functions submit tasks of their own. Everything that
/// happens follows from the seed.
///
/// These promises are checked. Every request ends once, with the right value or an error that an earlier misfortune excuses. No
/// function runs more often than its retries allow, beyond its run limit, or on an engine that lacks the resource it needs. No
/// answer of an engine that was given up is passed on. When all requests have ended, nothing is pending at the controller, every
/// record is finished, the recorded results are the values that clients got, and a new client is served. A world that is told to
/// stop becomes quiet. After every fourth thing that happens in a process, the process's invariants hold.
public struct SimulatedWorld: Sendable {
    /// The number from which everything in the world follows.
    public let seed: UInt64
    /// Everything that happened, in one line each.
    public let story: [String]
    /// The first promise that was broken, in a sentence; nil if none was.
    public let problem: String?

    /// Whether this system can simulate such worlds.
    public static var isPossible: Bool { VirtualTime.isPossible }

    /// Runs the world of a seed to its end.
    ///
    /// - Parameters:
    ///   - traces: Whether the story has a line for each message, too.
    ///   - isHarsh: Whether faults happen that are known to break promises: connections of engines are cut, which loses tasks for
    ///     good.
    public static func run(seed: UInt64, traces: Bool = false, isHarsh: Bool = false) -> SimulatedWorld {
        Self.prepare
        return VirtualTime.run(seed: seed) { time in
            var nature = WorldNature(time)
            nature.isHarsh = isHarsh
            if isHarsh { nature.engineCuts = 3 }
            let life = WorldLife(time, nature, traces: traces)
            life.run()
            let chronicle = life.chronicle
            return SimulatedWorld(seed: seed, story: chronicle.story, problem: chronicle.violations.first)
        }
    }
}

extension SimulatedWorld {
    /// Runs a world before the first one: values that a process makes only once must not take random numbers from a later world.
    private static let prepare: Void = VirtualTime.run(seed: 0) { WorldLife($0, WorldNature(), traces: false).run() }
}

/// The size of a world, and the faults that happen in it.
struct WorldNature: Sendable {
    var engines = 1
    var clients = 1
    var requests = 20
    var engineDeaths = 0
    var hangs = 0
    var clientCuts = 0
    var engineCuts = 0
    var controllerDeaths = 0
    var hasAborts = false
    /// The percentage of answers that an engine follows with a lie.
    var lies = 0
    /// The percentage of requests that a client sends twice.
    var stutters = 0
    /// Whether faults happen that are known to break promises.
    var isHarsh = false
    /// Whether only some engines own the scarce resource.
    var hasOwners = false
    /// Whether engines may take seconds for a task.
    var hasSlowEngines = false
    /// Whether the store is durable: a controller's death may then lose changes that were not flushed.
    var isDurable = false
    /// Whether clients begin before there are engines.
    var isHasty = false
    var conditions = SimulatedNetwork.Conditions()

    /// A small world without faults.
    init() {}

    init(_ time: VirtualTime) {
        self.engines = 1 + Int(time.below(4))
        self.clients = 1 + Int(time.below(3))
        self.requests = 5 + Int(time.below(25))
        self.conditions.latency = [100_000, 1_000_000, 20_000_000][Int(time.below(3))]
        self.isDurable = time.chance(50)
        self.hasOwners = time.chance(50)
        // Some worlds have no faults.
        if time.chance(20) { return }
        func sometimes(_ percent: Int, _ count: Int64) -> Int { time.chance(percent) ? 1 + Int(time.below(count)) : 0 }
        self.conditions.replays = sometimes(50, 20)
        self.engineDeaths = sometimes(50, 5)
        self.hangs = sometimes(40, 4)
        self.clientCuts = sometimes(40, 6)
        self.controllerDeaths = sometimes(25, 2)
        self.hasAborts = time.chance(40)
        self.hasSlowEngines = time.chance(30)
        self.lies = sometimes(30, 30)
        self.stutters = sometimes(30, 30)
        self.isHasty = time.chance(30)
    }
}

/// Runs one world: starts its processes, causes the faults, and checks the end.
final class WorldLife: Sendable {
    let chronicle: Chronicle
    let time: VirtualTime
    let nature: WorldNature
    private let surroundings: Surroundings
    private let remains: SimulatedController.Remains
    private let state: Mutex<State>
    private let isOver = Flag()
    /// Load-balanced tasks that ended well, and their values.
    let results = Mutex<[(TaskID, Int)]>([])
    /// Tasks that clients have asked the hub to forget.
    private let forgotten = Mutex<Set<TaskID>>([])

    private struct State {
        var options: ControllerOptions
        var controller: SimulatedController?
        var engines: [SimulatedEngine] = []
        var clients: [SimulatedClient] = []
    }

    /// The longest wait before a fault happens, in nanoseconds.
    private static let span: Int64 = 8_000_000_000
    /// The time limit of a world until it is over, and again until it is quiet, in nanoseconds.
    private static let end: Int64 = 900_000_000_000

    init(_ time: VirtualTime, _ nature: WorldNature, traces: Bool) {
        self.time = time
        self.nature = nature
        self.chronicle = Chronicle(time)
        self.surroundings = Surroundings(
            time, SimulatedNetwork(time, nature.conditions, self.chronicle, traces: traces), self.chronicle)
        self.remains = SimulatedController.Remains(SimulatedDisk(time, isDurable: nature.isDurable))
        var options = ControllerOptions()
        options.heartbeatPeriod = 500
        options.maximumMisses = 4
        let schemes = ControllerOptions.schemes.filter { $0 != "none" && $0 != "pure" }
        options.scheme = schemes[Int(time.below(Int64(schemes.count)))]
        options.highWaterMark = [nil, nil, 0, 1, 2][Int(time.below(5))]
        options.broadcastDepth = Int(time.below(3))
        options.key = "key"
        options.location = "localhost"
        options.username = "world"
        self.state = Mutex(State(options: options))
        self.chronicle.note("\(self.nature)")
    }

    func run() {
        let start = self.time.nanoseconds
        Task {
            do { try await self.live() } catch { self.chronicle.violate("the world could not live: \(error)") }
            await self.stop()
            self.isOver.set()
        }
        while self.time.turn(until: start + Self.end) { if self.isOver.isSet { break } }
        if !self.isOver.isSet {
            for request in self.chronicle.unfinished {
                self.chronicle.violate("request \(request.number) never ends: \(request.text)")
            }
            return self.chronicle.violate("the world never ends")
        }
        // All processes were told to stop; the work that is left must end by itself.
        let stop = self.time.nanoseconds
        let before = self.time.happened
        while self.time.turn(until: stop + Self.end) {
            if self.time.happened - before > 100_000 { break }
        }
        if self.time.turn() { self.chronicle.violate("the world does not become quiet") }
    }

    private func live() async throws {
        try await self.startController()
        for index in 0..<self.nature.engines {
            try self.startEngine(isOwner: !self.nature.hasOwners || index == 0 || self.time.chance(30))
        }
        for _ in 0..<self.nature.clients { try await self.startClient() }
        if self.nature.isHasty {
            self.chronicle.note(.engine, "clients begin before there are engines")
        } else {
            for client in self.state.withLock({ $0.clients }) {
                try await client.client.waitForEngines(self.nature.engines, timeout: .seconds(60))
            }
        }
        await withTaskGroup { group in
            group.addTask { await self.afflict() }
            let numbers = Counter()
            for client in self.state.withLock({ $0.clients }) {
                group.addTask { await ClientScript(client, self, numbers).run() }
            }
        }
        try await self.settle()
    }

    /// Notes that a client is about to ask the hub to forget the task.
    func noteForgotten(_ task: TaskID) {
        self.chronicle.note("task \(task) is to be forgotten")
        self.forgotten.withLock { _ = $0.insert(task) }
    }

    func isForgotten(_ task: TaskID) -> Bool { self.forgotten.withLock { $0.contains(task) } }

    /// Sleeps for a random number of nanoseconds below the bound.
    func pause(below bound: Int64) async { try? await Task.sleep(for: .nanoseconds(self.time.below(bound))) }

    // MARK: Processes

    private func startController() async throws {
        let options = self.state.withLock { $0.options }
        let controller = try await SimulatedController(self.surroundings, options, self.remains)
        self.state.withLock { state in
            state.controller = controller
            state.options = controller.successor(of: options)
        }
    }

    private func startEngine(isOwner: Bool) throws {
        guard let controller = self.state.withLock({ $0.controller }) else { return }
        let engine = try SimulatedEngine(
            self.surroundings, controller.engineInfo, lies: self.nature.lies, isOwner: isOwner,
            mayBeSlow: self.nature.hasSlowEngines)
        self.state.withLock { $0.engines.append(engine) }
    }

    private func startClient() async throws {
        guard let controller = self.state.withLock({ $0.controller }) else { return }
        let client = try await SimulatedClient(
            self.surroundings, controller.clientInfo, stutters: self.nature.stutters)
        self.state.withLock { $0.clients.append(client) }
    }

    private func anyEngine() -> SimulatedEngine? {
        let alive = self.state.withLock { $0.engines }.filter { $0.isAlive }
        return alive.isEmpty ? nil : alive[Int(self.time.below(Int64(alive.count)))]
    }

    // MARK: Misfortune

    private func afflict() async {
        await withTaskGroup { group in
            func plan(_ count: Int, _ happen: @escaping @Sendable () async throws -> Void) {
                for _ in 0..<count {
                    group.addTask {
                        await self.pause(below: Self.span)
                        do { try await happen() } catch { self.chronicle.violate("\(error)") }
                    }
                }
            }
            plan(self.nature.engineDeaths) {
                guard let engine = self.anyEngine() else { return }
                if self.time.chance(30) { engine.terminate() } else { engine.kill() }
                await self.pause(below: 3_000_000_000)
                try self.startEngine(isOwner: engine.isOwner)
            }
            plan(self.nature.hangs) { self.anyEngine()?.hang(for: self.time.below(6_000_000_000)) }
            plan(self.nature.clientCuts) {
                let clients = self.state.withLock { $0.clients }
                clients[Int(self.time.below(Int64(clients.count)))].cut(all: self.time.chance(50))
            }
            plan(self.nature.engineCuts) { self.anyEngine()?.cut() }
            group.addTask {
                for _ in 0..<self.nature.controllerDeaths {
                    await self.pause(below: Self.span)
                    self.state.withLock { $0.controller }?.kill()
                    await self.pause(below: 4_000_000_000)
                    do { try await self.startController() } catch { self.chronicle.violate("\(error)") }
                }
            }
        }
    }

    // MARK: The end

    private func settle() async throws {
        if !self.state.withLock({ $0.engines }).contains(where: { $0.isAlive && $0.isOwner }) {
            try self.startEngine(isOwner: true)
        }
        try? await Task.sleep(for: .seconds(10))
        // The client is a new one, because the earlier clients may have missed messages.
        try await self.startClient()
        guard let client = self.state.withLock({ $0.clients.last })?.client else { return }
        try await client.waitForEngines(timeout: .seconds(60))
        self.chronicle.began(0, "the last: does the cluster still work?", runs: 2)
        let value = try await client.loadBalancedView().with { $0.retries = 1 }.apply(self.surroundings.functions.double, 0, 21)
        if value != 42 { self.chronicle.violate("the last request gave \(value)") }
        self.chronicle.ended(0, "\(value)")
        // Tasks whose submitting functions died with their engines may still run, although nobody waits for them.
        var status = try await client.queueStatus()
        for _ in 0..<120 where status.unassigned > 0 || status.engines.values.contains(where: { $0.queue + $0.tasks > 0 }) {
            try? await Task.sleep(for: .seconds(1))
            status = try await client.queueStatus()
        }
        let losses = self.chronicle.losses
        // A function that submitted a task waits for ever if the task was lost.
        for (id, counts) in status.engines.sorted(by: { $0.key < $1.key })
        where counts.queue + counts.tasks > 0 && !self.chronicle.mayHaveLostInnerTasks {
            self.chronicle.violate("engine \(id) still has \(counts.queue) direct requests and \(counts.tasks) tasks")
        }
        if status.unassigned > 0 { self.chronicle.violate("\(status.unassigned) tasks still wait: \(status.waiting)") }
        for number in self.chronicle.deceived {
            self.chronicle.violate("request \(number) ended with the lie of an engine that did not have its task")
        }
        try await self.checkRecords(through: client)
        if !losses.mayLeaveRecords, !self.nature.isHarsh, let controller = self.state.withLock({ $0.controller }) {
            let unfinished = try await controller.unfinished
            if unfinished > 0 { self.chronicle.violate("\(unfinished) records of tasks are never finished") }
        }
        let clients = self.state.withLock { $0.clients }
        let before = clients.map { $0.client.outstanding }
        // A client that asks the hub again and again has a question outstanding now and then, never the same one.
        if before.contains(where: { !$0.isEmpty }) { try? await Task.sleep(for: .seconds(5)) }
        for (client, before) in zip(clients, before) {
            let waiting = client.client.outstanding.filter {
                before.contains($0) && !self.chronicle.wasLostAtEngine($0) && !losses.mayWaitForEver([$0])
                    && !(self.chronicle.isNested($0) && self.chronicle.mayHaveLostInnerTasks)
            }.map { $0.text }.sorted()
            if !waiting.isEmpty { self.chronicle.violate("\(client.name) still waits for \(waiting)") }
        }
    }

    /// Checks that the hub's results are the values that clients got. A store in memory may lose its results with its controller; a
    /// durable store must keep them.
    private func checkRecords(through client: Client) async throws {
        if self.chronicle.has(.controller), !self.nature.isDurable { return }
        for (task, value) in self.results.withLock({ $0 }) {
            let recorded = try await client.getResult(task, as: Int.self).value(timeout: .seconds(60))
            if recorded != value {
                self.chronicle.violate("the hub has \(recorded) as the result of \(task), which gave \(value)")
            }
        }
    }

    private func stop() async {
        // The world drops its references to the processes, because a service lives as long as it is referenced.
        let (controller, engines, clients) = self.state.withLock { state in
            defer { (state.controller, state.engines, state.clients) = (nil, [], []) }
            return (state.controller, state.engines, state.clients)
        }
        for client in clients { await client.client.close(linger: .zero) }
        for engine in engines { await engine.stop() }
        await controller?.stop()
    }

    var functions: SimulatedFunctions { self.surroundings.functions }
}
