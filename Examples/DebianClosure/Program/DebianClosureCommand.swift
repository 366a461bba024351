import Apus
import ArgumentParser
import DebianClosure
import Foundation

/// Finds for every Debian package the packages that installing it would bring.
@main
struct DebianClosureCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "debian-closure",
        abstract: "Finds the transitive dependencies of every Debian package, on a cluster of this machine's processors.",
        discussion: """
            For each package: all that installing it on an empty system would bring, and which of its direct needs brings the
            most that nothing else does. Reads the index that 'apt-get update' fetched.
            """)

    @Option(name: [.short, .long], help: "How many engines to start (default: one per processor).")
    var engines: Int = ProcessInfo.processInfo.activeProcessorCount

    @Option(help: "How many chunks to cut the packages into.")
    var chunks: Int = 200

    @Flag(help: "Follow every alternative of a dependency, not only the first that exists.")
    var every = false

    @Flag(help: "Leave out recommended packages, as 'apt-get install --no-install-recommends' does.")
    var noRecommends = false

    @Flag(help: "Do not run the same work on one engine for comparison.")
    var noBaseline = false

    func validate() throws {
        guard self.engines > 0, self.chunks > 0 else { throw ValidationError("There must be an engine and a chunk at least.") }
    }

    func run() async throws {
        let clock = ContinuousClock()
        let reading = clock.now
        let index = try PackageIndex(parsing: AptIndex.files())
        let graph = DependencyGraph(index, choosing: self.every ? .every : .first, withRecommended: !self.noRecommends)
        write(
            "Debian's index: \(graph.packageCount.grouped) packages, \(graph.targets.count.grouped) dependencies"
                + "  (read in \((clock.now - reading).inSeconds))\n")

        let starting = clock.now
        try await withCluster(engines: self.engines) { client in
            write("Cluster: a controller and \(self.engines) engines  (started in \((clock.now - starting).inSeconds))\n")
            let pushing = clock.now
            try await client[...].push(graph.arrays)
            write("Pushed the graph to all engines  (in \((clock.now - pushing).inSeconds))\n\n")

            var baseline: Duration?
            if self.engines > 1 && !self.noBaseline {
                let one = client.ids.first.map { Targets.engines([$0]) }
                baseline = try await self.map(graph, on: client, targets: one, title: "One engine  ").elapsed
            }
            let all = try await self.map(graph, on: client, targets: nil, title: "All engines ")
            self.report(all, index: index, baseline: baseline)
        }
    }

    private struct Outcome {
        var summary = ClosureSummary()
        var tasks: [Int: (count: Int, seconds: Double)] = [:]
        var elapsed: Duration = .zero
    }

    private func map(_ graph: DependencyGraph, on client: Client, targets: Targets?, title: String) async throws -> Outcome {
        var view = client.loadBalancedView()
        view.targets = targets
        let size = (graph.packageCount + self.chunks - 1) / self.chunks
        let ranges = stride(from: 0, to: graph.packageCount, by: max(1, size)).map {
            $0..<min($0 + size, graph.packageCount)
        }
        var outcome = Outcome()
        var progress = ProgressLine(title, total: graph.packageCount)
        progress.show(0)
        for try await chunk in try view.mapAsync($closures, ranges, ordered: false) {
            outcome.summary.merge(chunk.summary)
            outcome.tasks[chunk.engine, default: (0, 0)].count += 1
            outcome.tasks[chunk.engine]?.seconds += chunk.seconds
            progress.show(outcome.summary.packageCount)
        }
        outcome.elapsed = progress.finish()
        return outcome
    }

    private func report(_ outcome: Outcome, index: PackageIndex, baseline: Duration?) {
        let summary = outcome.summary
        func name(_ package: Int) -> String { index.packages[package].name }

        var largest = TextTable([("Heaviest packages", .left), ("brings", .right), ("MB installed", .right)])
        for entry in summary.largest {
            largest.add(name(entry.package), entry.report.size.packages.grouped, entry.report.size.installedKiB.mebibytes)
        }
        var costliest = TextTable([
            ("Heaviest single dependencies", .left), ("is needed by", .left), ("adds MB", .right), ("of", .right),
        ])
        for entry in summary.costliest {
            guard let need = entry.report.heaviestNeed else { continue }
            costliest.add(
                name(Int(need)), name(entry.package), entry.report.saving.installedKiB.mebibytes,
                entry.report.size.installedKiB.mebibytes)
        }
        var work = TextTable([("Engine", .right), ("tasks", .right), ("busy", .right)])
        for (engine, tasks) in outcome.tasks.sorted(by: { $0.key < $1.key }) {
            work.add("\(engine)", tasks.count.grouped, Duration.seconds(tasks.seconds).inSeconds)
        }
        let mean = summary.total.packages / max(1, summary.packageCount)
        write("\n\(largest)\n\n\(costliest)\n\n\(work)\n\n")
        write("On average a package brings \(mean.grouped), itself among them.\n")
        if let baseline {
            let speedUp = (baseline / outcome.elapsed * 100).rounded() / 100
            write(
                "\(self.engines) engines did in \(outcome.elapsed.inSeconds) what took one \(baseline.inSeconds): \(speedUp) times as fast.\n"
            )
        }
    }
}
