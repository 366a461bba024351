import Apus
import Foundation

// Figures of maps: how much time a map takes that chooses its chunks by measured times, against fixed chunk sizes, and a loop on
// the main actor against a loop off it.
extension Bench {
    func measureMaps(_ client: Client) async throws -> [(String, Double)] {
        let view = client.loadBalancedView()
        let count = self.tasks
        func check(_ numbers: [Int]) throws {
            guard numbers == Array(0..<count) else { throw ApusError(.badResult, "the map is wrong") }
        }
        var figures: [(String, Double)] = []
        let before = Self.peakMegabytes
        try check(try await view.map($noop, 0..<count))
        figures.append(("map_measured_s", try await Self.seconds { try check(try await view.map($noop, 0..<count)) }))
        figures.append(("map_measured_grew_MB", Self.peakMegabytes - before))
        for size in [100, 1000, 10_000] {
            figures.append(
                (
                    "map_chunks_of_\(size)_s",
                    try await Self.seconds { try check(try await view.map($noop, 0..<count, chunkSize: size)) }
                )
            )
        }
        let done = try view.mapAsync($noop, 0..<count)
        _ = try await done.value
        figures.append(("loop_off_main_s", try await Self.seconds { _ = try await Self.sum(done) }))
        figures.append(("loop_on_main_s", try await Self.seconds { _ = try await Self.sumOnMain(done) }))
        for size in [1, 100] {
            let number = min(count, 20_000 * size)
            let map = { try view.lazyMap($noop, 0..<number, chunkSize: size) }
            figures.append(("lazy_\(size)_off_main_s", try await Self.seconds { _ = try await Self.sum(map()) }))
            figures.append(("lazy_\(size)_on_main_s", try await Self.seconds { _ = try await Self.sumOnMain(map()) }))
        }
        return figures.map { ($0.0, ($0.1 * 1000).rounded() / 1000) }
    }

    private static func seconds(_ body: () async throws -> Void) async throws -> Double {
        try await ContinuousClock().measure(body) / .seconds(1)
    }

    @concurrent
    private static func sum(_ elements: some AsyncSequence<Int, any Error> & Sendable) async throws -> Int {
        var sum = 0
        for try await element in elements { sum &+= element }
        return sum
    }

    @MainActor
    private static func sumOnMain(_ elements: some AsyncSequence<Int, any Error> & Sendable) async throws -> Int {
        var sum = 0
        for try await element in elements { sum &+= element }
        return sum
    }

    /// The largest memory that this process has had so far, in MiB; 0 where `/proc` does not say.
    private static var peakMegabytes: Double {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return (line?.split(whereSeparator: { !$0.isNumber }).first.flatMap { Double($0) } ?? 0) / 1024
    }
}
