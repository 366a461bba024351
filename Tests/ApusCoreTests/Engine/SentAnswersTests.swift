import ApusCore
import Testing

@Suite("The answers that an engine keeps")
struct SentAnswersTests {
    private func time(_ seconds: Double) -> MonotonicTime { MonotonicTime(.seconds(seconds)) }

    @Test("An answer is kept for two seconds, and dropped with the next one")
    func age() {
        var answers = SentAnswers<String>()
        answers.keep("a", byteCount: 1, at: self.time(1))
        answers.keep("b", byteCount: 1, at: self.time(2))
        #expect(answers.all == ["a", "b"])
        answers.keep("c", byteCount: 1, at: self.time(3.5))
        #expect(answers.all == ["b", "c"])
        #expect(answers.isComplete(at: self.time(3.5)))
    }

    @Test("Time without a controller does not count")
    func absence() {
        var answers = SentAnswers<String>()
        answers.keep("a", byteCount: 1, at: self.time(1))
        answers.connectionLost(at: self.time(1.5))
        answers.keep("b", byteCount: 1, at: self.time(60))
        #expect(answers.all == ["a", "b"])
        answers.reported(at: self.time(60))
        // The controller may ask again.
        answers.keep("c", byteCount: 1, at: self.time(65))
        #expect(answers.all == ["a", "b", "c"])
        answers.keep("d", byteCount: 1, at: self.time(71))
        #expect(answers.all == ["d"])
    }

    @Test("Answers beyond a limit are missed for ten seconds with a controller")
    func limits() {
        var answers = SentAnswers<String>(countLimit: 2, byteLimit: 100)
        for answer in ["a", "b", "c"] { answers.keep(answer, byteCount: 1, at: self.time(1)) }
        #expect(answers.all == ["b", "c"])
        #expect(!answers.isComplete(at: self.time(2)))
        #expect(answers.isComplete(at: self.time(20)))
        answers.keep("large", byteCount: 1000, at: self.time(21))
        #expect(answers.all == [])
        answers.connectionLost(at: self.time(22))
        #expect(!answers.isComplete(at: self.time(60)))
    }
}
