import Apus
import ArgumentParser
import Foundation

/// Gives back its argument: the task that does nothing.
@Remote
func noop(_ x: Int) -> Int { x }

/// `apus bench`: the figures that scripts/bench compares with other systems.
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure a cluster of Swift engines.",
        discussion: """
            Starts a cluster, or joins one that runs, and prints: sync_us, the median round trip of a no-op task; direct_sync_us,
            the same addressed to one engine; tasks_per_s, no-op tasks submitted one by one and all awaited; map_tasks_per_s,
            a map with chunks of one; push_MBps and pull_MBps, an array of 100 MB to every engine and back from one.
            With --maps instead: a map of no-op calls whose chunks are measured, and with chunk sizes of 100 to 10,000; loops over
            results on the main actor and off it.
            Build with -c release before you believe a number.
            """)

    @Option(help: "How many engines.") var engines = 2
    @Option(help: "How many tasks.") var tasks = 100_000
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Join the running cluster of the profile instead of starting one.") var join = false
    @Flag(help: "Call a Python function, on engines that run Python; with --join.") var python = false
    @Flag(help: "Measure maps and loops over their results instead.") var maps = false
    @OptionGroup var cluster: ClusterChoice

    func validate() throws {
        if self.python, !self.join { throw ValidationError("--python needs --join: the engines started here run Swift.") }
        if self.engines < 1 { throw ValidationError("--engines is \(self.engines); it must be at least 1.") }
        if self.tasks < 1 { throw ValidationError("--tasks is \(self.tasks); it must be at least 1.") }
    }

    func run() async throws {
        do {
            let figures: [(String, Double)]
            if self.join {
                let client = try await Client.connect(
                    profileDirectory: self.cluster.directory.path, clusterID: self.cluster.clusterID)
                try await client.waitForEngines(self.engines, timeout: .seconds(30))
                figures = try await self.figures(client)
                await client.close()
            } else {
                figures = try await withCluster(engines: self.engines) { try await self.figures($0) }
            }
            if self.json {
                let members = figures.map { "\"\($0.0)\": \($0.1)" }.joined(separator: ", ")
                print("{\"peer\": \"apus\", \"engines\": \(self.engines), \"tasks\": \(self.tasks), \(members)}")
            } else {
                print(table(["FIGURE", "VALUE"], figures.map { [$0.0, "\($0.1)"] }))
            }
        } catch {
            throw fail("\(error)")
        }
    }

    private func figures(_ client: Client) async throws -> [(String, Double)] {
        self.maps ? try await self.measureMaps(client) : try await self.measure(client)
    }

    private func measure(_ client: Client) async throws -> [(String, Double)] {
        let balanced = client.loadBalancedView()
        let one = client[client.ids[0]]
        let every = client[...]
        let count = self.tasks
        let array = NDArray([Double](repeating: 0, count: 100 * 1024 * 1024 / 8))
        let clock = ContinuousClock()

        // Not named `noop`: engines of this program would call the Swift function of that name.
        let inPython: PythonFunction = "noop_of_python"
        if self.python { try await every.execute("def noop_of_python(x): return x") }

        let sync = try await Self.roundTrips {
            _ = self.python ? try await balanced.apply(inPython, 1) as Int : try await balanced.apply($noop, 1)
        }
        let directSync = try await Self.roundTrips {
            _ = self.python ? try await one.apply(inPython, 1) as Int : try await one.apply($noop, 1)
        }
        let submitted = try await clock.measure {
            var results: [AsyncResult<Int>] = []
            results.reserveCapacity(count)
            for number in 0..<count {
                results.append(
                    self.python ? try balanced.applyAsync(inPython, number) : try balanced.applyAsync($noop, number))
            }
            for (number, result) in results.enumerated() {
                guard try await result.value == number else {
                    throw ApusError(.badResult, "task \(number) gave another's result")
                }
            }
        }
        let mapped = try await clock.measure {
            let numbers: [Int] =
                self.python
                ? try await balanced.map(inPython, 0..<count, chunkSize: 1)
                : try await balanced.map($noop, 0..<count, chunkSize: 1)
            guard numbers == Array(0..<count) else {
                throw ApusError(.badResult, "the map is wrong")
            }
        }
        let pushed = try await clock.measure { try await every.push("a", array) }
        var back: NDArray?
        let pulled = try await clock.measure { back = try await one.pull("a", as: NDArray.self) }
        guard back == array else { throw ApusError(.badResult, "the array came back changed") }
        func rounded(_ value: Double) -> Double { (value * 10).rounded() / 10 }
        return [
            ("sync_us", rounded(sync)), ("direct_sync_us", rounded(directSync)),
            ("tasks_per_s", rounded(Double(count) / (submitted / .seconds(1)))),
            ("map_tasks_per_s", rounded(Double(count) / (mapped / .seconds(1)))),
            ("push_MBps", rounded(100 * Double(self.engines) / (pushed / .seconds(1)))),
            ("pull_MBps", rounded(100 / (pulled / .seconds(1)))),
        ]
    }

    /// The median of 300 calls, one after the other, in microseconds.
    private static func roundTrips(_ call: () async throws -> Void) async throws -> Double {
        let clock = ContinuousClock()
        for _ in 0..<30 { try await call() }
        var took: [Duration] = []
        for _ in 0..<300 { took.append(try await clock.measure(call)) }
        return took.sorted()[150] / .microseconds(1)
    }
}
