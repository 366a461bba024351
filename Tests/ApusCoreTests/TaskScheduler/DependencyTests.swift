import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The task scheduler honours dependencies")
struct DependencyTests {
    @Test("A task runs after another has succeeded")
    func after() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.submit(a) == [.send(a, to: bob)])
        #expect(world.submit(b, after: TaskDependency([a])) == [])
        #expect(world.scheduler.whyWaiting(b) == .after([a]))
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob), .send(b, to: ada)])
    }

    @Test("A task whose dependency is met already waits for nothing")
    func alreadyMet() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        world.reply(a, from: ada)
        #expect(world.submit(b, after: TaskDependency([a])) == [.send(b, to: ada)])
    }

    @Test("All of several tasks, or any of them")
    func allAndAny() {
        var world = Transcript(hwm: 0, engines: [ada])
        world.submit(a)
        world.submit(b)
        #expect(world.submit(c, after: TaskDependency([a, b])) == [])
        #expect(world.submit(d, after: TaskDependency([a, b], all: false)) == [])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada), .send(d, to: ada)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(c, to: ada)])
    }

    @Test("A failure makes those that need a success impossible, and those that need these")
    func cascade() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        #expect(world.submit(b, after: TaskDependency([a])) == [])
        #expect(world.submit(c, after: TaskDependency([b])) == [])
        #expect(world.submit(d, after: TaskDependency([c], failure: true)) == [])
        #expect(
            world.reply(a, from: ada, .error) == [
                .relay(a, from: ada), .fail(b, .impossibleDependency(.ended(a, succeeded: false, .after))),
                .fail(c, .impossibleDependency(.ended(b, succeeded: false, .after))), .send(d, to: ada),
            ])
        #expect(
            world.submit(e, after: TaskDependency([a])) == [.fail(e, .impossibleDependency(.ended(a, succeeded: false, .after)))])
    }

    @Test("A failure passes along a chain of a hundred thousand tasks without overflowing the stack")
    func longChain() {
        var scheduler = TaskScheduler()
        var effects: [TaskScheduler.Effect] = []
        let now = MonotonicTime(.zero)
        scheduler.handle(.engineJoined(ada, understandsRecall: false), at: now, effects: &effects)
        scheduler.handle(.submitted(TaskRequest(TaskID("0"))), at: now, effects: &effects)
        for number in 1..<100_000 {
            let request = TaskRequest(TaskID("\(number)"), after: TaskDependency([TaskID("\(number - 1)")]))
            scheduler.handle(.submitted(request), at: now, effects: &effects)
        }
        effects = []
        scheduler.handle(.replied(TaskReply(to: TaskID("0"), from: ada, .error)), at: now, effects: &effects)
        #expect(effects.count == 100_000)
        #expect(scheduler.waitingCount == 0)
    }

    @Test("A dependency on failure is met by failure and made impossible by success")
    func onFailure() {
        var world = Transcript(hwm: 0, engines: [ada])
        let failureOfA = TaskDependency([a], success: false, failure: true)
        world.submit(a)
        #expect(world.submit(b, after: failureOfA) == [])
        #expect(world.reply(a, from: ada, .error) == [.relay(a, from: ada), .send(b, to: ada)])
        #expect(world.submit(c, after: TaskDependency([b], success: false, failure: true)) == [])
        #expect(
            world.reply(b, from: ada) == [
                .relay(b, from: ada), .fail(c, .impossibleDependency(.ended(b, succeeded: true, .after))),
            ])
    }

    @Test("Any of several is impossible only when the last has ended otherwise")
    func anyImpossible() {
        var world = Transcript(hwm: 0, engines: [ada])
        world.submit(a)
        world.submit(b)
        world.submit(c, after: TaskDependency([a, b], all: false))
        #expect(world.reply(a, from: ada, .error) == [.relay(a, from: ada)])
        #expect(
            world.reply(b, from: ada, .aborted) == [
                .relay(b, from: ada), .fail(c, .impossibleDependency(.noneEnded(last: b, succeeded: false, .after))),
            ])
    }

    @Test("A dependency on the task itself, on an unknown task or on nothing at all is invalid")
    func invalid() {
        var world = Transcript(engines: [ada])
        #expect(world.submit(a, after: TaskDependency([a])) == [.fail(a, .invalidDependency(.itself))])
        #expect(world.submit(b, follow: TaskDependency([c])) == [.fail(b, .invalidDependency(.unknown(c)))])
        let never = TaskDependency([a], success: false, failure: false)
        #expect(world.submit(d, after: never) == [.fail(d, .invalidDependency(.noEnding))])
    }

    @Test("A task that was forgotten counts as unknown")
    func forgotten() {
        var world = Transcript(TaskScheduler.Configuration(highWaterMark: 0, rememberedTasks: 2))
        world.on(.engineJoined(ada, understandsRecall: false))
        for task in [a, b, c] {
            world.submit(task)
            world.reply(task, from: ada)
        }
        #expect(world.submit(d, after: TaskDependency([b, c])) == [.send(d, to: ada)])
        #expect(world.submit(e, after: TaskDependency([a])) == [.fail(e, .invalidDependency(.unknown(a)))])
    }

    @Test("A task follows another to its engine")
    func follow() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.submit(a) == [.send(a, to: bob)])
        #expect(world.submit(b, follow: TaskDependency([a])) == [])
        #expect(world.scheduler.whyWaiting(b) == .follow([a]))
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob), .send(b, to: bob)])
        #expect(world.submit(c, follow: TaskDependency([a])) == [])
        #expect(world.scheduler.whyWaiting(c) == .targetsBusy([bob]))
        #expect(world.reply(b, from: bob) == [.relay(b, from: bob), .send(c, to: bob)])
    }

    @Test("Two engines cannot both be followed, but either can")
    func followTwo() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        world.submit(b)
        world.reply(a, from: bob)
        world.reply(b, from: ada)
        #expect(world.submit(c, follow: TaskDependency([a, b])) == [.fail(c, .impossibleDependency(.followsSeveral))])
        #expect(world.submit(d, follow: TaskDependency([a, b], all: false)) == [.send(d, to: bob)])
    }

    @Test("An engine that is gone cannot be followed")
    func followGone() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        world.reply(a, from: bob)
        world.on(.engineLeft(bob))
        #expect(world.submit(b, follow: TaskDependency([a])) == [.fail(b, .impossibleDependency(.followedGone))])
    }

    @Test("A task that one engine refuses is offered to the next, and to that one not again")
    func unmetDependency() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.submit(a) == [.send(a, to: bob)])
        #expect(world.reply(a, from: bob, .error, dependenciesMet: false) == [.send(a, to: ada)])
        #expect(world.reply(a, from: ada, .error, dependenciesMet: false) == [])
        let refusals = [Refusal(by: ada, at: world.now), Refusal(by: bob, at: world.now)]
        #expect(world.scheduler.whyWaiting(a) == .dependenciesUnmet(refusals))
        #expect(world.on(.engineJoined(eve, understandsRecall: false)) == [.send(a, to: eve)])
    }

    @Test("A dependency refused by all targets is impossible")
    func unmetOnTargets() {
        var world = Transcript(engines: [ada, bob])
        #expect(world.submit(a, targets: [ada]) == [.send(a, to: ada)])
        #expect(
            world.reply(a, from: ada, .error, dependenciesMet: false)
                == [.fail(a, .impossibleDependency(.refused([Refusal(by: ada, at: world.now)])))])
    }

    @Test("While a task waits for another, an engine it is bound to may go")
    func targetsGoneMeanwhile() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a, targets: [bob])
        world.submit(b, after: TaskDependency([a]), targets: [ada])
        world.on(.engineLeft(ada))
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob), .fail(b, .impossibleDependency(.targetsGone))])
    }
}
