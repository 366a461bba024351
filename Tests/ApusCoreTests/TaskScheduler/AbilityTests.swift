import ApusCore
import ApusWire
import Testing

@Suite("Engines that differ in what they can run")
struct AbilityTests {
    private let swift = EngineAbilities(runsPython: false, functions: ["Program.square", "square"], build: "one")
    private let both = EngineAbilities(runsPython: true, functions: ["cube"], build: "two")

    /// ada runs Python, bob Swift.
    private func mixed() -> Transcript {
        var world = Transcript(engines: [ada])
        world.on(.engineJoined(bob, understandsRecall: true, abilities: self.swift))
        return world
    }

    @Test("A Python task waits for an engine with Python though another is idle")
    func python() {
        var world = self.mixed()
        #expect(world.submit(a, need: .python) == [.send(a, to: ada)])
        #expect(world.submit(b, need: .python) == [])
        #expect(world.scheduler.whyWaiting(b) == .targetsBusy([ada]))
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada), .send(b, to: ada)])
    }

    @Test("A Swift function goes to the engines that have it; a name that none has is Python's")
    func names() {
        var world = self.mixed()
        #expect(world.submit(a, need: .name("square")) == [.send(a, to: bob)])
        #expect(world.submit(b, need: .name("square")) == [])
        #expect(world.submit(c, need: .name("math.sqrt")) == [.send(c, to: ada)])
        #expect(world.reply(a, from: bob) == [.relay(a, from: bob), .send(b, to: bob)])
    }

    @Test("A closure goes to an engine of its build")
    func builds() {
        var world = self.mixed()
        world.on(.engineJoined(eve, understandsRecall: true, abilities: self.both))
        #expect(world.submit(a, need: .build("two")) == [.send(a, to: eve)])
        #expect(world.submit(b, need: .build("one")) == [.send(b, to: bob)])
    }

    @Test("A task whose need is not known goes anywhere")
    func unknown() {
        var world = self.mixed()
        #expect(world.submit(a) == [.send(a, to: bob)])
        #expect(world.submit(b) == [.send(b, to: ada)])
    }

    @Test("What no engine can run goes to one that says so")
    func nobody() {
        var world = self.mixed()
        #expect(world.submit(a, need: .build("three")) == [.send(a, to: bob)])
    }

    @Test("Tasks that waited when the first engine of another kind joined do not go to it")
    func turnsMixed() {
        var world = Transcript(engines: [ada])
        world.submit(a, need: .python)
        #expect(world.submit(b, need: .python) == [])
        #expect(world.on(.engineJoined(bob, understandsRecall: true, abilities: self.swift)) == [])
        #expect(world.on(.engineJoined(eve, understandsRecall: true)) == [.send(b, to: eve)])
    }

    @Test("When the last engine that can run a task is gone, another gets it and says that it cannot")
    func lastLeaves() {
        var world = self.mixed()
        world.submit(a, need: .python)
        world.submit(b, need: .python)
        #expect(world.on(.engineLeft(ada)) == [.fail(a, .engineDied(ada)), .send(b, to: bob)])
    }

    @Test("A retry stays among the engines that can run it")
    func retries() {
        var world = self.mixed()
        #expect(world.submit(a, retries: 1, need: .python) == [.send(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.sendAgain(a, to: ada)])
        #expect(world.reply(a, from: ada, .error) == [.relay(a, from: ada)])
    }

    @Test("An engine that has loaded a function gets the tasks that call it, also those that wait already")
    func changes() {
        var world = self.mixed()
        world.on(.engineJoined(eve, understandsRecall: true, abilities: self.swift))
        #expect(world.submit(a, need: .name("cube")) == [.send(a, to: ada)])
        #expect(world.submit(b, need: .name("cube")) == [])
        var more = self.swift
        more.functions.formUnion(["Program.cube", "cube"])
        #expect(world.on(.engineChanged(eve, more)) == [.send(b, to: eve)])
        // It keeps the task that it had.
        #expect(world.reply(b, from: eve) == [.relay(b, from: eve)])
        #expect(world.submit(c, targets: [eve], need: .name("square")) == [.send(c, to: eve)])
    }

    @Test("A user's choice of engines counts for more than what they can run")
    func targets() {
        var world = self.mixed()
        #expect(world.submit(a, targets: [bob], need: .python) == [.send(a, to: bob)])
        #expect(world.submit(b, targets: [ada, bob], need: .python) == [.send(b, to: ada)])
    }
}
