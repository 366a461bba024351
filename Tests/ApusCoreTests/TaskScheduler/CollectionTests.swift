import Testing

@testable import ApusCore
import ApusTestKit

@Suite("The task scheduler's collections agree with plain ones")
struct CollectionTests {
    @Test("Finished tasks are remembered, the last ones only", arguments: UInt64(0)..<20)
    func finishedTasks(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let limit = Int.random(in: 0...300, using: &random)
        var finished = FinishedTasks(limit: limit)
        var plain: [(fingerprint: UInt64, outcome: FinishedTasks.Outcome)] = []
        for number in 0..<2000 {
            // Few different high halves, so that searches run into each other.
            let fingerprint = UInt64.random(in: 0..<40, using: &random) << 32 | UInt64(number)
            let outcome = FinishedTasks.Outcome(succeeded: number % 3 == 0, engine: Int32(number % 7))
            finished.remember(fingerprint, outcome)
            plain.append((fingerprint, outcome))
            if plain.count > limit { plain.removeFirst() }
            let probe = plain.randomElement(using: &random)
            #expect(probe.map { finished.outcome(of: $0.fingerprint) == $0.outcome } ?? true)
        }
        #expect(finished.count == limit)
        #expect(plain.allSatisfy { finished.outcome(of: $0.fingerprint) == $0.outcome })
        #expect(finished.outcome(of: 41 << 32) == nil)
        #expect(finished.outcome(of: 0) == nil)
    }

    @Test("The heap of engines always knows the least", arguments: UInt64(0)..<20)
    func engineHeap(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var heap = EngineHeap()
        var plain: [Int32: EngineHeap.Key] = [:]
        for number in 0..<2000 {
            let engine = Int32.random(in: 0..<50, using: &random)
            if Bool.random(using: &random) {
                let key = EngineHeap.Key(load: Int32.random(in: 0..<5, using: &random), lastUsed: Int64(number))
                heap.update(engine, key)
                plain[engine] = key
            } else {
                heap.remove(engine)
                plain[engine] = nil
            }
            #expect(heap.count == plain.count)
            #expect(heap.first?.key == plain.values.min())
            #expect(heap.contains(engine) == (plain[engine] != nil))
        }
    }

    @Test("The ready queue gives out by priority, then by submission, however tasks come", arguments: UInt64(0)..<20)
    func readyQueue(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var queue = ReadyQueue()
        var plain: [ReadyQueue.Entry] = []
        for _ in 0..<1000 {
            if Int.random(in: 0..<3, using: &random) > 0 {
                let priority = Int32.random(in: -1...1, using: &random)
                let entry = ReadyQueue.Entry(
                    priority: priority, depth: UInt16.random(in: 0..<3, using: &random), slot: 0,
                    sequence: UInt64.random(in: 0..<1_000_000, using: &random))
                queue.insert(entry)
                plain.append(entry)
            } else if let first = plain.min() {
                #expect(queue.first == first)
                queue.removeFirst()
                plain.remove(at: plain.firstIndex(of: first) ?? 0)
            }
            #expect(queue.count == plain.count)
        }
    }
}
