import ApusCore
import ApusTestKit
import ApusWire
import NIOCore
import Testing

@Suite("Results that tasks take for arguments")
struct TaskInputsTests {
    private let first = [ByteBuffer(string: "first")]

    /// Handles the event, and checks what is kept.
    private func on(
        _ inputs: inout TaskInputs, _ event: TaskInputs.Event, sourceLocation: SourceLocation = #_sourceLocation
    ) -> [TaskInputs.Effect] {
        let effects = inputs.handle(event)
        #expect(throws: Never.self, sourceLocation: sourceLocation) { try inputs.checkInvariants() }
        return effects
    }

    @Test("A result is kept as it comes, until the last task that takes it has ended")
    func kept() {
        var inputs = TaskInputs()
        #expect(self.on(&inputs, .submitted(c, taking: [b, a, b])) == [])
        #expect(self.on(&inputs, .submitted(d, taking: [a])) == [])
        #expect(inputs.missing(for: c) == [a, b])
        #expect(self.on(&inputs, .finished(a, .result(self.first))) == [])
        #expect(inputs.missing(for: c) == [b])
        #expect(inputs.result(of: a) == self.first)
        #expect(self.on(&inputs, .ended(c)) == [])
        #expect(!inputs.isWanted(b))
        #expect(inputs.result(of: a) == self.first)
        #expect(self.on(&inputs, .ended(d)) == [])
        #expect(!inputs.isWanted(a))
        #expect(inputs.result(of: a) == [])
    }

    @Test("Nothing is kept of a task whose result nobody takes")
    func unwanted() {
        var inputs = TaskInputs()
        #expect(self.on(&inputs, .finished(a, .result(self.first))) == [])
        #expect(inputs.result(of: a) == [])
        #expect(self.on(&inputs, .sought(a, for: c, isUnderWay: false)) == [])
        #expect(self.on(&inputs, .lookedUp(a, .result(self.first), isUnderWay: false)) == [])
    }

    @Test("One that has ended is looked up once, for all who take its result")
    func lookedUp() {
        var inputs = TaskInputs()
        _ = self.on(&inputs, .submitted(c, taking: [a]))
        _ = self.on(&inputs, .submitted(d, taking: [a]))
        #expect(self.on(&inputs, .sought(a, for: c, isUnderWay: false)) == [.lookUp(a)])
        #expect(self.on(&inputs, .sought(a, for: d, isUnderWay: false)) == [])
        #expect(
            self.on(&inputs, .lookedUp(a, .result(self.first), isUnderWay: false)) == [
                .found(of: a, for: c), .found(of: a, for: d),
            ])
        #expect(inputs.result(of: a) == self.first)
        #expect(self.on(&inputs, .lookedUp(a, .result([]), isUnderWay: false)) == [], "said twice")
        #expect(inputs.result(of: a) == self.first)
        _ = self.on(&inputs, .submitted(e, taking: [a]))
        #expect(inputs.missing(for: e) == [])
    }

    @Test("Where the records have none, those who look for it are told why")
    func missing() {
        var inputs = TaskInputs()
        _ = self.on(&inputs, .submitted(c, taking: [a]))
        _ = self.on(&inputs, .sought(a, for: c, isUnderWay: false))
        #expect(
            self.on(&inputs, .lookedUp(a, .none(why: "purged"), isUnderWay: false)) == [.missing(of: a, for: c, why: "purged")])
        // Its id may be submitted yet.
        #expect(inputs.isWanted(a))
    }

    @Test("One that an engine was given directly is not looked up: its end tells")
    func direct() {
        var inputs = TaskInputs()
        _ = self.on(&inputs, .submitted(c, taking: [a]))
        #expect(self.on(&inputs, .sought(a, for: c, isUnderWay: true)) == [])
        #expect(self.on(&inputs, .finished(a, .result(self.first))) == [.found(of: a, for: c)])
    }

    @Test("One that was submitted after those who take its result comes by later, whatever the records lack")
    func later() {
        var inputs = TaskInputs()
        _ = self.on(&inputs, .submitted(c, taking: [a]))
        #expect(self.on(&inputs, .sought(a, for: c, isUnderWay: false)) == [.lookUp(a)])
        #expect(self.on(&inputs, .lookedUp(a, .none(why: "no record"), isUnderWay: true)) == [])
        #expect(self.on(&inputs, .finished(a, .none(why: "it failed"))) == [.missing(of: a, for: c, why: "it failed")])
    }

    @Test("A result that comes while it is looked up is told once")
    func race() {
        var inputs = TaskInputs()
        _ = self.on(&inputs, .submitted(c, taking: [a]))
        #expect(self.on(&inputs, .sought(a, for: c, isUnderWay: false)) == [.lookUp(a)])
        #expect(self.on(&inputs, .finished(a, .result(self.first))) == [.found(of: a, for: c)])
        #expect(self.on(&inputs, .lookedUp(a, .none(why: "no record"), isUnderWay: false)) == [])
    }

    @Test("What is looked up for a task that has ended meanwhile is not kept")
    func ended() {
        var inputs = TaskInputs()
        _ = self.on(&inputs, .submitted(c, taking: [a]))
        _ = self.on(&inputs, .sought(a, for: c, isUnderWay: false))
        #expect(self.on(&inputs, .ended(c)) == [])
        #expect(self.on(&inputs, .lookedUp(a, .result(self.first), isUnderWay: false)) == [])
        #expect(!inputs.isWanted(a))
    }
}
