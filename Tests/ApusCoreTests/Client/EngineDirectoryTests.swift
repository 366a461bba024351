import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("What a client knows of engines")
struct EngineDirectoryTests {
    private func answer(_ engines: [String: String]) -> JSONValue { ["engines": .object(engines.mapValues { .string($0) })] }

    @Test("News that came while a question was open is newer than its answer, and earlier news is not")
    func newsDuringQuestion() {
        var directory = EngineDirectory()
        directory.take(.added(0, EngineUUID("ada"), [:]))
        let question = directory.ask()
        directory.take(.added(1, EngineUUID("bob"), [:]))
        directory.take(.removed(2, EngineUUID("eve")))
        var isAnswer = directory.take(self.answer(["0": "ada", "2": "eve"]), to: question)
        #expect(isAnswer)
        directory.close(question)
        #expect(directory.engines == [0: EngineUUID("ada"), 1: EngineUUID("bob")])
        let next = directory.ask()
        isAnswer = directory.take(self.answer(["0": "ada"]), to: next)
        #expect(isAnswer)
        directory.close(next)
        #expect(directory.engines == [0: EngineUUID("ada")])
    }

    @Test("An id that has passed to another engine is not lost with the first")
    func idPassedOn() {
        var directory = EngineDirectory()
        directory.take(.added(0, EngineUUID("ada"), [:]))
        directory.take(.added(0, EngineUUID("bob"), [:]))
        directory.take(.removed(0, EngineUUID("ada")))
        #expect(directory.engines == [0: EngineUUID("bob")])
    }
}
