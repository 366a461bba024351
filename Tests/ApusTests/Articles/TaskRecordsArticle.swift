import Apus
import Testing

@Remote func cube(_ n: Int) -> Int { n * n * n }

extension ArticlesTests {
    @Test("Task records")
    func taskRecords() async throws {
        try await withCluster(.inMemory, engines: 2) { client in
            let ids = try client.loadBalancedView().with { $0.label = "fit" }.mapAsync($cube, 1...3).whole.messageIDs
            let later = try await client.getResult(ids[2], as: [Int].self).value
            #expect(later == [27])
            try await client.wait()

            let again = try await client.resubmit(ids, as: [Int].self).value
            let status = try await client.resultStatus(ids)
            #expect(again == [[1], [8], [27]])
            #expect(status.completed.count == 3)

            let fits = try await client.dbQuery(["label": "fit", "result_content.status": "ok"])
            for record in fits {
                print(record, record.started ?? .now, record.stdout)
            }
            let hour = WireDate(microseconds: WireDate.now.microseconds - 3_600_000_000)
            let slow = try await client.dbQuery(["submitted": ["$gt": .string(hour.description)]], keys: ["engine_uuid"])
            #expect(fits.count == 3)
            #expect(slow.count == 6)

            try await client.purgeHubResults([ids[0]])
            try await client.purgeResults(Array(ids.dropFirst()))
            try await client.purgeEverything()
            #expect(try await client.hubHistory() == [])
        }
    }
}
