import Apus
import DebianClosure

/// The summary of a chunk, which engine made it, and how long that took.
struct ChunkResult: Codable, Sendable {
    let engine: Int
    let seconds: Double
    let summary: ClosureSummary
}

/// Sums up the closures of a range of packages, on an engine to which the graph was pushed.
@Remote func closures(_ packages: Range<Int>) throws -> ChunkResult {
    guard let engine = EngineContext.current else { throw MissingGraph() }
    let started = ContinuousClock.now
    let summary = ClosureSummary(of: packages, in: try DependencyGraph(in: engine.namespace))
    return ChunkResult(engine: engine.engineID, seconds: (ContinuousClock.now - started) / .seconds(1), summary: summary)
}

struct MissingGraph: Error, CustomStringConvertible {
    var description: String { "no graph was pushed to this engine" }
}

extension DependencyGraph {
    /// The graph as arrays, which are sent as they lie in memory.
    var arrays: [String: any Encodable & Sendable] {
        [
            "graph_offsets": NDArray(self.offsets), "graph_targets": NDArray(self.targets),
            "graph_installed": NDArray(self.installedKiB),
        ]
    }

    init(in namespace: any EngineNamespace) throws {
        guard let offsets = try namespace.get("graph_offsets", as: [Int32].self),
            let targets = try namespace.get("graph_targets", as: [Int32].self),
            let installed = try namespace.get("graph_installed", as: [Int32].self)
        else { throw MissingGraph() }
        self.init(offsets: offsets, targets: targets, installedKiB: installed)
    }
}
