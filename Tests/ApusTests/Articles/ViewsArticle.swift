import Apus
import Testing

@Remote func discount(_ years: Double) throws -> Double {
    let rate = try EngineContext.current?.namespace.get("rate", as: Double.self) ?? 0
    return (0..<Int(years)).reduce(1) { value, _ in value / (1 + rate) }
}

extension ArticlesTests {
    @Test("Views")
    func views() async throws {
        try await withCluster(.inMemory, engines: 2) { client in
            let balanced = client.loadBalancedView()
            let careful = balanced.with { $0.retries = 3 }
            #expect(balanced.retries == 0 && careful.retries == 3)

            let one = client[0]
            let all = client[...]
            let some = client[0..<2]
            let backwards = client[[1, 0]]
            #expect(one.id == 0)
            #expect(try some.ids == [0, 1])
            #expect(try backwards.ids == [1, 0])

            try await all.push("rate", 0.03)
            try await all.scatter("prices", [100.0, 101, 99, 102])
            let parts = try await all.pull("prices", as: [Double].self)
            let prices = try await all.gather("prices", as: Double.self)
            #expect(parts == [[100, 101], [99, 102]])
            #expect(prices == [100, 101, 99, 102])

            let discounts = try await all.map($discount, [1.0, 2, 3, 4])
            #expect(discounts.count == 4 && discounts[0] == 1 / 1.03)

            let near = client.loadBalancedView([0, 1])
            let discounted = try await near.apply($discount, 2)
            #expect(discounted == discounts[1])

            let everywhere = client.broadcastView()
            try await everywhere.push("table", (0..<10_000).map { Double($0) })
            let same = try await everywhere.apply($discount, 1)
            #expect(same == [discounts[0], discounts[0]])
        }
    }
}
