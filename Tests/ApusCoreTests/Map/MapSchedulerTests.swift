import ApusCore
import Testing

/// Engines that take tasks of a map in turn, on a clock of numbers.
private struct MapWorld {
    var scheduler: MapScheduler
    let engines: Int
    /// How long the call of an element takes.
    let microseconds: (Int) -> Double
    var bytes: (Int) -> Int = { _ in 10 }
    /// A task that has run this long gives the rest of its calls back.
    var slice = Double.infinity

    /// When each engine is free again.
    private var free: [Double] = []
    private(set) var sent: [Range<Int>] = []
    private(set) var outcomes: [Int]
    private(set) var mostUnderWay = 0
    private(set) var isFinished = false
    /// How long each task takes besides its calls.
    private static let overhead = 40.0

    init(count: Int, engines: Int, sizing: MapScheduler.Sizing = .measured, _ microseconds: @escaping (Int) -> Double) {
        self.scheduler = MapScheduler(count: count, sizing: sizing)
        self.engines = engines
        self.microseconds = microseconds
        self.outcomes = Array(repeating: 0, count: count)
        self.free = Array(repeating: 0, count: engines)
    }

    /// Runs the map to its end and gives how long that took.
    mutating func run() -> Double {
        var queue: [Range<Int>] = []
        var running: [(engine: Int, end: Double, elements: Range<Int>, calls: Int, cost: Double)] = []
        var now = 0.0
        func perform(_ effects: [MapScheduler.Effect], _ world: inout MapWorld) {
            for effect in effects {
                switch effect {
                case .send(let elements):
                    world.sent.append(elements)
                    queue.append(elements)
                case .finish: world.isFinished = true
                }
            }
            world.mostUnderWay = max(world.mostUnderWay, queue.count + running.count)
        }
        perform(self.scheduler.handle(.engines(self.engines)), &self)
        while !queue.isEmpty || !running.isEmpty {
            for engine in 0..<self.engines where !queue.isEmpty && !running.contains(where: { $0.engine == engine }) {
                let elements = queue.removeFirst()
                var (cost, calls) = (Self.overhead, 0)
                for element in elements {
                    if calls > 0, cost > self.slice { break }
                    cost += self.microseconds(element)
                    calls += 1
                }
                running.append((engine, max(now, self.free[engine]) + cost, elements, calls, cost))
            }
            guard let next = running.indices.min(by: { running[$0].end < running[$1].end }) else { break }
            let ended = running.remove(at: next)
            now = ended.end
            self.free[ended.engine] = now
            for element in ended.elements.prefix(ended.calls) { self.outcomes[element] += 1 }
            let cost = MapScheduler.Cost(
                microseconds: ended.cost, bytes: ended.elements.prefix(ended.calls).reduce(0) { $0 + self.bytes($1) })
            perform(self.scheduler.handle(.ended(ended.elements, calls: ended.calls, cost: cost)), &self)
        }
        return now
    }

    var everyElementEndedOnce: Bool { self.outcomes.allSatisfy { $0 == 1 } }
}

@Suite("A map chooses how many calls a task gets")
struct MapSchedulerTests {
    @Test("At first tasks are single calls, a few for each engine")
    func startsSingle() {
        var scheduler = MapScheduler(count: 1000, sizing: .measured)
        let singles: [MapScheduler.Effect] = (0..<8).map { .send($0..<$0 + 1) }
        #expect(scheduler.handle(.engines(2)) == singles)
    }

    @Test("A map of nothing is finished at once")
    func empty() {
        var scheduler = MapScheduler(count: 0, sizing: .measured)
        #expect(scheduler.handle(.engines(2)) == [.finish])
        #expect(scheduler.handle(.engines(3)) == [])
    }

    @Test("Tasks of short calls grow fourfold")
    func growth() {
        var scheduler = MapScheduler(count: 1_000_000, sizing: .measured)
        _ = scheduler.handle(.engines(1))
        let cost = { (calls: Int) in MapScheduler.Cost(microseconds: Double(calls), bytes: calls) }
        #expect(scheduler.handle(.ended(0..<1, calls: 1, cost: cost(1))) == [.send(4..<8)])
        #expect(scheduler.handle(.ended(1..<2, calls: 1, cost: cost(1))) == [.send(8..<12)])
        #expect(scheduler.handle(.ended(4..<8, calls: 4, cost: cost(4))) == [.send(12..<28)])
    }

    @Test("Short calls cost little more than in tasks of the best size")
    func shortCalls() {
        var world = MapWorld(count: 1_000_000, engines: 2) { _ in 1 }
        let took = world.run()
        #expect(world.everyElementEndedOnce && world.isFinished)
        let best: Double = 500_000
        #expect(took < 1.05 * best)
        #expect(world.mostUnderWay <= 8, "memory is bounded")
        #expect(world.sent.allSatisfy { $0.count <= 2000 })
    }

    @Test("Long calls are tasks of their own, and all engines finish together")
    func longCalls() {
        var world = MapWorld(count: 100, engines: 4) { _ in 50_000 }
        let took = world.run()
        #expect(world.sent.allSatisfy { $0.count == 1 })
        let best: Double = 25 * 50_000
        #expect(took < 1.01 * best)
    }

    @Test("Calls that become longer on the way hold nothing up")
    func slowing() {
        var world = MapWorld(count: 10_000, engines: 2) { $0 < 9000 ? 1 : 20_000 }
        world.slice = 50_000
        let took = world.run()
        #expect(world.everyElementEndedOnce)
        let best: Double = 500 * 20_000
        #expect(took < 1.05 * best)
    }

    @Test("Large elements are sent by their size")
    func largeElements() {
        var world = MapWorld(count: 1000, engines: 2) { _ in 1 }
        world.bytes = { _ in 100_000 }
        _ = world.run()
        #expect(world.everyElementEndedOnce)
        #expect(world.sent.allSatisfy { $0.count <= 10 })
    }

    @Test("Where each call is to be a task, it is, and only so many are under way")
    func single() {
        var world = MapWorld(count: 5000, engines: 2, sizing: .single) { _ in 1 }
        _ = world.run()
        #expect(world.sent.count == 5000 && world.everyElementEndedOnce)
        #expect(world.mostUnderWay == 128)
    }

    @Test("What a task gives back is sent before what was never sent")
    func givenBack() {
        var scheduler = MapScheduler(count: 100, sizing: .measured)
        _ = scheduler.handle(.engines(1))
        let slow = MapScheduler.Cost(microseconds: 1e6, bytes: 0)
        #expect(scheduler.handle(.ended(0..<1, calls: 1, cost: nil)) == [.send(4..<5)])
        #expect(scheduler.handle(.ended(1..<4, calls: 2, cost: slow)) == [.send(3..<4)])
        #expect(scheduler.handle(.ended(3..<4, calls: 1, cost: slow)) == [.send(5..<6)])
    }

    @Test("All that was not sent is sent when it is wanted")
    func rest() {
        var scheduler = MapScheduler(count: 10, sizing: .measured)
        _ = scheduler.handle(.engines(1))
        let rest: [MapScheduler.Effect] = (4..<10).map { .send($0..<$0 + 1) }
        #expect(scheduler.handle(.restWanted) == rest)
        #expect(scheduler.waiting == 0)
        #expect(scheduler.handle(.restWanted) == [])
    }

    @Test("A stopped map sends no more, and is finished when what is under way has ended")
    func stopped() {
        var scheduler = MapScheduler(count: 100, sizing: .measured)
        #expect(scheduler.handle(.engines(1)).count == 4)
        #expect(scheduler.handle(.ended(0..<1, calls: 1, cost: nil)) == [.send(4..<5)])
        #expect(scheduler.handle(.stopped) == [])
        #expect(scheduler.handle(.restWanted) == [])
        for element in [1, 2, 4] { #expect(scheduler.handle(.ended(element..<element + 1, calls: 1, cost: nil)) == []) }
        #expect(scheduler.handle(.ended(3..<4, calls: 1, cost: nil)) == [.finish])
    }

    @Test("Absurd times change nothing but sizes", arguments: [Double.nan, .infinity, -1, 1e300, 0])
    func absurd(microseconds: Double) {
        var scheduler = MapScheduler(count: 1000, sizing: .measured)
        _ = scheduler.handle(.engines(1))
        let effects = scheduler.handle(.ended(0..<1, calls: -5, cost: .init(microseconds: microseconds, bytes: .min)))
        #expect(effects.count == 1)
    }

    @Test("Every element ends exactly once, whatever calls take", arguments: UInt64(0)..<50)
    func everyElement(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var times: [Double] = []
        for _ in 0..<3000 {
            let isLong = Int.random(in: 0..<100, using: &generator) == 0
            times.append(isLong ? 100_000 : Double.random(in: 0...500, using: &generator))
        }
        var world = MapWorld(count: 3000, engines: Int.random(in: 1...8, using: &generator)) { [times] in times[$0] }
        world.slice = 50_000
        let took = world.run()
        #expect(world.everyElementEndedOnce, "replay: seed \(seed)")
        #expect(world.isFinished)
        let least = times.reduce(0, +) / Double(world.engines)
        let most: Double = 1.5 * least + 300_000
        #expect(took < most, "replay: seed \(seed)")
    }
}
