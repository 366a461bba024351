import ApusClusterSimulation
import ApusSimulation
import ArgumentParser
import Dispatch
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Checks the promises of Apus in many simulated clusters; `scripts/simulate` builds and runs this program.
@main
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus-simulate",
        abstract: "Simulate clusters, one for each seed, and tell which of them broke a promise.",
        discussion: """
            There are two kinds of worlds. In one of the kind 'scheduler' the task scheduler alone is real: engines die, refuse and come \
            back, clients submit graphs of tasks and abort them, and messages are late or come twice. In one of the kind 'cluster' the \
            controller, engines and clients are the real ones, over a simulated network and in simulated time. Every task must end \
            exactly once, for the cause that is stated, and none may wait without a reason.

            The seeds of one run are tried on all cores. The exit code is 1 if one of them failed; '--story SEED' then prints everything \
            that happened in that cluster.
            """)

    /// A kind of simulated world.
    enum World: String, CaseIterable, ExpressibleByArgument {
        case scheduler, cluster

        var isPossible: Bool { self == .scheduler || SimulatedWorld.isPossible }
        /// The number of seeds to try by default.
        var seeds: UInt64 { self == .scheduler ? 10_000 : 1000 }

        func run(_ seed: UInt64, traces: Bool = false, isHarsh: Bool) -> (problem: String?, story: [String]) {
            switch self {
            case .scheduler:
                let world = SimulatedCluster.run(seed: seed)
                return (world.problem, world.transcript)
            case .cluster:
                let world = SimulatedWorld.run(seed: seed, traces: traces, isHarsh: isHarsh)
                return (world.problem, world.story)
            }
        }
    }

    @Argument(help: "How many seeds to try of each kind of world; 10000 schedulers and 1000 clusters unless told.")
    var seeds: UInt64?

    @Option(help: "The first seed.")
    var first: UInt64 = 0

    @Option(help: "The kind of world; both in turn unless told.")
    var world: World?

    @Option(help: ArgumentHelp("Print all that happens in the world of this seed, and try no other.", valueName: "seed"))
    var story: UInt64?

    @Flag(help: "Run each world twice, and fail where the two differ.")
    var twice = false

    @Flag(help: "Do what is known to break promises too: cut connections of engines, which loses tasks for good.")
    var harsh = false

    func validate() throws {
        let seeds = self.seeds ?? World.allCases.map { $0.seeds }.max() ?? 0
        guard !self.first.addingReportingOverflow(seeds).overflow else {
            throw ValidationError("there are no seeds beyond \(UInt64.max)")
        }
    }

    func run() throws {
        Self.hashAlike()
        let worlds = (self.world.map { [$0] } ?? World.allCases).filter { world in
            if !world.isPossible { print("worlds of kind '\(world)' cannot be simulated on this system") }
            return world.isPossible
        }
        let failed = worlds.filter { world in
            if let seed = self.story {
                self.tell(world, seed)
            } else {
                self.attempt(world, self.seeds ?? world.seeds, from: self.first)
            }
        }
        if !failed.isEmpty { throw ExitCode.failure }
    }

    /// Gives hash tables the same order in every run of the program, because a seed must give the same world each time. Swift reads
    /// the variable when a program starts, so the program starts itself again.
    private static func hashAlike() {
        #if os(Linux)
            let variable = "SWIFT_DETERMINISTIC_HASHING"
            guard getenv(variable) == nil else { return }
            setenv(variable, "1", 1)
            execv("/proc/self/exe", CommandLine.unsafeArgv)
        #endif
    }

    /// - Returns: Whether a seed failed.
    private func attempt(_ world: World, _ count: UInt64, from first: UInt64) -> Bool {
        let failed = Mutex<[UInt64]>([])
        let done = Atomic<UInt64>(0)
        let last = first + count
        // A run prints its progress about ten times, however many worlds it has.
        let step = max(1, count / 10)
        // The pieces are small because a few worlds take far longer than the rest.
        let piece: UInt64 = world == .scheduler ? 20 : 2
        DispatchQueue.concurrentPerform(iterations: Int(clamping: count / piece + 1)) { index in
            let start = first + UInt64(index) * piece
            guard start < last else { return }
            let end = min(start + piece, last)
            for seed in start..<end {
                let (outcome, story) = world.run(seed, isHarsh: self.harsh)
                let again = { world.run(seed, isHarsh: self.harsh).story }
                guard let problem = outcome ?? (self.twice ? Self.difference(story, again()) : nil) else { continue }
                failed.withLock { $0.append(seed) }
                Self.tell("seed \(seed): \(problem)")
            }
            let sum = done.wrappingAdd(end - start, ordering: .relaxed).newValue
            if sum / step != (sum - (end - start)) / step { Self.tell("\(sum) of \(count) tried") }
        }
        let seeds = failed.withLock { $0.sorted() }
        print("\(world): \(seeds.count) of \(count) failed")
        if let seed = seeds.first { print("all that happened in the first: scripts/simulate --world \(world) --story \(seed)") }
        return !seeds.isEmpty
    }

    /// Prints a line and flushes it, also into a file, because a run may take minutes.
    private static func tell(_ line: String) {
        print(line)
        fflush(nil)
    }

    /// The first difference between two stories; nil if they are the same.
    private static func difference(_ first: [String], _ second: [String]) -> String? {
        for (line, other) in zip(first, second) where line != other { return "once '\(line)', once '\(other)'" }
        return first.count == second.count ? nil : "two stories, of which one goes on"
    }

    /// - Returns: Whether the seed failed.
    private func tell(_ world: World, _ seed: UInt64) -> Bool {
        let (problem, story) = world.run(seed, traces: true, isHarsh: self.harsh)
        for line in story { print(line) }
        print("\(world), seed \(seed): \(problem ?? "broke no promise")")
        return problem != nil
    }
}
