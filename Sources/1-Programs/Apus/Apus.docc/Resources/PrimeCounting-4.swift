import Apus

/// How many primes a range of numbers has.
@Remote
func countPrimes(_ range: Range<Int>) -> Int {
    range.count { n in n > 1 && !(2...).lazy.prefix { $0 * $0 <= n }.contains { n % $0 == 0 } }
}

/// Counts the primes below a million, or another limit: `prime-counting [limit]`.
@main
struct PrimeCounting {
    static func main() async throws {
        let limit = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 1_000_000
        try await withCluster(engines: 4) { client in
            let ranges = stride(from: 0, to: limit, by: 10_000).map { $0..<min($0 + 10_000, limit) }
            let counts = try await client.loadBalancedView().map($countPrimes, ranges)
            print(counts.reduce(0, +), "primes below", limit)
        }
    }
}
