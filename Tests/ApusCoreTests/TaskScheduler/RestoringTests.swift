import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("The task scheduler after a controller that was killed")
struct RestoringTests {
    private func restored(_ task: TaskID, retries: Int = 0, after: TaskDependency? = nil, targets: [EngineUUID] = [])
        -> TaskRequest
    {
        TaskRequest(task, after: after, retries: retries, targets: targets)
    }

    @Test("A restored task without an engine waits until every engine has said what it holds")
    func waitsForReports() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.engineExpected(bob))
        #expect(world.on(.restored(self.restored(a), failures: 0, on: nil)) == [])
        #expect(world.on(.engineJoined(ada, understandsRecall: true)) == [])
        #expect(world.scheduler.whyWaiting(a) == .engineReports([ada, bob]))
        #expect(world.on(.engineReported(ada, EngineReport(asked: [], has: []))) == [])
        #expect(world.on(.engineJoined(bob, understandsRecall: true)) == [])
        #expect(world.on(.engineReported(bob, EngineReport(asked: [], has: []))) == [.sendAgain(a, to: bob)])
    }

    @Test("An engine that never comes back is not waited for any longer")
    func missingEngine() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.engineExpected(bob))
        world.on(.restored(self.restored(a), failures: 0, on: nil))
        world.on(.engineJoined(ada, understandsRecall: true))
        world.on(.engineReported(ada, EngineReport(asked: [], has: [])))
        #expect(world.on(.engineLeft(bob)) == [.sendAgain(a, to: ada)])
    }

    @Test(
        "A task for a function of an engine that has yet to come back waits, though others are there that would only fail",
        arguments: [false, true])
    func expectedAbilities(comesBack: Bool) {
        var world = Transcript()
        let able = EngineAbilities(runsPython: false, functions: ["f"])
        world.on(.engineExpected(ada, able))
        world.on(.engineExpected(bob))
        world.on(.engineJoined(bob, understandsRecall: true))
        world.on(.engineReported(bob, EngineReport(asked: [], has: [])))
        #expect(world.on(.submitted(TaskRequest(a, need: .name("f")))) == [])
        #expect(world.scheduler.whyWaiting(a) == .engineReports([ada]))
        // What the others can run need not wait.
        #expect(world.on(.submitted(TaskRequest(b, need: .python))) == [.send(b, to: bob)])
        if comesBack {
            world.on(.engineJoined(ada, understandsRecall: true, abilities: able))
            #expect(world.on(.engineReported(ada, EngineReport(asked: [], has: []))) == [.send(a, to: ada)])
        } else {
            _ = world.reply(b, from: bob)
            // Without the engine the name may be a Python expression.
            #expect(world.on(.engineLeft(ada)) == [.send(a, to: bob)])
        }
    }

    @Test("A restored task that may run twice is given out at once")
    func retriesDoNotWait() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.engineExpected(bob))
        world.on(.restored(self.restored(a, retries: 1), failures: 0, on: nil))
        #expect(world.on(.engineJoined(bob, understandsRecall: true)) == [.sendAgain(a, to: bob)])
    }

    @Test("What an engine holds is its own, and ends with its answer")
    func held() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.restored(self.restored(a), failures: 0, on: ada))
        #expect(world.on(.engineJoined(ada, understandsRecall: true)) == [])
        #expect(world.scheduler.assigned(to: ada) == [a])
        #expect(world.on(.engineReported(ada, EngineReport(asked: [a], has: [a]))) == [])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
    }

    @Test("An answer counts before the report, and before the engine has joined")
    func answersFirst() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.restored(self.restored(a), failures: 0, on: ada))
        world.on(.restored(self.restored(b), failures: 0, on: nil))
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
        // The store did not have that it was given to the engine.
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada)])
        #expect(world.on(.engineJoined(ada, understandsRecall: true)) == [])
        #expect(world.on(.engineReported(ada, EngineReport(asked: [a], has: [a]))) == [])
    }

    @Test("A task whose failure comes before the report, which names the answer as kept, is tried elsewhere")
    func failsBeforeTheReport() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.engineExpected(bob))
        world.on(.restored(self.restored(a, retries: 1), failures: 0, on: ada))
        world.on(.restored(self.restored(b), failures: 0, on: bob))
        world.on(.engineJoined(bob, understandsRecall: true))
        world.on(.engineJoined(ada, understandsRecall: true))
        // Bob is busy.
        #expect(world.reply(a, from: ada, .error) == [])
        #expect(world.on(.engineReported(ada, EngineReport(asked: [a], has: [a]))) == [])
        #expect(world.scheduler.assigned(to: ada) == [])
        #expect(world.reply(b, from: bob) == [.relay(b, from: bob), .sendAgain(a, to: bob)])
        #expect(world.scheduler.failures(of: a) == 1)
    }

    @Test("An engine that has a task of which the store knows no engine keeps it, and it is not run twice")
    func unknownAssignment() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.engineExpected(bob))
        world.on(.restored(self.restored(a), failures: 0, on: nil))
        world.on(.engineJoined(bob, understandsRecall: true))
        world.on(.engineReported(bob, EngineReport(asked: [], has: [])))
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.on(.engineReported(ada, EngineReport(asked: [], has: [a]))) == [])
        #expect(world.scheduler.assigned(to: ada) == [a])
    }

    @Test("A request that was lost on its way to its engine is given out again, as a copy that the engine takes")
    func lostOnTheWay() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.restored(self.restored(a), failures: 0, on: ada))
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.on(.engineReported(ada, EngineReport(asked: [a], has: []))) == [.sendAgain(a, to: ada)])
    }

    @Test("A lost answer counts as a try")
    func lostAnswer() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.restored(self.restored(a), failures: 0, on: ada))
        world.on(.restored(self.restored(b, retries: 2), failures: 1, on: ada))
        world.on(.engineJoined(ada, understandsRecall: true))
        let report = EngineReport(asked: [a, b], has: [], lost: [a, b])
        #expect(world.on(.engineReported(ada, report)) == [.fail(a, .answerLost(ada, tries: 1)), .sendAgain(b, to: ada)])
        #expect(world.scheduler.failures(of: b) == 2)
        #expect(world.reply(b, from: ada, .error) == [.relay(b, from: ada)])
    }

    @Test("A task at an engine that is gone counts as tried there")
    func goneEngine() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        #expect(world.on(.restored(self.restored(a), failures: 0, on: bob)) == [.fail(a, .engineDied(bob))])
        world.on(.restored(self.restored(b, retries: 1), failures: 0, on: ada))
        #expect(world.on(.engineLeft(ada)) == [])
        #expect(world.on(.engineJoined(eve, understandsRecall: true)) == [.sendAgain(b, to: eve)])
    }

    @Test("Order, dependencies and how others ended are kept")
    func dependencies() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.ended(c, succeeded: true, on: ada))
        world.on(.ended(d, succeeded: false, on: ada))
        world.on(.restored(self.restored(a), failures: 0, on: nil))
        world.on(.restored(self.restored(b, after: TaskDependency([a, c])), failures: 0, on: nil))
        #expect(world.on(.restored(self.restored(e, after: TaskDependency([d])), failures: 0, on: nil)).count == 1)
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.on(.engineReported(ada, EngineReport(asked: [], has: []))) == [.sendAgain(a, to: ada)])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .sendAgain(b, to: ada)])
    }

    @Test("A restored task that an engine had has its arguments when it is given out again")
    func inputs() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.ended(c, succeeded: true, on: ada))
        let request = TaskRequest(a, inputs: [c])
        #expect(world.on(.restored(request, failures: 0, on: ada)) == [.findResult(of: c, for: a)])
        #expect(world.on(.resultFound(of: c, for: a)) == [])
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.on(.engineReported(ada, EngineReport(asked: [a], has: []))) == [.sendAgain(a, to: ada)])
    }

    @Test("A restored task that an engine had ends when it is given out again and an argument is not to be had")
    func missingInputs() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.restored(TaskRequest(a, inputs: [c]), failures: 0, on: ada))
        #expect(world.on(.resultMissing(of: c, for: a, why: "gone")) == [])
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(
            world.on(.engineReported(ada, EngineReport(asked: [a], has: []))) == [.fail(a, .inputMissing(c, "gone"))])
    }

    @Test(
        "A restored task that waits for tasks of its own leaves room for them, also before its engine has reported",
        arguments: [nil, ada])
    func waiting(assigned: EngineUUID?) {
        var world = Transcript(hwm: 1)
        world.on(.engineExpected(ada))
        world.on(.restored(self.restored(a), failures: 0, on: assigned))
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.on(.submitted(TaskRequest(b, depth: 1))) == (assigned == nil ? [.send(b, to: ada)] : []))
        #expect(world.on(.waits(a, on: ada)) == (assigned == nil ? [] : [.send(b, to: ada)]))
        #expect(world.on(.engineReported(ada, EngineReport(asked: [a], has: [a]))) == [])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada)])
        #expect(world.on(.goesOn(a, on: ada)) == [])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
    }

    @Test("An engine that keeps the answer of a task that failed there does not have the task any more")
    func keptFailure() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.restored(self.restored(a, retries: 1), failures: 0, on: ada))
        world.on(.restored(self.restored(b), failures: 0, on: ada))
        world.on(.engineJoined(ada, understandsRecall: true))
        #expect(world.reply(a, from: ada, .error) == [])
        #expect(world.on(.engineReported(ada, EngineReport(asked: [a, b], has: [a, b]))) == [])
        #expect(world.scheduler.assigned(to: ada) == [b])
        #expect(world.reply(b, from: ada) == [.relay(b, from: ada), .sendAgain(a, to: ada)])
    }

    @Test("A restored task with retries that an engine has queued is that engine's")
    func claimedWithRetries() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.restored(TaskRequest(a, retries: 1), failures: 0, on: nil))
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])
    }

    @Test("A task for two engines of which one is gone waits for the other to come back")
    func otherTarget() {
        var world = Transcript()
        world.on(.engineExpected(bob))
        let request = TaskRequest(a, retries: 1, targets: [ada, bob])
        #expect(world.on(.restored(request, failures: 0, on: ada)) == [])
        world.on(.engineJoined(bob, understandsRecall: true))
        #expect(world.on(.engineReported(bob, EngineReport(asked: [], has: []))) == [.sendAgain(a, to: bob)])
    }

    @Test("A restored task for one engine waits for that engine")
    func targets() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.engineExpected(bob))
        world.on(.restored(self.restored(a, retries: 3, targets: [bob]), failures: 0, on: nil))
        world.on(.engineJoined(ada, understandsRecall: true))
        world.on(.engineReported(ada, EngineReport(asked: [], has: [])))
        world.on(.engineJoined(bob, understandsRecall: true))
        #expect(world.on(.engineReported(bob, EngineReport(asked: [], has: []))) == [.sendAgain(a, to: bob)])
    }

    @Test("A task that is restored twice, or has ended, is refused")
    func twice() {
        var world = Transcript()
        world.on(.engineExpected(ada))
        world.on(.restored(self.restored(a), failures: 0, on: ada))
        #expect(world.on(.restored(self.restored(a), failures: 0, on: nil)) == [.refuse(a)])
        world.reply(a, from: ada)
        #expect(world.on(.restored(self.restored(a), failures: 0, on: nil)) == [.refuse(a)])
    }

    @Test("Whatever engines say in whichever order, each restored task ends once", arguments: UInt64(0)..<100)
    func walks(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let engines = [ada, bob, eve]
        let tasks = (0..<12).map { TaskID("t\($0)") }
        var world = Transcript(hwm: Int.random(in: 1...3, using: &random))
        var endings: [TaskID: Int] = [:]
        var held: [EngineUUID: Set<TaskID>] = [:]
        func note(_ effects: [TaskScheduler.Effect]) {
            for effect in effects {
                switch effect {
                case .send(let task, let engine), .sendAgain(let task, let engine): held[engine, default: []].insert(task)
                case .relay(let task, _), .fail(let task, _): endings[task, default: 0] += 1
                default: break
                }
            }
        }
        for engine in engines { world.on(.engineExpected(engine)) }
        for task in tasks {
            let engine = Bool.random(using: &random) ? engines.randomElement(using: &random) : nil
            // What the store has of its engine may be older than what the engine has.
            let holder = Int.random(in: 0..<4, using: &random) == 0 ? engines.randomElement(using: &random) : engine
            if engine == nil || holder == engine, let holder { held[holder, default: []].insert(task) }
            let request = TaskRequest(task, retries: Int.random(in: 0...2, using: &random))
            note(world.on(.restored(request, failures: Int.random(in: 0...1, using: &random), on: engine)))
        }
        for engine in engines.shuffled(using: &random) {
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                held[engine] = nil
                note(world.on(.engineLeft(engine)))
            default:
                let asked = Set(world.scheduler.assigned(to: engine))
                note(world.on(.engineJoined(engine, understandsRecall: Bool.random(using: &random))))
                if Bool.random(using: &random), let task = held[engine]?.sorted().first {
                    held[engine]?.remove(task)
                    note(world.reply(task, from: engine))
                }
                let has = held[engine] ?? []
                let lost = Bool.random(using: &random) ? asked.subtracting(has) : []
                note(world.on(.engineReported(engine, EngineReport(asked: asked, has: has, lost: lost))))
            }
        }
        note(world.on(.engineJoined(EngineUUID("late"), understandsRecall: true)))
        for _ in 0..<100 {
            guard
                let (engine, task) = held.sorted(by: { $0.key.text < $1.key.text }).lazy.compactMap({ entry in
                    entry.value.sorted().first.map { (entry.key, $0) }
                }).first
            else { break }
            held[engine]?.remove(task)
            note(world.reply(task, from: engine))
        }
        #expect(tasks.allSatisfy { endings[$0] == 1 }, "endings \(endings), waiting \(world.scheduler.waiting)")
    }
}
