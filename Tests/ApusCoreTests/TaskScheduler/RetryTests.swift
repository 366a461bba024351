import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The task scheduler tries again")
struct RetryTests {
    @Test("A failed task with retries goes to another engine, then its last error is the answer")
    func retries() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.submit(a, retries: 1) == [.send(a, to: bob)])
        #expect(world.reply(a, from: bob, .error) == [.send(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.relay(a, from: ada)])
    }

    @Test("An aborted task is tried again, unless its client aborted it")
    func abortedReplies() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a, retries: 1)
        #expect(world.reply(a, from: bob, .aborted) == [.send(a, to: ada)])
        world.submit(b, retries: 1)
        world.on(.aborted([b]))
        #expect(world.reply(b, from: bob, .aborted) == [.relay(b, from: bob)])
    }

    @Test("With no other engine left, it goes back to one it failed on, and says so")
    func comesBack() {
        var world = Transcript(engines: [ada])
        #expect(world.submit(a, retries: 2) == [.send(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.sendAgain(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.sendAgain(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.relay(a, from: ada)])
    }

    @Test("It waits for a busy engine rather than go back to an idle one it failed on")
    func prefersFresh() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a, retries: 1)
        world.submit(b)
        #expect(world.reply(a, from: bob, .error) == [])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada), .send(a, to: ada)])
    }

    @Test("It goes back when the last engine that it has not failed on leaves")
    func comesBackOnLoss() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a, retries: 1)
        world.submit(b)
        #expect(world.reply(a, from: bob, .error) == [])
        #expect(world.on(.engineLeft(ada)) == [.fail(b, .engineDied(ada)), .sendAgain(a, to: bob)])
    }

    @Test("Before it goes back, a new engine comes first")
    func newEngineFirst() {
        var world = Transcript(engines: [ada])
        world.submit(a, retries: 1)
        world.submit(b, priority: 1)
        #expect(world.reply(a, from: ada, .error) == [.send(b, to: ada)])
        #expect(world.on(.engineJoined(bob, understandsRecall: false)) == [.send(a, to: bob)])
    }

    @Test("With a time-out it does not go back: more retries than engines end as a time-out")
    func moreRetriesThanEngines() {
        var world = Transcript(engines: [ada, bob])
        let start = world.now
        #expect(world.submit(a, timeout: .milliseconds(100), retries: 2) == [.send(a, to: bob)])
        #expect(world.reply(a, from: bob, .error) == [.send(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.setTimer(start + .milliseconds(100))])
        #expect(world.scheduler.whyWaiting(a) == .failedEverywhere([]))
        world.wait(.milliseconds(100))
        #expect(world.on(.timerFired) == [.fail(a, .timeout(.failedEverywhere([])))])
    }

    @Test("However short the time-out, a retry that is placed at once ends with the real error")
    func shortTimeout() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.submit(a, timeout: .milliseconds(10), retries: 1) == [.send(a, to: bob)])
        world.wait(.milliseconds(250))
        #expect(world.reply(a, from: bob, .error) == [.send(a, to: ada)])
        world.wait(.milliseconds(250))
        #expect(world.reply(a, from: ada, .error) == [.relay(a, from: ada)])
    }

    @Test("A task that failed on all its targets goes back to them; with a time-out the error is the answer")
    func targets() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a, retries: 1, targets: [ada])
        #expect(world.reply(a, from: ada, .error) == [.sendAgain(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.relay(a, from: ada)])
        world.submit(b, timeout: .seconds(1), retries: 1, targets: [ada])
        #expect(world.reply(b, from: ada, .error) == [.relay(b, from: ada)])
    }

    @Test("What an engine held when it died fails, or is tried on another")
    func engineDies() {
        var world = Transcript(hwm: 0, engines: [ada])
        world.submit(a)
        world.submit(b, retries: 1)
        world.submit(c, after: TaskDependency([a]))
        world.on(.engineJoined(bob, understandsRecall: false))
        #expect(
            world.on(.engineLeft(ada)) == [
                .fail(a, .engineDied(ada)), .fail(c, .impossibleDependency(.ended(a, succeeded: false, .after))),
                .send(b, to: bob),
            ])
        #expect(world.on(.engineLeft(ada)) == [])
        #expect(world.reply(a, from: ada) == [])
        #expect(world.reply(b, from: ada) == [])
        #expect(world.reply(b, from: bob) == [.relay(b, from: bob)])
    }

    @Test("An engine that was given up and comes back counts as the same engine")
    func engineReturns() {
        var world = Transcript(engines: [ada])
        world.submit(a, retries: 1)
        #expect(world.on(.engineLeft(ada)) == [])
        #expect(world.on(.engineJoined(ada, understandsRecall: true)) == [.sendAgain(a, to: ada)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
        #expect(world.submit(b, follow: TaskDependency([a])) == [.send(b, to: ada)])
        #expect(world.submit(c, after: TaskDependency([b]), targets: [ada]) == [])
        #expect(world.on(.engineJoined(bob, understandsRecall: true)) == [])
        let effects = world.on(.engineLeft(ada))
        #expect(effects.first == .fail(b, .engineDied(ada)))
        world.submit(d)
        #expect(world.submit(e, after: TaskDependency([d]), targets: [ada]) == [])
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.reply(d, from: bob) == [.relay(d, from: bob), .send(e, to: ada)])
    }

    @Test("A task that waited behind the one that ended its engine is given out again as if it had not been there")
    func waitedBehindACrash() {
        var world = Transcript(hwm: 0, engines: [ada])
        world.submit(a)
        world.submit(b)
        world.submit(c, retries: 1)
        world.on(.engineJoined(bob, understandsRecall: false))
        #expect(
            world.on(.engineLeft(ada, begun: [a])) == [.fail(a, .engineDied(ada)), .send(b, to: bob), .send(c, to: bob)])
        // It still has its one retry.
        #expect(world.reply(c, from: bob, .error) == [.sendAgain(c, to: bob)])
        #expect(world.scheduler.failures(of: c) == 1)
    }

    @Test("One that was aborted there, or that no other engine may run, ends")
    func waitedBehindACrashForNothing() {
        var world = Transcript(hwm: 0, engines: [ada])
        world.submit(a)
        world.submit(b)
        world.submit(c, targets: [ada])
        world.on(.engineJoined(bob, understandsRecall: false))
        world.on(.aborted([b]))
        #expect(
            world.on(.engineLeft(ada, begun: [a])) == [
                .fail(a, .engineDied(ada)), .fail(b, .aborted), .fail(c, .engineDied(ada)),
            ])
    }

    @Test("An error says how often the task was tried")
    func countsTries() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a, retries: 2)
        #expect(world.on(.engineLeft(bob)) == [.send(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.sendAgain(a, to: ada)])
        #expect(world.scheduler.failures(of: a) == 2)
        #expect(world.on(.engineLeft(ada)) == [.fail(a, .engineDied(ada, tries: 3))])
    }

    @Test("An engine that says goodbye gets nothing more, and has five seconds for what it holds")
    func engineRetires() {
        var world = Transcript(hwm: 2, engines: [ada])
        let start = world.now
        world.submit(a)
        world.submit(b)
        #expect(world.on(.engineRetired(ada)) == [.setTimer(start + .seconds(5))])
        #expect(world.submit(c) == [])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
        world.wait(.seconds(5))
        #expect(world.on(.timerFired) == [.fail(b, .engineDied(ada))])
        #expect(world.scheduler.engineList == [])
        #expect(world.scheduler.whyWaiting(c) == .noEngines)
    }

    @Test("An engine without tasks that says goodbye is gone")
    func idleEngineRetires() {
        var world = Transcript(engines: [ada])
        #expect(world.on(.engineRetired(ada)) == [])
        #expect(world.scheduler.engineList == [])
    }
}

@Suite("The task scheduler's time-outs, aborts and retry rules")
struct TimeoutAndAbortTests {
    @Test("A task times out while it waits, and not while it runs")
    func timeout() {
        var world = Transcript(engines: [ada])
        let start = world.now
        #expect(world.submit(a, timeout: .milliseconds(10)) == [.send(a, to: ada)])
        #expect(world.submit(b, timeout: .milliseconds(20)) == [.setTimer(start + .milliseconds(20))])
        #expect(world.submit(c, timeout: .milliseconds(10)) == [.setTimer(start + .milliseconds(10))])
        world.wait(.milliseconds(10))
        #expect(world.on(.timerFired) == [.fail(c, .timeout(.enginesBusy)), .setTimer(start + .milliseconds(20))])
        world.wait(.milliseconds(10))
        #expect(world.on(.timerFired) == [.fail(b, .timeout(.enginesBusy))])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
    }

    @Test("The clock covers waiting for other tasks; those that depend on a task timed out are impossible")
    func timeoutOfBlocked() {
        var world = Transcript(engines: [ada])
        let start = world.now
        world.submit(a)
        #expect(world.submit(b, after: TaskDependency([a]), timeout: .seconds(1)) == [.setTimer(start + .seconds(1))])
        world.submit(c, after: TaskDependency([b]))
        world.wait(.seconds(1))
        #expect(
            world.on(.timerFired) == [
                .fail(b, .timeout(.after([a]))), .fail(c, .impossibleDependency(.ended(b, succeeded: false, .after))),
            ])
    }

    @Test("A timer that fires early fires again")
    func earlyTimer() {
        var world = Transcript()
        let start = world.now
        world.submit(a, timeout: .seconds(1))
        #expect(world.on(.timerFired) == [.setTimer(start + .seconds(1))])
    }

    @Test("Aborted tasks that wait end at once; tasks that an engine has are left to the engine")
    func abort() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        world.submit(b)
        world.submit(c, after: TaskDependency([b]))
        #expect(
            world.on(.aborted([a, b, d])) == [
                .fail(b, .aborted), .fail(c, .impossibleDependency(.ended(b, succeeded: false, .after))),
            ])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
    }

    @Test("All waiting tasks of one client can be aborted")
    func abortClient() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        world.submit(b, client: 1)
        world.submit(c, client: 2)
        world.submit(d, client: 1)
        #expect(world.on(.clientAborted(1)) == [.fail(b, .aborted), .fail(d, .aborted)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(c, to: ada)])
    }

    // MARK: Rules

    @Test("A task pauses before each retry, longer each time, and its engine is free meanwhile")
    func pauses() {
        var world = Transcript(engines: [ada])
        let rule = RetryRule(pause: .seconds(1), factor: 3, longest: .seconds(2))
        world.on(.submitted(TaskRequest(a, retries: 3, retryRule: rule)))
        let first = world.now + .seconds(1)
        #expect(world.reply(a, from: ada, .error) == [.setTimer(first)])
        #expect(world.scheduler.whyWaiting(a) == .retryPause)
        #expect(world.submit(b) == [.send(b, to: ada)])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada)])
        world.wait(.seconds(1))
        #expect(world.on(.timerFired) == [.sendAgain(a, to: ada)])
        let second = world.now + .seconds(2)
        #expect(world.reply(a, from: ada, .error) == [.setTimer(second)], "three seconds are longer than the longest pause")
        #expect(world.on(.aborted([a])) == [.fail(a, .aborted)])
        world.wait(.seconds(2))
        #expect(world.on(.timerFired) == [])
    }

    @Test("A task with chosen errors is tried again after those only")
    func chosenErrors() {
        var world = Transcript(engines: [ada, bob])
        let rule = RetryRule(errors: ["ConnectionError", "EngineError"])
        func submit(_ task: TaskID) -> [TaskScheduler.Effect] {
            world.on(.submitted(TaskRequest(task, retries: 3, retryRule: rule)))
        }
        #expect(submit(a) == [.send(a, to: bob)])
        #expect(world.scheduler.needsErrorName(a))
        #expect(world.on(.replied(TaskReply(to: a, from: bob, .error, error: "ConnectionError"))) == [.send(a, to: ada)])
        #expect(world.on(.replied(TaskReply(to: a, from: ada, .error, error: "ValueError"))) == [.relay(a, from: ada)])
        #expect(submit(b) == [.send(b, to: bob)])
        #expect(world.on(.engineLeft(bob)) == [.send(b, to: ada)], "an engine's death is an EngineError")
        #expect(world.on(.replied(TaskReply(to: b, from: ada, .aborted))) == [.relay(b, from: ada)])
    }

    @Test("What a task that pauses depends on no longer matters, and those that depend on it wait on")
    func pausingAmongOthers() {
        var world = Transcript(engines: [ada])
        world.on(.submitted(TaskRequest(a, retries: 1, retryRule: RetryRule(pause: .seconds(1)))))
        world.submit(b, after: TaskDependency([a]))
        world.reply(a, from: ada, .error)
        world.wait(.seconds(1))
        #expect(world.on(.timerFired) == [.sendAgain(a, to: ada)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(b, to: ada)])
    }
}
