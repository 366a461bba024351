import ApusSimulation
import ArgumentParser
import Dispatch
import Synchronization

/// Tries the promises of the task scheduler in many simulated clusters; `scripts/simulate` builds and runs this program.
@main
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus-simulate",
        abstract: "Simulate clusters, one for each seed, and tell which of them broke a promise.",
        discussion: """
            In each simulated cluster engines die, refuse and come back, clients submit graphs of tasks and abort them, and messages are late \
            or come twice. Every task must end exactly once, for the cause that is stated, and none may wait without a reason.

            The seeds of one run are tried on all cores. The exit code is 1 if one of them failed; '--story SEED' then prints everything \
            that happened in that cluster.
            """)

    @Argument(help: "How many seeds to try.")
    var seeds: UInt64 = 10_000

    @Option(help: "The first seed.")
    var first: UInt64 = 0

    @Option(help: ArgumentHelp("Print all that happens in the cluster of this seed, and try no other.", valueName: "seed"))
    var story: UInt64?

    func validate() throws {
        guard !self.first.addingReportingOverflow(self.seeds).overflow else {
            throw ValidationError("there are no seeds beyond \(UInt64.max)")
        }
    }

    func run() throws {
        if let seed = self.story { return try Self.tell(seed) }
        let failed = Mutex<[UInt64]>([])
        let done = Atomic<UInt64>(0)
        let (first, count) = (self.first, self.seeds)
        let last = first + count
        // Small pieces, for a few worlds take far longer than the rest.
        let piece: UInt64 = 20
        DispatchQueue.concurrentPerform(iterations: Int(clamping: count / piece + 1)) { index in
            let start = first + UInt64(index) * piece
            guard start < last else { return }
            let end = min(start + piece, last)
            for seed in start..<end {
                let world = SimulatedCluster.run(seed: seed)
                guard let problem = world.problem else { continue }
                failed.withLock { $0.append(seed) }
                print("seed \(seed): \(problem)")
            }
            let sum = done.wrappingAdd(end - start, ordering: .relaxed).newValue
            if sum / 1000 != (sum - (end - start)) / 1000 { print("\(sum) of \(count) tried") }
        }
        let seeds = failed.withLock { $0.sorted() }
        print("\(seeds.count) of \(count) failed")
        if let seed = seeds.first {
            print("all that happened in the first: scripts/simulate --story \(seed)")
            throw ExitCode.failure
        }
    }

    private static func tell(_ seed: UInt64) throws {
        let world = SimulatedCluster.run(seed: seed)
        for line in world.transcript { print(line) }
        print(world.problem.map { "seed \(seed): \($0)" } ?? "seed \(seed) broke no promise")
        if world.problem != nil { throw ExitCode.failure }
    }
}
