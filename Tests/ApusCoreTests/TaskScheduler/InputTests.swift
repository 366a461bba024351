import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The task scheduler waits for results that are arguments")
struct InputTests {
    private func taking(_ inputs: TaskID..., after: TaskDependency? = nil) -> TaskScheduler.Event {
        .submitted(TaskRequest(c, after: after, inputs: inputs))
    }

    @Test("A task waits for the tasks whose results it takes")
    func waits() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        world.submit(b)
        #expect(world.on(self.taking(a, b, a)) == [])
        #expect(world.scheduler.whyWaiting(c) == .inputs([a, b]))
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob)])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada), .send(c, to: bob)])
    }

    @Test("It waits for its dependencies as well")
    func besides() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        world.submit(b)
        #expect(world.on(self.taking(a, after: TaskDependency([b], success: false, failure: true))) == [])
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob)])
        #expect(world.scheduler.whyWaiting(c) == .after([b]))
        #expect(world.reply(b, from: ada, .error) == [.relay(b, from: ada), .send(c, to: bob)])
    }

    @Test("Where one of them has no result the task fails, and says which")
    func failed() {
        var world = Transcript(hwm: 0, engines: [ada])
        world.submit(a)
        world.submit(b)
        #expect(world.on(self.taking(a, b)) == [])
        #expect(world.submit(d, after: TaskDependency([c])) == [])
        #expect(
            world.reply(a, from: ada, .error) == [
                .relay(a, from: ada), .fail(c, .inputFailed(a)),
                .fail(d, .impossibleDependency(.ended(c, succeeded: false, .after))),
            ])
        #expect(world.on(.submitted(TaskRequest(e, inputs: [b, a]))) == [.fail(e, .inputFailed(a))])
    }

    @Test("An earlier result is looked up while the task waits")
    func sought() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        world.reply(a, from: ada)
        #expect(world.on(self.taking(a, b)) == [.findResult(of: a, for: c), .findResult(of: b, for: c)])
        #expect(world.scheduler.whyWaiting(c) == .inputs([a, b]))
        #expect(world.on(.resultFound(of: b, for: c)) == [])
        #expect(world.on(.resultFound(of: b, for: c)) == [], "said twice")
        #expect(world.on(.resultFound(of: a, for: c)) == [.send(c, to: ada)])
    }

    @Test("A result that cannot be found ends the task, unless the task has ended before")
    func missing() {
        var world = Transcript(engines: [ada])
        #expect(world.on(self.taking(a)) == [.findResult(of: a, for: c)])
        #expect(world.on(.resultMissing(of: a, for: c, why: "purged")) == [.fail(c, .inputMissing(a, "purged"))])
        #expect(world.on(.submitted(TaskRequest(d, inputs: [a]))) == [.findResult(of: a, for: d)])
        #expect(world.on(.aborted([d])) == [.fail(d, .aborted)])
        #expect(world.on(.resultMissing(of: a, for: d, why: "purged")) == [])
        #expect(world.on(.resultFound(of: a, for: d)) == [])
    }

    @Test("A task cannot take its own result")
    func own() {
        var world = Transcript(engines: [ada])
        #expect(world.on(self.taking(c)) == [.fail(c, .invalidDependency(.itself))])
    }

    @Test("Results do not come twice: a retry has them")
    func retry() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.on(.submitted(TaskRequest(c, retries: 1, inputs: [a]))) == [.findResult(of: a, for: c)])
        #expect(world.on(.resultFound(of: a, for: c)) == [.send(c, to: bob)])
        #expect(world.on(.engineLeft(bob)) == [.send(c, to: ada)])
    }

    @Test("The wait for results counts against the time-out")
    func timeout() {
        var world = Transcript(engines: [ada])
        let due = world.now + .seconds(2)
        #expect(
            world.on(.submitted(TaskRequest(c, timeout: .seconds(2), inputs: [a]))) == [
                .findResult(of: a, for: c), .setTimer(due),
            ])
        world.wait(.seconds(2))
        #expect(world.on(.timerFired) == [.fail(c, .timeout(.inputs([a])))])
    }
}
