import Apus

/// How many primes a range of numbers has.
@Remote
func countPrimes(_ range: Range<Int>) throws -> Int {
    guard range.lowerBound >= 0 else { throw NegativeNumbers(range: range) }
    return range.count { n in n > 1 && !(2...).lazy.prefix { $0 * $0 <= n }.contains { n % $0 == 0 } }
}

struct NegativeNumbers: Error, CustomStringConvertible {
    let range: Range<Int>
    var description: String { "there are no primes among \(self.range)" }
}

/// Counts the primes below a million, or another limit: `prime-counting [limit]`.
@main
struct PrimeCounting {
    static func main() async throws {
        let limit = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 1_000_000
        try await withCluster(engines: 4) { client in
            let ranges = stride(from: 0, to: limit, by: 10_000).map { $0..<min($0 + 10_000, limit) }
            let counts = try client.loadBalancedView().mapAsync($countPrimes, ranges)
            try await counts.waitInteractive()
            print(try await counts.value.reduce(0, +), "primes below", limit)

            for engine in client.ids {
                print("engine \(engine) did \(counts.metadata.count { $0.engineID == engine }) of \(ranges.count) ranges")
            }

            do {
                _ = try await client.loadBalancedView().apply($countPrimes, -10..<10)
            } catch let error as RemoteError {
                print(error.summary)
            }
        }
    }
}
