import Apus
import Testing

@Remote func digitSum(_ number: Int) -> Int { digitSumIn(number, base: 10) }

@Remote func digitSumIn(_ number: Int, base: Int) -> Int {
    number == 0 ? 0 : number % base + digitSumIn(number / base, base: base)
}

extension ArticlesTests {
    @Test("Maps")
    func maps() async throws {
        try await withCluster(.inMemory, engines: 2) { client in
            let view = client.loadBalancedView()
            let roots = try await view.map($digitSum, 0..<1000)
            #expect(roots == (0..<1000).map { digitSum($0) })
            let same = try await view.map($digitSum, 0..<1000, chunkSize: 50)
            #expect(same == roots)

            var largest = 0
            for try await sum in try view.mapAsync($digitSum, 0..<1000, ordered: false) {
                largest = max(largest, sum)
            }
            #expect(largest == 27)

            let sums = try await view.map($digitSumIn, [7, 8, 9, 255], [2, 8, 3, 16])
            #expect(sums == [3, 1, 1, 30])

            for try await sum in try view.lazyMap($digitSum, 0..., chunkSize: 100, maxOutstanding: 8) {
                if sum > 30 { break }
            }

            let (numbers, producer) = AsyncStream.makeStream(of: Int.self)
            for number in 1...100 { producer.yield(number * number) }
            producer.finish()
            var total = 0
            for try await sum in try view.lazyMap($digitSum, numbers, chunkSize: 10, ordered: false) { total += sum }
            #expect(total == (1...100).reduce(0) { $0 + digitSum($1 * $1) })
        }
    }
}
