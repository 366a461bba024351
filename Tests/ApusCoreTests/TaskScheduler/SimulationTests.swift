import ApusSimulation
import ApusWire
import Testing

@Suite("Whatever happens to a cluster")
struct SimulationTests {
    @Test("Every task ends exactly once, whatever dies and whenever", arguments: UInt64(0)..<200)
    func everyTaskEndsOnce(seed: UInt64) {
        let world = SimulatedCluster.run(seed: seed)
        #expect(world.problem == nil, "replay: scripts/simulate --story \(seed)")
        #expect(world.endings.count >= 100, "tasks submit tasks")
        #expect(world.endings.values.allSatisfy { $0 == 1 })
    }

    @Test("A run repeats, event by event, from its seed")
    func repeats() {
        #expect(SimulatedCluster.run(seed: 42).transcript == SimulatedCluster.run(seed: 42).transcript)
    }
}
