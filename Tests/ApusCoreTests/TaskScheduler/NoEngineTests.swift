import ApusCore
import ApusWire
import Testing

@Suite("Tasks without an engine to come")
struct NoEngineTests {
    private let reason = "engine 0 ended with signal 9"

    @Test("Where no engine is left or coming, tasks that wait fail, and new ones do at once")
    func nobody() {
        var world = Transcript()
        world.submit(a)
        world.submit(b, after: TaskDependency([a]))
        world.submit(c, timeout: .seconds(60))
        #expect(
            world.on(.noEngineIsComing(self.reason)) == [
                .fail(a, .noEngine(self.reason)), .fail(b, .noEngine(self.reason)), .fail(c, .noEngine(self.reason)),
            ])
        #expect(world.submit(d) == [.fail(d, .noEngine(self.reason))])
        #expect(world.submit(e, after: TaskDependency([d])) == [.fail(e, .impossibleDependency)])
    }

    @Test("An engine that somebody else started takes the tasks, and they fail when it leaves")
    func others() {
        var world = Transcript(engines: [ada])
        #expect(world.on(.noEngineIsComing(self.reason)) == [])
        #expect(world.submit(a) == [.send(a, to: ada)])
        #expect(world.submit(b) == [])
        #expect(world.on(.engineLeft(ada)) == [.fail(a, .engineDied(ada)), .fail(b, .noEngine(self.reason))])
    }

    @Test("What a leaving engine still runs may end; what is to be tried again has no engine for it")
    func retries() {
        var world = Transcript(engines: [ada])
        world.submit(a)
        world.submit(b, retries: 2)
        world.on(.engineRetired(ada))
        #expect(world.on(.noEngineIsComing(self.reason)) == [.fail(b, .noEngine(self.reason))])
        #expect(world.reply(a, from: ada) == [.relay(a, from: ada)])

        var other = Transcript(engines: [ada])
        other.submit(a, retries: 2)
        other.on(.engineLeft(ada))
        #expect(other.on(.noEngineIsComing(self.reason)) == [.fail(a, .noEngine(self.reason))])
    }

    @Test("As soon as one is coming, tasks wait for it")
    func comes() {
        var world = Transcript()
        world.on(.noEngineIsComing(self.reason))
        #expect(world.on(.engineIsComing) == [])
        #expect(world.submit(a) == [])
        #expect(world.on(.engineJoined(ada, understandsRecall: true)) == [.send(a, to: ada)])
    }
}
