import Apus
import ApusTestKit
import Foundation
import Testing

@Remote
private func fibonacci(_ n: Int) async throws -> Int {
    if n < 2 { return n }
    let view = try await EngineContext.client().loadBalancedView()
    async let first = view.apply($fibonacci, n - 1)
    async let second = view.apply($fibonacci, n - 2)
    return try await first + second
}

/// Sums a range by tasks for its parts, which it waits for one after the other.
@Remote
private func treeSum(_ low: Int, _ high: Int) async throws -> Int {
    if high - low < 4 { return (low..<high).reduce(0, +) }
    let view = try await EngineContext.client().loadBalancedView()
    let middle = (low + high) / 2
    let parts = [try view.applyAsync($treeSum, low, middle), try view.applyAsync($treeSum, middle, high)]
    var sum = 0
    for await part in parts.asCompleted() { sum += try await part.value }
    return sum
}

@Remote
private func withoutEnd(_ depth: Int) async throws -> Int {
    try await EngineContext.client().loadBalancedView().apply($withoutEnd, depth + 1)
}

/// Calls a function on every engine directly, also on its own.
@Remote
private func askAll(_ number: Int) async throws -> [Int] {
    try await EngineContext.client()[...].apply($plusEngine, number)
}

@Remote
private func plusEngine(_ number: Int) -> Int { number + (EngineContext.current?.engineID ?? -100) }

/// The most functions of this engine that had their turn at once, which their parts note in the engine's namespace.
@Remote
private func countTurns(_ depth: Int) async throws -> Int {
    guard let engine = EngineContext.current else { return -1 }
    func compute() throws -> Int {
        let running = (try engine.namespace.get("running", as: Int.self) ?? 0) + 1
        try engine.namespace.set("running", to: running)
        usleep(200)
        try engine.namespace.set("running", to: (try engine.namespace.get("running", as: Int.self) ?? 0) - 1)
        return running
    }
    var most = try compute()
    if depth > 0 {
        let view = try await EngineContext.client().loadBalancedView()
        let results = try (0..<3).map { _ in try view.applyAsync($countTurns, depth - 1) }
        for result in results {
            most = max(most, try await result.value)
            most = max(most, try compute())
        }
    }
    return most
}

@Remote
private func failBelow(_ depth: Int) async throws -> Int {
    if depth == 0 { throw Deepest() }
    return try await EngineContext.client().loadBalancedView().apply($failBelow, depth - 1)
}

private struct Deepest: Error {}

@Remote
private func waitForSleep(_ label: String) async throws -> Int {
    let client = try await EngineContext.client()
    var view = client.loadBalancedView().with { $0.label = label }
    view.whenCancelled = .interrupt
    return try await view.apply($sleepLong)
}

@Remote
private func sleepLong() async throws -> Int {
    try await Task.sleep(for: .seconds(600))
    return 1
}

@Suite("A client inside an engine", .timeLimit(.minutes(2)))
struct NestedTaskTests {
    @Test("A recursion ends with any number of engines", arguments: [1, 2, 3])
    func recursion(engines: Int) async throws {
        try await withInMemoryCluster(engines: engines) { client, _ in
            let view = client.loadBalancedView()
            #expect(try await view.apply($fibonacci, 13) == 233)
            #expect(try await view.apply($treeSum, 0, 1000) == 499_500)
            // Called directly, where no scheduler counts.
            #expect(try await client[0].apply($treeSum, 0, 100) == 4950)
            #expect(try await view.apply($askAll, 10) == (0..<engines).map { 10 + $0 })
            let status = try await client.queueStatus()
            #expect(status.unassigned == 0)
            #expect(status.engines.values.allSatisfy { $0.tasks == 0 })
        }
    }

    @Test("A high-water mark of one, ipyparallel's, does not make engines wait for ever")
    func highWaterMark() async throws {
        var options = Cluster.Options()
        options.controller.highWaterMark = 1
        let sum = try await withCluster(.inMemory, engines: 2, options: options) { client in
            try await client.loadBalancedView().apply($treeSum, 0, 200)
        }
        #expect(sum == 19900)
    }

    @Test("One function at a time has an engine's turn, whoever waits")
    func oneTurn() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let most = try await client.loadBalancedView().apply($countTurns, 4)
            #expect(most == 1)
        }
    }

    @Test("An error of a task's own task reaches the client, with the way that it came")
    func errors() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let error = await #expect(throws: RemoteError.self) { try await client.loadBalancedView().apply($failBelow, 3) }
            #expect(error?.name == "Deepest")
            #expect(error?.traceback.count { $0.contains("failBelow(_ depth: Int)") } == 4)
        }
    }

    @Test("A recursion without end ends with an error that says so")
    func withoutEnd() async throws {
        try await withInMemoryCluster(engines: 2, waitingLimit: 50) { client, _ in
            let error = await #expect(throws: RemoteError.self) { try await client.loadBalancedView().apply($withoutEnd, 0) }
            #expect(error?.value.contains("Does a recursion never end?") == true)
            #expect(error?.traceback.count ?? 0 < 50, "an error that came a long way is no longer than others")
            // The recursion has ended, and does not go on with tasks that nothing waits for.
            let status = try await client.queueStatus()
            #expect(status.unassigned == 0 && status.engines.values.allSatisfy { $0.tasks == 0 }, "\(status)")
            let five = try await client.loadBalancedView().apply($fibonacci, 5)
            #expect(five == 5)
        }
    }

    @Test("A task that waits can be interrupted, and its run limit counts the wait")
    func interrupt() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let view = client.loadBalancedView()
            let waiting = try view.applyAsync($waitForSleep, "interrupted")
            // Its own task runs, so both tasks are at engines.
            while try await client.dbQuery(["label": "interrupted", "engine_uuid": ["$ne": nil]]).isEmpty { await Task.yield() }
            try await waiting.abort(interrupting: true)
            let error = await #expect(throws: RemoteError.self) { try await waiting.value }
            #expect(error?.name == "KeyboardInterrupt")

            let limited = view.with { $0.runLimit = .milliseconds(50) }
            let late = await #expect(throws: RemoteError.self) { try await limited.apply($waitForSleep, "limited") }
            #expect(late?.name == "RunLimitExceeded")
            #expect(late?.value.contains("limit of 0.05 s") == true)
            // The engines are free again: the sleeping task was interrupted too.
            #expect(try await client[...].apply($plusEngine, 0) == [0, 1])
        }
    }

    @Test("When an engine dies with tasks that wait, they are tried elsewhere")
    func death() async throws {
        try await withInMemoryCluster(engines: 3) { client, cluster in
            let view = client.loadBalancedView().with { $0.retries = 2 }
            let results = try (0..<6).map { _ in try view.applyAsync($treeSum, 0, 400) }
            for await _ in results.asCompleted() { break }
            await cluster.killEngine(1)
            // When an inner task is lost, the outer one fails with it, unless the outer one is tried again.
            var sums: [Int] = []
            for result in results { if let sum = try? await result.value { sums.append(sum) } }
            #expect(!sums.isEmpty)
            #expect(sums.allSatisfy { $0 == 79800 })
            let after = try await view.apply($treeSum, 0, 100)
            #expect(after == 4950)
        }
    }

    @Test("Where no engine runs the function, there is no client to be had")
    func outside() async throws {
        let error = await #expect(throws: ApusError.self) { try await $fibonacci(3) }
        #expect(error?.code == .notSupported)
        // On an engine whose controller does not tell where clients connect, like ipyparallel's.
        let elsewhere = EngineContext(engineID: 3, uuid: "e-3", namespace: InMemoryNamespace())
        let unknown = await EngineContext.$current.withValue(elsewhere) {
            await #expect(throws: ApusError.self) { try await $fibonacci(3) }
        }
        #expect(unknown?.code == .notSupported)
        #expect(unknown?.message.contains("engine 3") == true)
    }

    @Test("An engine that is shut down while its function waits ends, and says so of the task")
    func shutDown() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let waiting = try client.loadBalancedView([0]).applyAsync($waitForSleep, "left")
            while try await client.dbQuery(["label": "left", "engine_uuid": ["$ne": nil]]).isEmpty { await Task.yield() }
            try await client.shutdown([0])
            let error = await #expect(throws: ApusError.self) { try await waiting.value }
            #expect(error?.code == .engineDied)
        }
    }
}
