import Apus
import Testing

@Remote func isPrime(_ n: Int) -> Bool {
    n > 1 && !(2...).lazy.prefix { $0 * $0 <= n }.contains { n % $0 == 0 }
}

extension ArticlesTests {
    @Test("The landing page's example counts primes")
    func apus() async throws {
        let answers = try await withCluster { client in
            try await client.loadBalancedView().map($isPrime, 1_000_000..<1_010_000)
        }
        print(answers.count { $0 }, "primes")
        #expect(answers.count { $0 } == 753)
    }
}
