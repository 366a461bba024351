import Apus
import Foundation

/// Sleeps for a time that the node's number gives, and gives the number back.
@Remote
func work(_ node: Int) -> Int {
    Thread.sleep(forTimeInterval: Double(node % 7) / 10_000)
    return node
}

/// Runs a graph of tasks, each after the tasks that it depends on, and checks their times: `task-graph [nodes] [file for a
/// chart]`.
@main
struct TaskGraph {
    /// The nodes that a node depends on: up to three of those before it, computed from its number.
    static func parents(of node: Int) -> [Int] {
        if node == 0 { return [] }
        return Set([node / 2, node * 7919 % node, node - 1 - node % min(node, 5)]).sorted()
    }

    static func main() async throws {
        let count = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 500
        try await withCluster { client in
            var results: [AsyncResult<Int>] = []
            for node in 0..<count {
                var view = client.loadBalancedView()
                view.label = "node \(node)"
                view.after = TaskDependency(Self.parents(of: node).flatMap { results[$0].messageIDs })
                results.append(try view.applyAsync($work, node))
            }
            for (node, result) in results.enumerated() {
                guard try await result.value == node else { throw ApusError(.badResult, "node \(node) gave another's result") }
            }
            let times = results.map { $0.metadata[0] }
            var edges = 0
            for node in 0..<count {
                for parent in Self.parents(of: node) {
                    guard let began = times[node].started, let ended = times[parent].completed, began >= ended else {
                        print("node \(node) began before node \(parent) had ended")
                        exit(1)
                    }
                    edges += 1
                }
            }
            let chart = Timeline(times)
            print(
                "\(count) tasks with \(edges) edges in \(chart.duration) s on \(chart.engines.count) engines, each after those it needs"
            )
            if let path = CommandLine.arguments.dropFirst(2).first {
                try chart.svg().write(toFile: path, atomically: true, encoding: .utf8)
            }
        }
    }
}
