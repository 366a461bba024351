import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The task scheduler adapts how much an engine holds")
struct AdaptiveDepthTests {
    /// Answers the engine's first task over and over, at this pace, with tasks waiting all the time.
    private func pace(_ world: inout Transcript, _ engine: EngineUUID, each span: Duration, times: Int) {
        for _ in 0..<times {
            world.wait(span)
            if let first = world.scheduler.assigned(to: engine).first { world.reply(first, from: engine) }
        }
    }

    private func submitMany(_ world: inout Transcript, _ count: Int) {
        for number in 0..<count { world.submit(TaskID("task \(number)")) }
    }

    @Test("At first an engine gets one task")
    func startsAtOne() {
        var world = Transcript(hwm: nil, engines: [ada, bob])
        self.submitMany(&world, 10)
        #expect(world.scheduler.load(of: ada) == 1)
        #expect(world.scheduler.load(of: bob) == 1)
    }

    @Test("An engine of short tasks soon holds a millisecond of them")
    func shortTasks() {
        var world = Transcript(hwm: nil, engines: [ada])
        self.submitMany(&world, 400)
        self.pace(&world, ada, each: .microseconds(20), times: 100)
        #expect((40...50).contains(world.scheduler.load(of: ada)))
    }

    @Test("An engine of long tasks holds one")
    func longTasks() {
        var world = Transcript(hwm: nil, engines: [ada])
        self.submitMany(&world, 20)
        self.pace(&world, ada, each: .milliseconds(2), times: 10)
        #expect(world.scheduler.load(of: ada) == 1)
    }

    @Test("An engine that cannot give tasks back holds one, however short they are")
    func withoutRecall() {
        var world = Transcript(hwm: nil, engines: [ada], understandRecall: false)
        self.submitMany(&world, 100)
        self.pace(&world, ada, each: .microseconds(20), times: 50)
        #expect(world.scheduler.load(of: ada) == 1)
    }

    @Test("No second task for an engine while another is idle")
    func idleFirst() {
        var world = Transcript(hwm: nil, engines: [ada])
        self.submitMany(&world, 100)
        self.pace(&world, ada, each: .microseconds(20), times: 100)
        world.on(.engineJoined(bob, understandsRecall: true))
        #expect(world.submit(a) == [.send(a, to: bob)])
        #expect(world.submit(b) == [.send(b, to: ada)])
        #expect(world.submit(c) == [.send(c, to: ada)])
    }

    @Test("Nothing queues behind a task that has run for long")
    func behindLongTask() {
        var world = Transcript(hwm: nil, engines: [ada])
        self.submitMany(&world, 100)
        self.pace(&world, ada, each: .microseconds(20), times: 100)
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.submit(b) == [.send(b, to: ada)])
        world.wait(.milliseconds(2))
        #expect(world.submit(c) == [])
    }

    @Test("Tasks behind one that runs long are taken back for an engine that has nothing to do")
    func recall() {
        var world = Transcript(hwm: nil, engines: [ada])
        self.submitMany(&world, 100)
        self.pace(&world, ada, each: .microseconds(20), times: 100)
        for task in [a, b, c] { world.submit(task) }
        #expect(world.scheduler.assigned(to: ada) == [a, b, c])

        let start = world.now
        #expect(world.on(.engineJoined(bob, understandsRecall: true)) == [.setTimer(start + .milliseconds(1))])
        world.wait(.milliseconds(1))
        #expect(world.on(.timerFired) == [.setTimer(start + .milliseconds(5))])
        world.wait(.milliseconds(4))
        #expect(world.on(.timerFired) == [.recall([b, c], from: ada)])
        #expect(world.on(.recalled([b, c], by: ada)) == [.send(b, to: bob)])
        #expect(world.scheduler.waiting == [c])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .sendAgain(c, to: ada)])
    }

    @Test("Tasks bound to their engine are not taken back")
    func recallsNoBoundTask() {
        var world = Transcript(hwm: nil, engines: [ada])
        self.submitMany(&world, 100)
        self.pace(&world, ada, each: .microseconds(20), times: 100)
        for task in [a, b] { world.submit(task, targets: [ada]) }
        world.on(.engineJoined(bob, understandsRecall: true))
        world.wait(.milliseconds(5))
        #expect(world.on(.timerFired) == [.setTimer(world.now + .milliseconds(50))])
    }

    @Test("An engine may keep what it has started, and answer it before or after")
    func recallCrossesReply() {
        var world = Transcript(hwm: nil, engines: [ada])
        self.submitMany(&world, 100)
        self.pace(&world, ada, each: .microseconds(20), times: 100)
        for task in [a, b, c] { world.submit(task) }
        world.on(.engineJoined(bob, understandsRecall: true))
        world.wait(.milliseconds(5))
        #expect(world.on(.timerFired) == [.recall([b, c], from: ada)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada)])
        #expect(world.on(.recalled([c], by: ada)) == [.send(c, to: bob)])
        #expect(world.reply(c, from: ada) == [])
        #expect(world.reply(c, from: bob) == [.relay(c, from: bob)])
    }

    @Test("What an engine gives back unasked is given to another")
    func givesBackUnasked() {
        var world = Transcript(hwm: 2, engines: [ada])
        world.submit(a)
        world.submit(b)
        world.on(.engineJoined(bob, understandsRecall: false))
        #expect(world.on(.recalled([b, c], by: ada)) == [.send(b, to: bob)])
    }
}
