import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("Tasks that end with their client")
struct AbandonedTasksTests {
    private let first = "task 1"
    private let second = "task 2"
    private let query = "query 1"

    @Test("Are aborted once it has been gone for as long as it said, each for its own time")
    func gone() {
        var tasks = AbandonedTasks<String>()
        #expect(tasks.isEmpty)
        #expect(tasks.handle(.submitted("a", session: "ann", grace: .seconds(1), by: self.first)) == [])
        #expect(tasks.handle(.submitted("b", session: "ann", grace: .seconds(9), by: self.first)) == [])
        #expect(tasks.handle(.submitted("c", session: "ann", grace: .seconds(1), by: self.first)) == [])
        #expect(tasks.handle(.submitted("d", session: "bob", grace: .seconds(1), by: self.second)) == [])
        #expect(
            tasks.handle(.disconnected(self.first)) == [
                .wait(session: "ann", absence: 1, grace: .seconds(1)), .wait(session: "ann", absence: 1, grace: .seconds(9)),
            ])
        #expect(tasks.handle(.ended("c")) == [])
        #expect(tasks.handle(.graceOver(session: "ann", absence: 1, grace: .seconds(1))) == [.abort(["a"])])
        #expect(tasks.handle(.ended("a")) == [])
        #expect(tasks.handle(.graceOver(session: "ann", absence: 1, grace: .seconds(9))) == [.abort(["b"])])
        #expect(tasks.handle(.ended("b")) == [])
        #expect(tasks.handle(.graceOver(session: "ann", absence: 1, grace: .seconds(9))) == [])
        #expect(!tasks.isEmpty)
        #expect(tasks.handle(.ended("d")) == [])
        #expect(tasks.isEmpty)
    }

    @Test("Stay while any connection of it is there, and when it comes back in time by another one")
    func back() {
        var tasks = AbandonedTasks<String>()
        _ = tasks.handle(.submitted("a", session: "ann", grace: .seconds(1), by: self.first))
        _ = tasks.handle(.heard("ann", by: self.query))
        #expect(tasks.handle(.disconnected(self.first)) == [])
        #expect(tasks.handle(.disconnected(self.query)) == [.wait(session: "ann", absence: 1, grace: .seconds(1))])
        #expect(tasks.handle(.heard("ann", by: self.second)) == [])
        #expect(tasks.handle(.graceOver(session: "ann", absence: 1, grace: .seconds(1))) == [])
        // The time of an earlier absence says nothing of this one.
        #expect(tasks.handle(.disconnected(self.second)) == [.wait(session: "ann", absence: 2, grace: .seconds(1))])
        #expect(tasks.handle(.graceOver(session: "ann", absence: 1, grace: .seconds(1))) == [])
        #expect(tasks.handle(.graceOver(session: "ann", absence: 2, grace: .seconds(1))) == [.abort(["a"])])
    }

    @Test("Of an earlier controller's clients, which are gone until they are heard")
    func restored() {
        var tasks = AbandonedTasks<String>()
        let wait = AbandonedTasks<String>.Effect.wait(session: "ann", absence: 0, grace: .seconds(1))
        #expect(tasks.handle(.submitted("a", session: "ann", grace: .seconds(1), by: nil)) == [wait])
        // One time is enough for all tasks that have it.
        #expect(tasks.handle(.submitted("b", session: "ann", grace: .seconds(1), by: nil)) == [])
        #expect(tasks.handle(.heard("bob", by: self.first)) == [])
        #expect(tasks.handle(.graceOver(session: "ann", absence: 0, grace: .seconds(1))) == [.abort(["a", "b"])])
    }
}
