import ApusCore
import ApusWire
import Testing

/// Engines under a supervisor that die, freeze, are shut down and fail to start, from a seed; reports of launcher and hub come in
/// any order.
private struct SupervisedEngines {
    private struct Engine {
        var isAlive = true
        var isRegistered = false
        var isFrozen = false
        var wasToldToEnd = false
        /// Reports on their way to the supervisor, by sender, the oldest first.
        var launcher: [EngineSupervisor.Event] = []
        var hub: [EngineSupervisor.Event] = []
    }

    private var random: SeededGenerator
    private var supervisor: EngineSupervisor
    private var now = MonotonicTime(.seconds(1000))
    private var timer: MonotonicTime?
    private var engines: [EngineUUID: Engine] = [:]
    private let uuids = [ada, bob, eve]
    private(set) var isGivenUp = false
    private(set) var problems: [String] = []

    init(seed: UInt64) {
        self.random = SeededGenerator(seed: seed)
        var policy = EngineSupervisor.Policy()
        policy.limit = Int.random(in: 0...3, using: &self.random)
        self.supervisor = EngineSupervisor(policy)
        for uuid in self.uuids {
            self.engines[uuid] = Engine()
            self.on(.launched(uuid))
            self.register(uuid)
            self.deliverAll()
            self.on(.settled(uuid))
        }
    }

    private mutating func on(_ event: EngineSupervisor.Event) {
        for effect in self.supervisor.handle(event, at: self.now) {
            switch effect {
            case .start(let uuid):
                if self.engines[uuid]?.isAlive == true { self.problems.append("\(uuid) was started twice") }
                if Int.random(in: 0..<4, using: &self.random) == 0 {
                    self.engines[uuid]?.launcher.append(.notStarted(uuid, "could not be started"))
                } else {
                    self.engines[uuid] = Engine(launcher: self.engines[uuid]?.launcher ?? [], hub: self.engines[uuid]?.hub ?? [])
                }
            case .stop(let uuid): self.end(uuid, .stopped)
            case .noEngineIsComing:
                if self.isGivenUp { self.problems.append("told twice that none is coming") }
                self.isGivenUp = true
            case .engineIsComing:
                if !self.isGivenUp { self.problems.append("told twice that one is coming") }
                self.isGivenUp = false
            case .setTimer(let time): self.timer = time
            case .tellHub(let uuid, _): self.lose(uuid, .disconnected)
            case .failLaunch, .report: break
            }
        }
    }

    private mutating func end(_ uuid: EngineUUID, _ kind: EngineSupervisor.End.Kind) {
        guard self.engines[uuid]?.isAlive == true else { return }
        self.engines[uuid]?.isAlive = false
        self.engines[uuid]?.launcher.append(.ended(uuid, EngineSupervisor.End(kind, "ended")))
        if Bool.random(using: &self.random) { self.lose(uuid, .disconnected) }
    }

    private mutating func lose(_ uuid: EngineUUID, _ cause: EngineRegistry.Departure) {
        guard self.engines[uuid]?.isRegistered == true else { return }
        self.engines[uuid]?.isRegistered = false
        let hadWork = Bool.random(using: &self.random)
        self.engines[uuid]?.hub.append(.left(uuid, EngineSupervisor.Departure(cause, hadWork: hadWork)))
    }

    private mutating func register(_ uuid: EngineUUID) {
        guard let engine = self.engines[uuid], engine.isAlive, !engine.isRegistered, !engine.isFrozen, !engine.wasToldToEnd else {
            return
        }
        self.engines[uuid]?.isRegistered = true
        self.engines[uuid]?.hub.append(.joined(uuid, EngineID(self.uuids.firstIndex(of: uuid) ?? 9)))
    }

    mutating func doAnything() {
        let uuid = self.uuids.randomElement(using: &self.random) ?? ada
        switch Int.random(in: 0..<12, using: &self.random) {
        case 0: self.end(uuid, .died)
        case 1: self.end(uuid, .clean)
        case 2:
            if self.engines[uuid]?.isAlive == true { self.engines[uuid]?.wasToldToEnd = true }
            self.lose(uuid, .shutDown)
        case 3:
            self.engines[uuid]?.isFrozen.toggle()
            self.lose(uuid, .heartStopped)
        case 4 where Int.random(in: 0..<10, using: &self.random) == 0: self.on(.restartWanted(uuid))
        case 5, 6: self.pass(.milliseconds(Int.random(in: 0..<20_000, using: &self.random)))
        case 7, 8: self.register(uuid)
        default: self.deliver(uuid)
        }
    }

    private mutating func deliver(_ uuid: EngineUUID) {
        let fromHub = Bool.random(using: &self.random)
        if fromHub, let event = self.engines[uuid]?.hub.first {
            self.engines[uuid]?.hub.removeFirst()
            self.on(event)
        } else if let event = self.engines[uuid]?.launcher.first {
            self.engines[uuid]?.launcher.removeFirst()
            self.on(event)
        }
    }

    private mutating func deliverAll() {
        while let uuid = self.uuids.first(where: {
            self.engines[$0]?.hub.isEmpty == false || self.engines[$0]?.launcher.isEmpty == false
        }) {
            self.deliver(uuid)
        }
    }

    /// Lets time pass, and the timer fire when it is due.
    private mutating func pass(_ span: Duration) {
        let end = self.now + span
        while let timer, timer <= end {
            self.now = max(self.now, timer)
            self.timer = nil
            self.on(.timerFired)
        }
        self.now = end
    }

    /// Lets everything come to rest: all reports arrive, frozen engines go on, those told to end do, and the others register.
    mutating func comeToRest() {
        for _ in 0..<100 {
            for uuid in self.uuids {
                self.engines[uuid]?.isFrozen = false
                if self.engines[uuid]?.wasToldToEnd == true { self.end(uuid, .clean) }
                self.register(uuid)
            }
            self.deliverAll()
            self.pass(.seconds(30))
        }
    }

    /// How many engines run and are registered, and how many the supervisor waits for that do not.
    var registered: Int { self.engines.values.count { $0.isAlive && $0.isRegistered } }
    var alive: Int { self.engines.values.count { $0.isAlive } }
}

extension EngineSupervisorTests {
    @Test(
        "Whatever dies, freezes or does not start, in the end each engine runs or is given up, and all hear of the last",
        arguments: UInt64(0)..<300)
    func whatever(seed: UInt64) {
        var world = SupervisedEngines(seed: seed)
        for _ in 0..<200 { world.doAnything() }
        world.comeToRest()
        #expect(world.problems == [], "replay: seed \(seed)")
        #expect(world.registered == world.alive, "replay: seed \(seed)")
        #expect(world.isGivenUp == (world.alive == 0), "replay: seed \(seed)")
    }
}
