import Apus
import ApusTestKit
import Foundation
import Testing

@Remote
private func seedOf(_ number: Int) -> Int { number }

@Remote
private func addUp(_ a: Int, _ b: Int, _ c: Int) -> Int { (a &+ b &+ c) % 1_000_003 }

@Remote
private func describeWords(_ words: [String], _ separator: String) -> String { words.joined(separator: separator) }

@Remote
private func bigNoise(_ count: Int) -> NDArray { NDArray((0..<count).map { Double($0) }) }

@Remote
private func sumOfNoise(_ noise: NDArray, _ scale: Double) throws -> Double {
    try noise.elements(as: Double.self).reduce(0, +) * scale
}

@Remote
private func breakDown(_ text: String) throws -> Int { throw Breakdown(text: text) }

private struct Breakdown: Error { let text: String }

@Suite("Results as arguments", .timeLimit(.minutes(2)))
struct ResultArgumentTests {
    @Test("A result is an argument of another task, beside values, and need not be there yet")
    func everyday() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let view = client.loadBalancedView()
            let two = try view.applyAsync($seedOf, 2)
            let sum = try view.applyAsync($addUp, .result(of: two), .value(3), .value(4))
            #expect(try await view.apply($addUp, .result(of: sum), .result(of: two), .result(of: two)) == 13)

            let words = try view.applyAsync(#remote { (count: Int) in (0..<count).map { "w\($0)" } }, 3)
            #expect(try await view.apply($describeWords, .result(of: words), .value(", ")) == "w0, w1, w2")

            // Large blocks travel beside the pickle, so that the call has more buffers than it had.
            let noise = try view.applyAsync($bigNoise, 1000)
            #expect(try await view.apply($sumOfNoise, .result(of: noise), .value(2)) == 999_000)

            let k = 10
            let captured = #remote { [k = k as Int] (x: Int) in x * k }
            #expect(try await view.apply(captured, .result(of: sum)) == 90)
        }
    }

    @Test("It may be of a task that an engine was given directly, that has ended, or of another client")
    func anywhere() async throws {
        try await withInMemoryCluster(engines: 2) { client, cluster in
            let direct = try client[1].applyAsync($seedOf, 5)
            let view = client.loadBalancedView()
            #expect(try await view.apply($addUp, .result(of: direct), .value(1), .value(1)) == 7)
            let ended = try view.applyAsync($seedOf, 6)
            _ = try await ended.value
            #expect(try await view.apply($addUp, .result(of: ended), .value(1), .value(1)) == 8)
            let other = try await cluster.connect()
            #expect(
                try await other.loadBalancedView([0]).apply($addUp, .result(ofTask: ended.messageIDs[0]), .value(1), .value(1))
                    == 8)
            await other.close()
            let again = try await client.resubmit(
                [try view.applyAsync($addUp, .result(of: ended), .value(2), .value(2)).ended()], as: Int.self)
            #expect(try await again.value(timeout: .seconds(10)) == [10])
        }
    }

    @Test("Where there is no result, the task that takes it says which is missing")
    func missing() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let view = client.loadBalancedView()
            let broken = try view.applyAsync($breakDown, "first")
            let taking = try view.applyAsync($addUp, .result(of: broken), .value(1), .value(1))
            let behind = try view.applyAsync($addUp, .value(1), .result(of: taking), .value(1))
            let failed = await #expect(throws: ApusError.self) { try await taking.value }
            #expect(failed?.code == .impossibleDependency)
            #expect(failed?.message.contains(broken.messageIDs[0].text) == true)
            let next = await #expect(throws: ApusError.self) { try await behind.value }
            #expect(next?.message.contains(taking.messageIDs[0].text) == true)

            let purged = try view.applyAsync($seedOf, 6)
            _ = try await purged.value
            try await client.purgeHubResults(purged.messageIDs)
            let gone = await #expect(throws: ApusError.self) {
                try await view.apply($addUp, .result(of: purged), .value(1), .value(1))
            }
            #expect(gone?.code == .impossibleDependency)
            #expect(gone?.message.contains("purged") == true)

            let many = try client[...].applyAsync($seedOf, 1)
            #expect(throws: ApusError.self) {
                try view.applyAsync(PythonFunction("f"), .result(of: many), returning: Int.self)
            }
        }
    }

    @Test("A purge does not take away what tasks wait for, and a wait can be aborted")
    func purgedLater() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let view = client.loadBalancedView()
            let slow = try view.applyAsync(
                #remote { () async throws -> Int in
                    try await Task.sleep(for: .seconds(60))
                    return 1
                })
            let six = try client[0].applyAsync($seedOf, 6)
            let taking = try view.applyAsync($addUp, .result(of: slow), .result(of: six), .value(1))
            try await client.abort(taking.messageIDs)
            let aborted = await #expect(throws: ApusError.self) { try await taking.value }
            #expect(aborted?.code == .taskAborted)
            try await slow.abort(interrupting: true)
        }
    }

    @Test("Thousands of tasks take each other's results, and engines die meanwhile", arguments: UInt64(0)..<3)
    func graph(seed: UInt64) async throws {
        try await withInMemoryCluster(engines: 4) { client, cluster in
            var random = SplitMix(state: seed)
            let view = client.loadBalancedView().with { $0.retries = 5 }
            var results: [AsyncResult<Int>] = []
            var expected: [Int] = []
            for number in 0..<3000 {
                if number == 1000 || number == 2000 { await cluster.killEngine(number / 1000) }
                if results.isEmpty || random.next() % 10 == 0 {
                    results.append(try view.applyAsync($seedOf, number))
                    expected.append(number)
                } else {
                    // Late results, whose tasks live, and early ones, whose records are gone since, but not before they were
                    // asked for.
                    let (a, b) = (Int(random.next() % UInt64(results.count)), results.count - 1)
                    let first = max(a, results.count - 500)
                    results.append(
                        try view.applyAsync($addUp, .result(of: results[first]), .value(number), .result(of: results[b])))
                    expected.append((expected[first] + number + expected[b]) % 1_000_003)
                }
            }
            var wrong = 0
            for (result, value) in zip(results, expected) where try await result.value != value { wrong += 1 }
            #expect(wrong == 0, "replay: seed \(seed)")
            #expect(try await client.queueStatus().unassigned == 0)
        }
    }
}

extension AsyncResult {
    /// The task's id, once it has ended.
    fileprivate func ended() async throws -> TaskID {
        try await self.wait()
        return self.messageIDs[0]
    }
}

/// A generator of numbers that follow from a seed.
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
