import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("Dependencies on tasks whose ends only the records know")
struct RecordedOutcomeTests {
    private func world(engines: [EngineUUID] = [ada, bob]) -> Transcript {
        var world = Transcript(TaskScheduler.Configuration(highWaterMark: 1, rememberedTasks: 2, hasRecords: true))
        for engine in engines { world.on(.engineJoined(engine, understandsRecall: true)) }
        return world
    }

    @Test("A task that depends on an unknown one waits until the records say how that ended")
    func succeeded() {
        var world = self.world()
        #expect(world.submit(b, after: TaskDependency([a])) == [.findOutcome(of: a)])
        #expect(world.scheduler.whyWaiting(b) == .records([a]))
        #expect(world.on(.ended(a, succeeded: true, on: ada)) == [.send(b, to: bob)])
        // The answer is remembered.
        #expect(world.submit(c, after: TaskDependency([a])) == [.send(c, to: ada)])
    }

    @Test("The records are asked once for all that depend on a task, and not at all for tasks that are known")
    func asksOnce() {
        var world = self.world()
        world.submit(d)
        world.reply(d, from: bob)
        #expect(world.submit(b, after: TaskDependency([a, d])) == [.findOutcome(of: a)])
        #expect(world.submit(c, after: TaskDependency([a])) == [])
        #expect(world.submit(e, after: TaskDependency([d])) == [.send(e, to: ada)])
        #expect(world.on(.ended(a, succeeded: true, on: nil)) == [.send(b, to: bob)])
    }

    @Test("A failure on record counts as a failure")
    func failed() {
        var world = self.world()
        world.submit(b, after: TaskDependency([a]))
        world.submit(c, after: TaskDependency([a], success: false, failure: true))
        #expect(
            world.on(.ended(a, succeeded: false, on: ada)) == [
                .fail(b, .impossibleDependency(.ended(a, succeeded: false, .after))), .send(c, to: bob),
            ])
    }

    @Test("A task follows another to the engine that the records name, if it is still registered")
    func follows() {
        var world = self.world()
        world.submit(b, follow: TaskDependency([a]))
        #expect(world.on(.ended(a, succeeded: true, on: bob)) == [.send(b, to: bob)])
        world.submit(d, follow: TaskDependency([c]))
        #expect(world.on(.ended(c, succeeded: true, on: eve)) == [.fail(d, .impossibleDependency(.followedGone))])
    }

    @Test("What the records do not have stays an invalid dependency, and records that cannot be read are named as the cause")
    func missing() {
        var world = self.world()
        world.submit(b, after: TaskDependency([a]))
        #expect(world.on(.outcomeMissing(of: a)) == [.fail(b, .invalidDependency(.unknown(a)))])
        #expect(world.submit(d, follow: TaskDependency([a])) == [.findOutcome(of: a)])
        #expect(
            world.on(.outcomeMissing(of: a, why: "the disk is gone"))
                == [.fail(d, .invalidDependency(.unreadable(a, "the disk is gone")))])
    }

    @Test("A task is judged when all that it depends on has been looked for")
    func several() {
        var world = self.world()
        #expect(world.submit(c, after: TaskDependency([a, b])) == [.findOutcome(of: a), .findOutcome(of: b)])
        #expect(world.on(.ended(a, succeeded: false, on: ada)) == [])
        #expect(world.on(.outcomeMissing(of: b)) == [.fail(c, .invalidDependency(.unknown(b)))])
    }

    @Test("A task that is submitted, or ends, while it is looked for counts as it is")
    func submittedMeanwhile() {
        var world = self.world()
        world.submit(b, after: TaskDependency([a]))
        world.submit(d, after: TaskDependency([c]))
        #expect(world.submit(a) == [.send(a, to: bob)])
        #expect(world.on(.outcomeMissing(of: a)) == [])
        #expect(world.scheduler.whyWaiting(b) == .after([a]))
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob), .send(b, to: ada)])
        #expect(world.submit(c) == [.send(c, to: bob)])
        #expect(world.reply(c, from: bob, .error) == [.relay(c, from: bob)])
        #expect(
            world.on(.outcomeMissing(of: c)) == [.fail(d, .impossibleDependency(.ended(c, succeeded: false, .after)))])
    }

    @Test("A task can be aborted, time out, or find no engine coming while another is looked for")
    func endsMeanwhile() {
        var world = self.world(engines: [])
        world.submit(b, after: TaskDependency([a]))
        #expect(world.on(.aborted([b])) == [.fail(b, .aborted)])
        #expect(world.submit(c, after: TaskDependency([a]), timeout: .seconds(1)) == [.setTimer(world.now + .seconds(1))])
        world.wait(.seconds(1))
        #expect(world.on(.timerFired) == [.fail(c, .timeout(.records([a])))])
        world.submit(d, after: TaskDependency([a]))
        #expect(world.on(.noEngineIsComing("none")).count == 1)
        #expect(world.on(.ended(a, succeeded: true, on: nil)) == [])
    }

    @Test("A restored task waits for the reports of engines and for what the records say")
    func restored() {
        var world = self.world(engines: [])
        world.on(.engineExpected(ada))
        let request = TaskRequest(b, follow: TaskDependency([a]))
        #expect(world.on(.restored(request, failures: 0, on: nil)) == [.findOutcome(of: a)])
        #expect(world.on(.ended(a, succeeded: true, on: ada)) == [])
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.on(.engineReported(ada, EngineReport(asked: [], has: []))) == [.sendAgain(b, to: ada)])
    }

    @Test("A restored task that an engine has stays there, whatever the records say of those that it followed")
    func restoredAtAnEngine() {
        var world = self.world(engines: [])
        world.on(.engineExpected(ada))
        let request = TaskRequest(b, follow: TaskDependency([a]))
        #expect(world.on(.restored(request, failures: 0, on: ada)) == [.findOutcome(of: a)])
        #expect(world.on(.outcomeMissing(of: a)) == [])
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada)])
        #expect(world.on(.restored(TaskRequest(d, follow: TaskDependency([c])), failures: 0, on: ada)) == [.findOutcome(of: c)])
        #expect(world.on(.outcomeMissing(of: c)) == [])
        #expect(world.on(.engineReported(ada, EngineReport(asked: [d], has: []))) == [.fail(d, .invalidDependency(.unknown(c)))])
    }
}
