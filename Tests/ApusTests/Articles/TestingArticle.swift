import Apus
import Testing

@Remote func grade(_ answer: String) throws -> Int {
    guard let points = Int(answer) else { throw NotAGrade(answer: answer) }
    return min(points, 15)
}

struct NotAGrade: Error {
    let answer: String
}

func averageGrade(_ answers: [String], with client: Client) async throws -> Double {
    let grades = try await client.loadBalancedView().map($grade, answers, chunkSize: 2)
    return Double(grades.reduce(0, +)) / Double(grades.count)
}

@Remote func convert(_ amount: Double) throws -> Double {
    guard let rate = try EngineContext.current?.namespace.get("rate", as: Double.self) else { throw NotAGrade(answer: "rate") }
    return amount * rate
}

@Suite("The tests of the article on testing")
struct TestingArticleTests {
    @Test("The average grade is that of all answers")
    func average() async throws {
        let grade = try await withCluster(.inMemory, engines: 2) { client in
            try await averageGrade(["12", "14", "99"], with: client)
        }
        #expect(grade > 13.6 && grade < 13.7)
    }

    @Test("An answer that is no grade is an error that says so")
    func noGrade() async throws {
        let error = await #expect(throws: RemoteError.self) {
            try await withCluster(.inMemory, engines: 1) { try await averageGrade(["none"], with: $0) }
        }
        #expect(error?.name == "NotAGrade")
    }

    @Test("Without an engine's name there is no rate")
    func withoutEngine() throws {
        let names = InMemoryNamespace()
        try names.set("rate", to: 1.5)
        let engine = EngineContext(engineID: 0, uuid: "test", namespace: names)
        #expect(try EngineContext.$current.withValue(engine) { try convert(2) } == 3)
        #expect(throws: NotAGrade.self) { try convert(2) }
    }
}
