import Apus
import ApusTestKit
import Foundation
import Locks
import Testing

struct NotWanted: Error, Codable, Equatable { let number: Int }

@Remote
private func double(_ x: Int) -> Int { 2 * x }

@Remote
private func refuseSevens(_ x: Int) throws -> Int {
    if x % 7 == 0 { throw NotWanted(number: x) }
    return x
}

@Remote
private func refuseSevensLater(_ x: Int) async throws -> Int {
    await Task.yield()
    return try refuseSevens(x)
}

/// Is quick for the first numbers and slow for later ones; gives the engine that it ran on.
@Remote
private func slowingDown(_ x: Int) -> Int {
    if x >= 2000 { usleep(20_000) }
    return EngineContext.current?.engineID ?? -1
}

@Remote
private func failFirst(_ x: Int) throws -> Int {
    guard attempts.withLock({ $0.insert(x).inserted }) else { return x }
    throw NotWanted(number: x)
}

private let attempts = Mutex<Set<Int>>([])

/// Counts its calls, in this process, and does not end before the gate is opened.
@Remote
private func waitBehindGate(_ x: Int) async throws -> Int {
    gate.entered.wrappingAdd(1, ordering: .relaxed)
    while !gate.isOpen.load(ordering: .relaxed) { try await Task.sleep(for: .milliseconds(2)) }
    return x
}

private let gate = Gate()

private final class Gate: Sendable {
    let isOpen = Atomic(false)
    let entered = Atomic(0)

    func close() {
        self.isOpen.store(false, ordering: .relaxed)
        self.entered.store(0, ordering: .relaxed)
    }

    func open() { self.isOpen.store(true, ordering: .relaxed) }
    func waitForEntry() async throws {
        while self.entered.load(ordering: .relaxed) == 0 { try await Task.sleep(for: .milliseconds(1)) }
    }
}

/// An actor that counts how often it was entered.
private actor Counted {
    final class Executor: SerialExecutor {
        let jobs = Atomic(0)
        private let queue = DispatchQueue(label: "counted")

        func enqueue(_ job: consuming ExecutorJob) {
            self.jobs.wrappingAdd(1, ordering: .relaxed)
            let job = UnownedJob(job)
            self.queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
        }
    }

    private let executor = Executor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

    /// The sum of the elements, and how often this actor was entered meanwhile.
    func sum(_ elements: some AsyncSequence<Int, any Error> & Sendable) async throws -> (sum: Int, entries: Int) {
        let before = self.executor.jobs.load(ordering: .relaxed)
        var sum = 0
        for try await element in elements { sum += element }
        return (sum, self.executor.jobs.load(ordering: .relaxed) - before)
    }
}

@Suite("Maps that choose their chunks", .serialized, .timeLimit(.minutes(2)))
struct MapTests {
    @Test("A map of many short calls makes few tasks, and keeps the order")
    func measured() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let map = try client.loadBalancedView().mapAsync($double, 0..<20_000)
            #expect(map.count == 20_000)
            #expect(try await map.value == (0..<20_000).map { 2 * $0 })
            #expect(map.progress == 20_000)
            #expect(map.metadata.count < 2000, "\(map.metadata.count) tasks")
            #expect(client.outstanding.isEmpty)
            var sum = 0
            for try await value in map { sum += value }
            #expect(sum == 20_000 * 19_999)
            let unordered = try client.loadBalancedView().mapAsync($double, 0..<5000, ordered: false)
            #expect(try await unordered.reduce(into: []) { $0.append($1) }.sorted() == (0..<5000).map { 2 * $0 })
            #expect(try await client.loadBalancedView().map($double, []) == [])
        }
    }

    @Test("Calls that become slow on the way are shared among all engines")
    func slowing() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            let map = try client.loadBalancedView().mapAsync($slowingDown, 0..<2030)
            let engines = try await map.value
            #expect(engines.count == 2030)
            #expect(Set(engines[2000...]) == [0, 1, 2])
        }
    }

    // MARK: Outcomes

    @Test("Each call has its own outcome, however many share a task", arguments: [nil, 10, 1000])
    func outcomes(chunkSize: Int?) async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            for function in [$refuseSevens, $refuseSevensLater] {
                let map = try client.loadBalancedView().mapAsync(function, 0..<500, chunkSize: chunkSize)
                let outcomes = try await map.outcomes
                #expect(outcomes.count == 500)
                for (number, outcome) in outcomes.enumerated() {
                    switch outcome {
                    case .success(let value):
                        #expect(value == number)
                        #expect(number % 7 != 0)
                    case .failure(let error): #expect(error as? NotWanted == NotWanted(number: number))
                    }
                }
                let error = await #expect(throws: CompositeError.self) { try await map.value }
                #expect(error?.message == "72 of 500 calls failed")
                let numbers = (error?.errors ?? []).compactMap { ($0 as? NotWanted)?.number }
                #expect(numbers == Array(stride(from: 0, to: 500, by: 7)))
                let names = Set((error?.remoteErrors ?? []).map { $0?.name })
                #expect(names == ["NotWanted"])
                #expect(error?.description.contains("and 22 more") == true)
                #expect("\(map)" == "map result: 500 calls ended, 72 with an error")
            }
        }
    }

    @Test("A loop over a map may go on after a call that failed", arguments: [true, false])
    func goingOn(ordered: Bool) async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let map = try client.loadBalancedView().mapAsync($refuseSevens, 1..<100, ordered: ordered)
            var (good, bad): ([Int], [Int]) = ([], [])
            var iterator = map.makeAsyncIterator()
            while true {
                do {
                    guard let value = try await iterator.next() else { break }
                    good.append(value)
                } catch let error as NotWanted { bad.append(error.number) }
            }
            if ordered { #expect(bad == Array(stride(from: 7, to: 100, by: 7))) }
            #expect(good.count == 85 && bad.count == 14)
        }
    }

    @Test("A map on each engine's part, and a lazy map, keep the calls that go well")
    func otherMaps() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            let outcomes = try await client[...].mapAsync($refuseSevens, 1...9).outcomes
            let values = outcomes.map { (try? $0.get()) ?? -1 }
            #expect(values == [1, 2, 3, 4, 5, 6, -1, 8, 9])
            var seen: [Int] = []
            await #expect(throws: NotWanted(number: 7)) {
                for try await value in try client.loadBalancedView().lazyMap($refuseSevens, 1..., chunkSize: 5) {
                    seen.append(value)
                }
            }
            #expect(seen == [1, 2, 3, 4, 5, 6])
        }
    }

    @Test("The one call of a map throws its own error")
    func single() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let view = client.loadBalancedView()
            await #expect(throws: NotWanted(number: 14)) { try await view.map($refuseSevens, [14]) }
            await #expect(throws: NotWanted(number: 14)) { try await view.map($refuseSevens, [14], chunkSize: 3) }
        }
    }

    @Test("With retries, a call that fails is tried again alone")
    func retries() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            attempts.withLock { $0 = [] }
            let map = try client.loadBalancedView().with { $0.retries = 1 }.mapAsync($failFirst, 0..<300)
            #expect(try await map.value == Array(0..<300))
            #expect(map.metadata.count == 300)
        }
    }

    @Test("A task that is lost takes its calls with it, each with the reason")
    func lostTask() async throws {
        try await withInMemoryCluster(engines: 1) { client, cluster in
            gate.close()
            let map = try client.loadBalancedView().mapAsync($waitBehindGate, 0..<6, chunkSize: 3)
            try await gate.waitForEntry()
            await cluster.killEngine(0)
            gate.open()
            try await map.abort()
            let outcomes = try await map.outcomes
            #expect(outcomes.count == 6)
            let codes = outcomes.map { outcome -> ApusError.Code? in
                if case .failure(let error) = outcome { (error as? ApusError)?.code } else { nil }
            }
            let (first, second) = (Set(codes.prefix(3)), Set(codes.suffix(3)))
            #expect(first == [.engineDied] || first == [.taskAborted], "\(codes)")
            // With the only engine gone, waiting tasks may have ended because there was none before they were aborted.
            #expect(second == [.taskAborted] || second == [.noEnginesRegistered], "\(codes)")
        }
    }

    // MARK: Calling off

    @Test("Asked for its ids, a map sends all its tasks, so that what depends on them waits for all of it")
    func dependencies() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            gate.close()
            let map = try client.loadBalancedView().mapAsync($waitBehindGate, 0..<50)
            #expect(map.metadata.count == 4)
            var view = client.loadBalancedView()
            view.after = TaskDependency(map.whole)
            #expect(map.messageIDs.count == 50)
            let after = try view.applyAsync($double, 1)
            gate.open()
            #expect(try await after.value == 2)
            #expect(map.whole.isReady)
            #expect(try await map.value == Array(0..<50))
        }
    }

    @Test("Cancelling the task that waits on a map aborts what has not started", arguments: [nil, 1], [true, false])
    func cancelled(chunkSize: Int?, iterates: Bool) async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            gate.close()
            let map = try client.loadBalancedView().mapAsync($waitBehindGate, 0..<1000, chunkSize: chunkSize)
            let waiting = Task {
                if iterates { for try await _ in map {} } else { _ = try await map.value }
            }
            try await gate.waitForEntry()
            waiting.cancel()
            await #expect(throws: CancellationError.self) { try await waiting.value }
            // All tasks but the running one.
            while client.outstanding.count > 1 { try await Task.sleep(for: .milliseconds(1)) }
            gate.open()
            let outcomes = try await map.outcomes
            #expect(gate.entered.load(ordering: .relaxed) == 1)
            #expect(outcomes.count { (try? $0.get()) != nil } == 1)
            let codes = outcomes.compactMap { outcome -> ApusError.Code? in
                if case .failure(let error) = outcome { (error as? ApusError)?.code } else { nil }
            }
            #expect(codes.count == 999)
            #expect(Set(codes) == [.taskAborted])
        }
    }

    @Test("Cancelling the task that waits in a call or map, whose result nobody else can have, aborts it")
    func cancelledCall() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            gate.close()
            let view = client.loadBalancedView()
            let running = try view.applyAsync($waitBehindGate, 1)
            try await gate.waitForEntry()
            let waits = [
                Task { _ = try await view.apply($waitBehindGate, 2) }, Task { _ = try await view.map($waitBehindGate, 3..<500) },
            ]
            while client.outstanding.count < 6 { try await Task.sleep(for: .milliseconds(1)) }
            for wait in waits {
                wait.cancel()
                await #expect(throws: CancellationError.self) { try await wait.value }
            }
            while client.outstanding.count > 1 { try await Task.sleep(for: .milliseconds(1)) }
            gate.open()
            #expect(try await running.value == 1)
            #expect(gate.entered.load(ordering: .relaxed) == 1)
        }
    }

    @Test("Cancelling the task that waits in withCluster aborts what has not started, and ends the cluster")
    func cancelledCluster() async throws {
        gate.close()
        let using = Task {
            try await withCluster(.inMemory, engines: 1) { client in
                _ = try client.loadBalancedView().mapAsync($waitBehindGate, 0..<100)
                _ = try await client.loadBalancedView().applyAsync($waitBehindGate, 100).value
            }
        }
        try await gate.waitForEntry()
        using.cancel()
        // The running function ends with its engine, or is let go here.
        gate.open()
        await #expect(throws: CancellationError.self) { try await using.value }
        #expect(gate.entered.load(ordering: .relaxed) <= 2)
    }

    @Test("Aborting all that is outstanding calls off the maps that would send more")
    func abortAll() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            gate.close()
            let map = try client.loadBalancedView().mapAsync($waitBehindGate, 0..<1000)
            try await gate.waitForEntry()
            try await client.abort()
            gate.open()
            #expect(try await client.wait(timeout: .seconds(10)))
            #expect(try await map.outcomes.count { (try? $0.get()) != nil } == 1)
        }
    }

    @Test("A client that closes ends its maps")
    func closing() async throws {
        try await withInMemoryCluster(engines: 0) { client, _ in
            let map = try client.loadBalancedView().mapAsync($double, 0..<100_000)
            await client.close()
            let error = await #expect(throws: CompositeError.self) { try await map.value }
            let codes = (error?.errors ?? []).map { ($0 as? ApusError)?.code }
            #expect(codes.count == 100_000)
            #expect(Set(codes) == [.closed])
        }
    }

    // MARK: Isolation

    @Test("A loop over results that are there runs where its caller does, without leaving it for each")
    func isolation() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let actor = Counted()
            let map = try client.loadBalancedView().mapAsync($double, 0..<10_000)
            _ = try await map.value
            let eager = try await actor.sum(map)
            #expect(eager.sum == 99_990_000)
            // At most once for each task (a slow machine makes more tasks), and never once for each of the 10,000 elements.
            #expect(eager.entries < 1000)
            // A lazy map waits for its tasks, and no more often than that.
            let lazy = try await actor.sum(client.loadBalancedView().lazyMap($double, 0..<10_000, chunkSize: 100))
            #expect(lazy.sum == 99_990_000)
            #expect(lazy.entries < 1000)
        }
    }
}
