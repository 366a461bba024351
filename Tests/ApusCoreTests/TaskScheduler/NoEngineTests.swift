import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("Without engines")
struct NoEngineTests {
    private static let reason = "both ended by signal 9"

    private func ended(_ task: TaskID, lost: EngineUUID? = nil) -> TaskScheduler.Effect {
        .fail(task, .noEngine(NoEngine(.noneIsComing(Self.reason), lost: lost)))
    }

    @Test("Tasks wait for engines that may come later")
    func waits() {
        var world = Transcript()
        #expect(world.submit(a) == [])
        #expect(world.scheduler.whyWaiting(a) == .noEngines)
        world.wait(.seconds(86400))
        #expect(world.on(.timerFired) == [])
        #expect(world.on(.engineJoined(ada, understandsRecall: true)) == [.send(a, to: ada)])
    }

    @Test("When none is coming, those that wait end, whatever they wait for, and so do new ones")
    func noneIsComing() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        world.submit(b)
        world.submit(c, after: TaskDependency([b]))
        world.on(.submitted(TaskRequest(d, inputs: [e])))
        #expect(world.on(.noEngineIsComing(Self.reason)) == [], "ada lives")
        #expect(world.on(.engineLeft(ada)) == [.fail(a, .engineDied(ada)), self.ended(b), self.ended(c), self.ended(d)])
        #expect(world.submit(e) == [self.ended(e)])
    }

    @Test("An engine that comes all the same is used, and tasks wait again once engines may come")
    func comesAllTheSame() {
        var world = Transcript()
        world.on(.noEngineIsComing(Self.reason))
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.submit(b) == [])
        #expect(world.on(.engineLeft(ada)) == [.fail(a, .engineDied(ada)), self.ended(b)])
        world.on(.engineIsComing)
        #expect(world.submit(c) == [])
    }

    @Test("A task that died with its engine, to be tried again, ends with both reasons")
    func lost() {
        var world = Transcript(engines: [ada])
        world.submit(a, retries: 2)
        world.on(.noEngineIsComing(Self.reason))
        #expect(world.on(.engineLeft(ada)) == [self.ended(a, lost: ada)])
    }

    @Test("A task that kills every engine it is given ends after its retries")
    func killer() {
        var world = Transcript(engines: [ada])
        world.submit(a, retries: 2)
        #expect(world.on(.engineLeft(ada)) == [])
        #expect(world.on(.engineJoined(bob, understandsRecall: true)) == [.send(a, to: bob)])
        #expect(world.on(.engineLeft(bob)) == [])
        #expect(world.on(.engineJoined(eve, understandsRecall: true)) == [.send(a, to: eve)])
        #expect(world.on(.engineLeft(eve)) == [.fail(a, .engineDied(eve, tries: 3))])
    }

    // MARK: Engine time-outs

    private func timedOut(_ task: TaskID, _ limit: Duration, lost: EngineUUID? = nil) -> TaskScheduler.Effect {
        .fail(task, .noEngine(NoEngine(.noneCame(within: limit), lost: lost)))
    }

    @Test("An engine time-out ends what has waited so long while there was no engine")
    func engineTimeout() {
        var world = Transcript(TaskScheduler.Configuration(highWaterMark: 1, engineTimeout: .seconds(10)))
        let start = world.now
        #expect(world.submit(a) == [.setTimer(start + .seconds(10))])
        #expect(world.on(.submitted(TaskRequest(b, engineTimeout: .zero))) == [], "its own time-out says: for ever")
        #expect(world.on(.submitted(TaskRequest(c, engineTimeout: .seconds(3)))) == [.setTimer(start + .seconds(3))])
        world.wait(.seconds(3))
        #expect(world.on(.timerFired) == [self.timedOut(c, .seconds(3)), .setTimer(start + .seconds(10))])
        world.wait(.seconds(7))
        #expect(world.on(.timerFired) == [self.timedOut(a, .seconds(10))])
        #expect(world.scheduler.waiting == [b])
    }

    @Test("Its clock starts when the last engine goes, and stops when one comes")
    func clockOfAbsence() {
        var world = Transcript(TaskScheduler.Configuration(highWaterMark: 1, engineTimeout: .seconds(10)))
        world.on(.engineJoined(ada, understandsRecall: true))
        world.submit(a, retries: 3)
        world.submit(b)
        world.wait(.seconds(60))
        let gone = world.now
        #expect(world.on(.engineLeft(ada)) == [.setTimer(gone + .seconds(10))])
        world.wait(.seconds(9))
        #expect(world.on(.engineJoined(bob, understandsRecall: true)) == [.send(a, to: bob)])
        world.wait(.seconds(9))
        #expect(world.on(.timerFired) == [])
        let again = world.now
        #expect(world.on(.engineLeft(bob)) == [.setTimer(again + .seconds(10))])
        world.wait(.seconds(10))
        #expect(world.on(.timerFired) == [self.timedOut(a, .seconds(10), lost: bob), self.timedOut(b, .seconds(10))])
    }

    // MARK: Words

    @Test("The words are the same for the same cause")
    func words() {
        let context = ReasonContext(now: MonotonicTime(.zero), name: { "engine <\($0)>" })
        #expect(WaitReason.noEngines.text(context) == "no engine is registered")
        #expect(
            NoEngine(.noneIsComing(Self.reason), lost: ada).text(context)
                == "no engine is registered, and none is coming: both ended by signal 9; engine <ada> died while running it")
        #expect(
            NoEngine(.noneCame(within: .milliseconds(2500))).text(context)
                == "no engine is registered, and none came within 2.5 s, the task's engine time-out")
    }
}
