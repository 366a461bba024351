import Apus
import Testing

@Remote func patientSquare(_ n: Int) async throws -> Int {
    try await Task.sleep(for: .milliseconds(n % 3))
    return n * n
}

@Remote func sleepOn(_ seconds: Double) async throws { try await Task.sleep(for: .seconds(seconds)) }

@Remote func mutter(_ count: Int) { for number in 0..<count { print("mumble", number) } }

extension ArticlesTests {
    @Test("Asynchronous results")
    func asynchronousResults() async throws {
        try await withCluster(engines: 2) { client in
            let view = client.loadBalancedView()
            let result = try view.applyAsync($patientSquare, 12)
            print(result)
            let square = try await result.value
            #expect(square == 144)

            if try await result.wait(timeout: .seconds(10)) {
                print(try await result.value)
            }

            let results = try (1...5).map { try view.applyAsync($patientSquare, $0) }
            for await ready in results.asCompleted() {
                print(try await ready.value)
            }
            #expect(results.allSatisfy { $0.isReady })

            let strict = view.with { $0.whenCancelled = .interrupt }
            let waiting = Task { try await strict.apply($sleepOn, 60) }
            waiting.cancel()
            await #expect(throws: (any Error).self) { try await waiting.value }

            let talk = try client[...].applyAsync($mutter, 3)
            for await printed in talk.streamOutput() {
                print(printed.engineID ?? -1, printed.stream, printed.text)
            }
            let everything = talk.metadata.map { $0.stdout }
            #expect(everything == Array(repeating: "mumble 0\nmumble 1\nmumble 2\n", count: 2))

            let map = try view.mapAsync($patientSquare, 0..<100, chunkSize: 5)
            _ = try await map.value
            let times = map.metadata.map { $0.started }
            let chart = map.timeline.svg()
            #expect(times.count == 20 && !times.contains(nil))
            #expect(chart.hasPrefix("<svg"))
        }
    }
}
