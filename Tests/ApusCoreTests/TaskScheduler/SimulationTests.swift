import ApusTestKit
import ApusWire
import Foundation
import Testing

@Suite("Whatever happens to a cluster")
struct SimulationTests {
    /// How many seeds to try: `APUS_SEEDS`, or 200.
    static let seeds = UInt64(ProcessInfo.processInfo.environment["APUS_SEEDS"] ?? "") ?? 200

    @Test("Every task ends exactly once, whatever dies and whenever", arguments: 0..<seeds)
    func everyTaskEndsOnce(seed: UInt64) {
        var world = SimulatedCluster(seed: seed, engines: Int(1 + seed % 8), tasks: 100)
        world.runUntilQuiet()
        #expect(world.violations == [], "replay: seed \(seed)")
        #expect(world.endings.count >= 100, "tasks submit tasks")
        #expect(world.endings.values.allSatisfy { $0 == 1 }, "replay: seed \(seed)")
    }

    @Test("A run repeats, event by event, from its seed")
    func repeats() {
        var first = SimulatedCluster(seed: 42, engines: 4, tasks: 100)
        var second = SimulatedCluster(seed: 42, engines: 4, tasks: 100)
        first.runUntilQuiet()
        second.runUntilQuiet()
        #expect(first.transcript == second.transcript)
    }
}
