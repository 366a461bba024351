import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The task scheduler places tasks")
struct PlacementTests {
    @Test("A task goes to an engine, its reply to the client")
    func oneTask() {
        var world = Transcript()
        #expect(world.on(.engineJoined(ada, understandsRecall: false)) == [])
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.scheduler.engine(of: a) == ada)
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
        #expect(!world.scheduler.isLive(a))
    }

    @Test("A task waits until an engine has room")
    func waitsForRoom() {
        var world = Transcript(engines: [ada])
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.submit(b) == [])
        #expect(world.submit(c) == [])
        #expect(world.scheduler.whyWaiting(b) == .enginesBusy)
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(b, to: ada)])
        #expect(world.reply(b, from: ada, .error) == [.relay(b, from: ada), .send(c, to: ada)])
    }

    @Test("A task submitted before any engine waits for the first")
    func waitsForEngine() {
        var world = Transcript()
        #expect(world.submit(a) == [])
        #expect(world.scheduler.whyWaiting(a) == .noEngines)
        #expect(world.on(.engineJoined(ada, understandsRecall: false)) == [.send(a, to: ada)])
    }

    @Test("The engine used longest ago is next, a new one first of all")
    func leastRecentlyUsed() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.submit(a) == [.send(a, to: bob)])
        world.reply(a, from: bob)
        #expect(world.submit(b) == [.send(b, to: ada)])
        world.reply(b, from: ada)
        world.on(.engineJoined(eve, understandsRecall: false))
        #expect(world.submit(c) == [.send(c, to: eve)])
        #expect(world.submit(d) == [.send(d, to: bob)])
    }

    @Test("A high-water mark bounds what an engine holds")
    func highWaterMark() {
        var world = Transcript(hwm: 2, engines: [ada])
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.submit(b) == [.send(b, to: ada)])
        #expect(world.submit(c) == [])
        #expect(world.scheduler.assigned(to: ada) == [a, b])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada), .send(c, to: ada)])
        #expect(world.scheduler.assigned(to: ada) == [a, c])
    }

    @Test("A high-water mark of zero is none")
    func noHighWaterMark() {
        var world = Transcript(hwm: 0, engines: [ada, bob])
        for number in 0..<100 { #expect(world.submit(TaskID("\(number)")).count == 1) }
        #expect(world.scheduler.load(of: ada) == 50)
        #expect(world.scheduler.load(of: bob) == 50)
    }

    @Test("The least loaded engine is chosen")
    func leastLoad() {
        var world = Transcript(hwm: 0, engines: [bob, ada])
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.submit(b) == [.send(b, to: bob)])
        #expect(world.submit(c) == [.send(c, to: ada)])
        world.reply(a, from: ada)
        world.reply(c, from: ada)
        #expect(world.submit(d) == [.send(d, to: ada)])
    }

    @Test("Scheme lru chooses by use alone")
    func lru() {
        var world = Transcript(hwm: 0, scheme: .lru, engines: [bob, ada])
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.submit(b) == [.send(b, to: bob)])
        #expect(world.submit(c) == [.send(c, to: ada)])
        world.reply(a, from: ada)
        world.reply(c, from: ada)
        #expect(world.submit(d) == [.send(d, to: bob)])
    }

    @Test(
        "Random schemes use every engine, and idle ones before others",
        arguments: [TaskScheduler.Scheme.plainrandom, .twobin, .weighted])
    func randomSchemes(scheme: TaskScheduler.Scheme) {
        var world = Transcript(hwm: 4, scheme: scheme, engines: [ada, bob, eve])
        for number in 0..<12 { #expect(world.submit(TaskID("\(number)")).count == 1) }
        #expect(world.submit(a) == [])
        for engine in [ada, bob, eve] { #expect(world.scheduler.load(of: engine) == 4) }
    }

    @Test("Targets limit the choice of engines")
    func targets() {
        var world = Transcript(engines: [ada, bob, eve])
        #expect(world.submit(a, targets: [ada]) == [.send(a, to: ada)])
        #expect(world.submit(b, targets: [ada]) == [])
        #expect(world.scheduler.whyWaiting(b) == .targetsBusy([ada]))
        #expect(world.submit(c, targets: [ada, bob]) == [.send(c, to: bob)])
        #expect(world.submit(d) == [.send(d, to: eve)])
        #expect(world.reply(c, from: bob) == [.relay(c, from: bob)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(b, to: ada)])
    }

    @Test("Targets that are gone make a task impossible, whether it comes before or after")
    func impossibleTargets() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.submit(a, targets: [eve]) == [.fail(a, .impossibleDependency(.targetsGone))])
        #expect(world.submit(b, targets: [ada]) == [.send(b, to: ada)])
        #expect(world.submit(c, targets: [ada]) == [])
        #expect(world.on(.engineLeft(ada)) == [.fail(b, .engineDied(ada)), .fail(c, .impossibleDependency(.targetsGone))])
    }

    @Test("The queue is first in, first out, under any mix of conditions")
    func firstInFirstOut() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        world.submit(b, targets: [ada])
        world.submit(c)
        world.submit(d, targets: [ada])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(b, to: ada)])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada), .send(c, to: ada)])
        #expect(world.reply(c, from: ada) == [.relay(c, from: ada), .send(d, to: ada)])
    }

    @Test("A higher priority leaves the queue first")
    func priority() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        world.submit(b)
        world.submit(c, priority: -1)
        world.submit(d, priority: 5)
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(d, to: ada)])
        #expect(world.reply(d, from: ada) == [.relay(d, from: ada), .send(b, to: ada)])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada), .send(c, to: ada)])
    }

    @Test("A request whose id lives or has lived is refused")
    func duplicates() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        #expect(world.submit(a) == [.refuse(a)])
        world.reply(a, from: ada)
        #expect(world.submit(a) == [.refuse(a)])
    }

    @Test("An answer from an engine that does not have the task changes nothing")
    func strayReplies() {
        var world = Transcript(engines: [bob, ada])
        #expect(world.reply(a, from: ada) == [])
        world.submit(a)
        #expect(world.reply(a, from: bob) == [])
        #expect(world.reply(a, from: eve) == [])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
        #expect(world.reply(a, from: ada) == [])
        #expect(world.scheduler.strayReplies == 4)
    }

    @Test("An engine that joins twice has joined once")
    func joinsTwice() {
        var world = Transcript(engines: [ada, ada])
        #expect(world.scheduler.engineList == [ada])
        world.submit(a)
        #expect(world.on(.engineJoined(ada, understandsRecall: true)) == [])
        #expect(world.submit(b) == [])
    }

    // MARK: Resources

    @Test("A task that needs something runs on an engine that owns enough of it")
    func resources() {
        var world = Transcript()
        world.on(.engineJoined(ada, understandsRecall: true))
        world.on(.engineJoined(bob, understandsRecall: true, resources: ["gpu": 1]))
        world.on(.engineJoined(eve, understandsRecall: true, resources: ["gpu": 2, "memory": 64]))
        #expect(world.on(.submitted(TaskRequest(a, resources: ["gpu": 2]))) == [.send(a, to: eve)])
        #expect(world.on(.submitted(TaskRequest(b, resources: ["gpu": 1]))) == [.send(b, to: bob)])
        #expect(world.on(.submitted(TaskRequest(c, resources: ["gpu": 1]))) == [], "ada has nothing to do, and no gpu")
        #expect(world.scheduler.whyWaiting(c) == .targetsBusy([bob, eve]))
        #expect(world.reply(a, from: eve) == [.relay(a, from: eve), .send(c, to: eve)])
    }

    @Test("Where no engine owns enough, a task waits for one, unless it names engines that never will")
    func missingResources() {
        var world = Transcript(engines: [ada])
        #expect(world.on(.submitted(TaskRequest(a, resources: ["gpu": 1]))) == [])
        #expect(world.scheduler.whyWaiting(a) == .noEngineOwns(["gpu": 1]))
        #expect(
            world.on(.submitted(TaskRequest(b, targets: [ada], resources: ["gpu": 1]))) == [
                .fail(b, .impossibleDependency(.ownTooLittle(["gpu": 1])))
            ])
        #expect(world.on(.engineJoined(bob, understandsRecall: true)) == [])
        #expect(world.on(.engineJoined(eve, understandsRecall: true, resources: ["gpu": 1])) == [.send(a, to: eve)])
        world.on(.submitted(TaskRequest(c, resources: ["gpu": 1])))
        world.on(.engineLeft(eve))
        #expect(world.scheduler.whyWaiting(c) == .noEngineOwns(["gpu": 1]))
        let next = EngineUUID("next")
        #expect(world.on(.engineJoined(next, understandsRecall: true, resources: ["gpu": 4])) == [.send(c, to: next)])
    }
}
