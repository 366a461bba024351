import Apus
import Testing

@Remote func nextNumber(_ n: Int) -> Int { n + 1 }

struct Busy: Error {}

/// Opens at the third knock on this engine.
@Remote func openSometimes(_ door: String) throws -> String {
    let names = EngineContext.current?.namespace
    let knocks = (try names?.get("knocks", as: Int.self) ?? 0) + 1
    try names?.set("knocks", to: knocks)
    if knocks < 3 { throw Busy() }
    return door
}

@Remote func engineOfThis() -> Int { EngineContext.current?.engineID ?? -1 }

extension ArticlesTests {
    @Test("Scheduling")
    func scheduling() async throws {
        try await withCluster(.inMemory, engines: 1) { client in
            let urgent = client.loadBalancedView().with { ($0.priority, $0.label) = (10, "tonight") }
            let answer = try urgent.applyAsync($nextNumber, 41)
            #expect(try await answer.value == 42)

            var hurried = client.loadBalancedView()
            hurried.runLimit = .milliseconds(100)
            let late = await #expect(throws: RemoteError.self) { try await hurried.apply($sleepOn, 60) }
            #expect(late?.name == "RunLimitExceeded")

            var patient = client.loadBalancedView()
            patient.retries = 5
            patient.retryRule = RetryRule(pause: .milliseconds(10), errors: ["Busy", "EngineError"])
            let opened = try await patient.apply($openSometimes, "door")
            #expect(opened == "door")

            let status = try await client.queueStatus()
            print(status)
            #expect(status.unassigned == 0)
        }

        let cluster = try await Cluster()
        try await cluster.startEngines(1)
        try await cluster.startEngines(1, resources: ["gpu": 1, "memory": 64])
        let client = try await cluster.connect()
        let onCard = client.loadBalancedView().with { $0.resources = ["gpu": 1] }
        let place = try await onCard.apply($engineOfThis)
        #expect(place == 1)
        await client.close()
        await cluster.stop()
    }
}
