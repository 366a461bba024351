import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("A task that engines refuse")
struct RefusalTests {
    private func refuse(_ world: inout Transcript, _ task: TaskID, by engine: EngineUUID, lacks: String? = nil)
        -> [TaskScheduler.Effect]
    {
        world.on(.replied(TaskReply(to: task, from: engine, .error, dependenciesMet: false, lacks: lacks)))
    }

    // MARK: Modules

    @Test("One that requires a module which no engine has ends and names it")
    func missingModule() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        #expect(self.refuse(&world, a, by: bob, lacks: "gurobipy") == [.send(a, to: ada)])
        let refusals = [ada, bob].map { Refusal(by: $0, at: world.now, lacks: "gurobipy") }
        #expect(self.refuse(&world, a, by: ada, lacks: "gurobipy") == [.fail(a, .impossibleDependency(.refused(refusals)))])
        #expect(
            ImpossibleDependency.refused(refusals).text(ReasonContext(now: world.now))
                == "no engine that may run it has the module 'gurobipy'; asked were engine 'ada', engine 'bob'")
    }

    @Test("It waits for a busy engine, which may have the module")
    func maybeThere() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        world.submit(b)
        #expect(self.refuse(&world, a, by: bob, lacks: "numpy") == [])
        #expect(world.scheduler.whyWaiting(a) == .enginesBusy)
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada), .send(a, to: ada)])
    }

    @Test("It ends when the last engine goes that might have had it")
    func lastHopeGone() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        world.submit(b)
        #expect(self.refuse(&world, a, by: bob, lacks: "numpy") == [])
        let refusal = Refusal(by: bob, at: world.now, lacks: "numpy")
        #expect(world.on(.engineLeft(ada)) == [.fail(b, .engineDied(ada)), .fail(a, .impossibleDependency(.refused([refusal])))])
    }

    @Test("Engines that could not run it anyway do not count")
    func otherKinds() {
        var world = Transcript(engines: [ada])
        world.on(
            .engineJoined(
                bob, understandsRecall: true, abilities: EngineAbilities(runsPython: false, functions: ["f"], build: "1")))
        #expect(world.submit(a, need: .python) == [.send(a, to: ada)])
        let refusal = Refusal(by: ada, at: world.now, lacks: "numpy")
        #expect(self.refuse(&world, a, by: ada, lacks: "numpy") == [.fail(a, .impossibleDependency(.refused([refusal])))])
    }

    @Test("One that failed where the module is goes back there")
    func failedWhereItIs() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a, retries: 2)
        #expect(world.reply(a, from: bob, .error) == [.send(a, to: ada)])
        #expect(self.refuse(&world, a, by: ada, lacks: "numpy") == [.sendAgain(a, to: bob)])
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob)])
    }

    // MARK: Conditions

    @Test("One whose condition held nowhere is offered again where something has run")
    func touched() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        #expect(self.refuse(&world, a, by: bob) == [.send(a, to: ada)])
        world.wait(.seconds(2))
        #expect(self.refuse(&world, a, by: ada) == [])
        world.wait(.seconds(3))
        let refusals = [Refusal(by: ada, at: world.now), Refusal(by: bob, at: world.now)]
        guard case .dependenciesUnmet(let found) = world.scheduler.whyWaiting(a) else { return #expect(Bool(false)) }
        #expect(found.map(\.engine) == refusals.map(\.engine))
        #expect(
            WaitReason.dependenciesUnmet(found).text(ReasonContext(now: world.now))
                == "no engine meets its dependencies: engine 'ada' does not meet its condition (asked 3.0 s ago), engine 'bob' does not "
                + "meet its condition (asked 5.0 s ago); it is offered again when something changes")
        #expect(world.on(.engineTouched(bob)) == [.sendAgain(a, to: bob)])
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob)])
        #expect(world.on(.engineTouched(bob)) == [])
    }

    @Test("It is offered again after the set interval, and ends with its time-out, which refusals do not prolong")
    func interval() {
        var world = Transcript(TaskScheduler.Configuration(highWaterMark: 1, dependencyInterval: .seconds(10)))
        world.on(.engineJoined(ada, understandsRecall: true))
        let start = world.now
        #expect(world.submit(a, timeout: .seconds(25)) == [.send(a, to: ada)])
        #expect(self.refuse(&world, a, by: ada) == [.setTimer(start + .seconds(10))])
        world.wait(.seconds(10))
        #expect(world.on(.timerFired) == [.setTimer(start + .seconds(25)), .sendAgain(a, to: ada)])
        #expect(self.refuse(&world, a, by: ada) == [.setTimer(start + .seconds(20))])
        world.wait(.seconds(10))
        #expect(world.on(.timerFired) == [.setTimer(start + .seconds(25)), .sendAgain(a, to: ada)])
        #expect(self.refuse(&world, a, by: ada) == [])
        world.wait(.seconds(5))
        let refusal = Refusal(by: ada, at: start + .seconds(20))
        #expect(world.on(.timerFired) == [.fail(a, .timeout(.dependenciesUnmet([refusal]))), .setTimer(start + .seconds(30))])
    }

    @Test("When thousands wait so, the interval offers a few at a time")
    func throttled() {
        var world = Transcript(TaskScheduler.Configuration(highWaterMark: 0, dependencyInterval: .seconds(10)))
        world.on(.engineJoined(ada, understandsRecall: true))
        let tasks = (0..<200).map { TaskID("t\($0)") }
        for task in tasks { world.submit(task) }
        for task in tasks { _ = self.refuse(&world, task, by: ada) }
        world.wait(.seconds(10))
        var offered = 0
        for round in 1...4 {
            let effects = world.on(.timerFired)
            offered += effects.count { if case .sendAgain = $0 { true } else { false } }
            #expect(offered == min(200, 64 * round))
            world.wait(.milliseconds(100))
        }
    }

    @Test("A touched engine may have the module by now; a condition that has come to hold elsewhere is not asked there")
    func touchedWhileAssigned() {
        var world = Transcript(engines: [ada, bob])
        world.submit(a)
        #expect(self.refuse(&world, a, by: bob, lacks: "numpy") == [.send(a, to: ada)])
        #expect(world.on(.engineTouched(bob)) == [], "ada has it")
        #expect(self.refuse(&world, a, by: ada, lacks: "numpy") == [.sendAgain(a, to: bob)])
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob)])
    }
}
