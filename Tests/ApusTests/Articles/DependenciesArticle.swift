import Apus
import Testing

@Remote func loadTable(_ name: String) throws -> [Double] {
    try EngineContext.current?.namespace.set(name, to: [1.0, 2, 3])
    return [1, 2, 3]
}

@Remote func hasTable(_ name: String) throws -> Bool {
    try EngineContext.current?.namespace.get(name, as: [Double].self) != nil
}

@Remote func checkTable(_ name: String) throws -> Bool { try hasTable(name) }

@Remote func sumTable(_ table: [Double], times factor: Double) -> Double { table.reduce(0, +) * factor }

@Remote func describeSum(_ sum: Double) -> String { "it is \(sum)" }

@Remote func sumNamed(_ name: String) throws -> Double {
    try EngineContext.current?.namespace.get(name, as: [Double].self)?.reduce(0, +) ?? 0
}

extension ArticlesTests {
    @Test("Dependencies")
    func dependencies() async throws {
        try await withCluster(.inMemory, engines: 2) { client in
            let view = client.loadBalancedView()
            let loaded = try view.applyAsync($loadTable, "2026")
            let checked = try view.with { $0.after = TaskDependency(loaded) }.applyAsync($checkTable, "2026")
            let near = try view.with { $0.follow = TaskDependency(loaded) }.applyAsync($checkTable, "2026")
            #expect(try await near.value, "it runs where the table was loaded")
            #expect(try await checked.value || loaded.isReady)

            let repair = view.with { $0.after = TaskDependency(loaded, success: false, failure: true) }
            let error = await #expect(throws: ApusError.self) { try await repair.apply($loadTable, "2026") }
            #expect(error?.code == .impossibleDependency)

            let table = try view.applyAsync($loadTable, "2026")
            let sum = try view.applyAsync($sumTable, .result(of: table), .value(0.5))
            let report = try await view.apply($describeSum, .result(of: sum))
            #expect(report == "it is 3.0")

            let solve = try $checkTable.depending(on: $hasTable, "2026")
            let found = try await view.apply(solve, "2026")
            #expect(found)

            let prepared = try $sumNamed.requiring(["table": [1.0, 2, 3]])
            let preparedSum = try await client[0].apply(prepared, "table")
            #expect(preparedSum == 6)
        }
    }
}
