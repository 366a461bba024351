import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("Tasks that wait for tasks of their own")
struct WaitingTests {
    @Test("An engine whose task waits is given another, and the task's own go first")
    func room() {
        var world = Transcript(engines: [ada])
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.submit(b) == [])
        #expect(world.on(.submitted(TaskRequest(c, depth: 1))) == [])
        #expect(world.on(.waits(a, on: ada)) == [.send(c, to: ada)])
        #expect(world.reply(c, from: ada) == [.relay(c, from: ada), .send(b, to: ada)])
        #expect(world.on(.goesOn(a, on: ada)) == [])
        #expect(world.submit(d) == [])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(d, to: ada)])
    }

    @Test("When all engines wait, none waits for ever", arguments: [nil, 1, 2, 0])
    func recursion(hwm: Int?) {
        var world = Transcript(hwm: hwm, engines: [ada, bob])
        var waiting: [(TaskID, EngineUUID)] = []
        var task = TaskID("0")
        for depth in 1..<50 {
            let effects = world.on(.submitted(TaskRequest(task, depth: depth)))
            guard case .send(task, let engine)? = effects.first else { return #expect(Bool(false), "\(task) waits: \(effects)") }
            world.on(.waits(task, on: engine))
            waiting.append((task, engine))
            task = TaskID("\(depth)")
        }
        for (task, engine) in waiting.reversed() {
            world.on(.goesOn(task, on: engine))
            #expect(world.reply(task, from: engine) == [.relay(task, from: engine)])
        }
    }

    @Test("What an engine says of a task that it does not have, or says twice, changes nothing")
    func nonsense() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        #expect(world.on(.waits(a, on: ada)) == [])
        #expect(world.on(.waits(b, on: bob)) == [])
        #expect(world.on(.goesOn(a, on: bob)) == [])
        world.on(.waits(a, on: bob))
        world.on(.waits(a, on: bob))
        #expect(world.scheduler.load(of: bob) == 0)
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob)])
        #expect(world.on(.goesOn(a, on: bob)) == [])
    }

    @Test("An engine dies with the tasks that wait there; one that says goodbye may still answer them")
    func death() {
        var world = Transcript(engines: [ada, bob])
        world.on(.submitted(TaskRequest(a, retries: 1)))
        world.on(.waits(a, on: bob))
        #expect(world.on(.engineLeft(bob)) == [.send(a, to: ada)])
        world.on(.waits(a, on: ada))
        let due = world.now + .seconds(5)
        #expect(world.on(.engineRetired(ada)) == [.setTimer(due)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
        #expect(world.scheduler.engineList == [])
    }

    @Test("Deeper tasks go before others of their priority, and after those of a higher one")
    func order() {
        var world = Transcript(hwm: 1, engines: [])
        for (task, priority, depth) in [(a, 0, 0), (b, 0, 1), (c, 1, 0), (d, 0, 3), (e, 0, 1)] {
            world.on(.submitted(TaskRequest(task, priority: priority, depth: depth)))
        }
        #expect(world.on(.engineJoined(ada, understandsRecall: true)) == [.send(c, to: ada)])
        for (last, next) in [(c, d), (d, b), (b, e), (e, a)] {
            #expect(world.reply(last, from: ada) == [.relay(last, from: ada), .send(next, to: ada)])
        }
    }
}
