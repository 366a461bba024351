import Apus
import ApusTestKit
import Foundation
import Synchronization
import Testing

@Remote
private func plusOne(_ x: Int) -> Int { x + 1 }

@Remote
private func volume(_ width: Double, _ height: Int, _ depth: Double) -> Double { width * Double(height) * depth }

@Remote
private func numbered(_ text: String, _ number: Int) -> String { "\(text)\(number)" }

@Remote
private func rejectSeven(_ x: Int) throws -> Int {
    if x == 7 { throw CocoaError(.fileNoSuchFile) }
    return x
}

/// Counts its calls, in this process, and does not end before the gate is opened.
@Remote
private func waitAtGate(_ x: Int) async throws -> Int {
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

    /// Waits until a call is inside.
    func waitForEntry() async throws {
        while self.entered.load(ordering: .relaxed) == 0 { try await Task.sleep(for: .milliseconds(1)) }
    }
}

/// The whole numbers, noting how many were taken.
private struct CountedNumbers: Sequence, IteratorProtocol, Sendable {
    private static let taken = Atomic(0)
    private var last = 0

    static var takenSoFar: Int { self.taken.load(ordering: .sequentiallyConsistent) }
    static func reset() { self.taken.store(0, ordering: .sequentiallyConsistent) }

    mutating func next() -> Int? {
        self.last += 1
        Self.taken.store(self.last, ordering: .sequentiallyConsistent)
        return self.last
    }
}

@Suite("Maps", .serialized, .timeLimit(.minutes(2)))
struct LazyMapTests {
    @Test("A map takes several sequences and goes as far as the shortest")
    func severalSequences() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let view = client.loadBalancedView()
            #expect(try await view.map($volume, [1, 2, 3], 1...2, [10, 10, 10, 10]) == [10, 40])
            #expect(try await view.map($numbered, ["a", "b", "c"], 1..., chunkSize: 2) == ["a1", "b2", "c3"])
            #expect(try await client[...].map($volume, [1, 2, 3], [2, 2, 2], [1, 1, 1]) == [2, 4, 6])
            var lazy: [Double] = []
            for try await product in try view.lazyMap($volume, [1, 2, 3], 1...3, [1, 1, 1], chunkSize: 2) { lazy.append(product) }
            #expect(lazy == [1, 4, 9])
        }
    }

    @Test("A map takes what comes in its own time")
    func asynchronousInput() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let (numbers, input) = AsyncStream.makeStream(of: Int.self)
            let results = try client.loadBalancedView().lazyMap($plusOne, numbers)
            var iterator = results.makeAsyncIterator()
            // A result does not wait for input that has not come.
            input.yield(1)
            #expect(try await iterator.next() == 2)
            input.yield(2)
            input.yield(3)
            input.finish()
            #expect(try await iterator.next() == 3)
            #expect(try await iterator.next() == 4)
            #expect(try await iterator.next() == nil)
            let (others, otherInput) = AsyncStream.makeStream(of: Int.self)
            for number in 0..<10 { otherInput.yield(number) }
            otherInput.finish()
            #expect(try await client.loadBalancedView().map($plusOne, others, chunkSize: 3) == Array(1...10))
        }
    }

    @Test("A lazy map reads no further ahead of its consumer than it may", arguments: [true, false])
    func backPressure(ordered: Bool) async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            CountedNumbers.reset()
            var sum = 0
            var count = 0
            let map = try client.loadBalancedView().lazyMap($plusOne, CountedNumbers(), ordered: ordered, maxOutstanding: 4)
            #expect(CountedNumbers.takenSoFar == 0, "nothing happens before the first result is asked for")
            for try await value in map {
                // The task of this result is done, so one more may be on its way.
                #expect(CountedNumbers.takenSoFar <= count + 5)
                #expect(client.outstanding.count <= 4)
                sum += value
                count += 1
                if count == 100 { break }
            }
            if ordered { #expect(sum == (2...101).reduce(0, +)) }
            #expect(try await client.wait(timeout: .seconds(10)))
        }
    }

    @Test("A lazy map whose consumer is cancelled aborts what has not started")
    func cancelledConsumer() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            gate.close()
            let map = try client.loadBalancedView().lazyMap($waitAtGate, 0..., maxOutstanding: 8)
            let consumer = Task { for try await _ in map {} }
            try await gate.waitForEntry()
            while client.outstanding.count < 8 { try await Task.sleep(for: .milliseconds(1)) }
            consumer.cancel()
            await #expect(throws: CancellationError.self) { try await consumer.value }
            // All tasks but the running one end as aborted before the gate is opened.
            while client.outstanding.count > 1 { try await Task.sleep(for: .milliseconds(1)) }
            gate.open()
            #expect(try await client.wait(timeout: .seconds(10)))
            #expect(gate.entered.load(ordering: .relaxed) == 1)
        }
    }

    @Test("A lazy map ends with the first error", arguments: [true, false])
    func failure(ordered: Bool) async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            var iterator = try client.loadBalancedView().lazyMap($rejectSeven, 0..., ordered: ordered, maxOutstanding: 3)
                .makeAsyncIterator()
            var seen: [Int] = []
            let error = await #expect(throws: RemoteError.self) {
                while let value = try await iterator.next() { seen.append(value) }
            }
            #expect(error?.name.contains("CocoaError") == true)
            #expect(seen.count <= 10)
            if ordered { #expect(seen == Array(0..<7)) }
            #expect(try await iterator.next() == nil)
        }
    }

    @Test("A million items pass through a lazy map in constant memory")
    func millionItems() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let before = residentBytes()
            var sum = 0
            var most = 0
            for try await value in try client.loadBalancedView().lazyMap($plusOne, 0..<1_000_000, chunkSize: 1000) {
                sum += value
                if value % 100_000 == 0 { most = max(most, residentBytes()) }
            }
            #expect(sum == 500_000_500_000)
            // A million values in lists would take more, both as arguments and as results. The growth is the hub's store.
            #expect(most - before < memoryFactor * 64 << 20, "grew by \((most - before) >> 20) MB")
        }
    }

    @Test("What makes no sense is refused")
    func misuse() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let view = client.loadBalancedView()
            for map in [
                { try view.lazyMap($plusOne, 0..., chunkSize: 0) }, { try view.lazyMap($plusOne, 0..., maxOutstanding: 0) },
            ] {
                let error = #expect(throws: ApusError.self) { try map() }
                #expect(error?.code == .badArgument)
            }
        }
    }

    // MARK: Cancellation and first come

    @Test("Cancelling a wait aborts the work where the caller chose so, and else leaves it")
    func cancellationPolicy() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            gate.close()
            var view = client.loadBalancedView()
            let running = try view.applyAsync($waitAtGate, 1)
            try await gate.waitForEntry()
            let left = try view.applyAsync($waitAtGate, 2)
            view.whenCancelled = .abort
            let aborted = try view.applyAsync($waitAtGate, 3)
            let waits = [Task { try await left.value }, Task { try await aborted.value }]
            for wait in waits {
                wait.cancel()
                await #expect(throws: CancellationError.self) { try await wait.value }
            }
            let error = await #expect(throws: ApusError.self) { try await aborted.value }
            #expect(error?.code == .taskAborted)
            gate.open()
            #expect(try await left.value == 2)
            #expect(try await running.value == 1)
        }
    }

    @Test("Cancelling a wait, or an abort, interrupts what runs where the caller chose so")
    func interruption() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            gate.close()
            var view = client[0]
            view.whenCancelled = .interrupt
            let running = try view.applyAsync($waitAtGate, 1)
            let queued = try view.applyAsync($plusOne, 1)
            try await gate.waitForEntry()
            let wait = Task { try await running.value }
            wait.cancel()
            await #expect(throws: CancellationError.self) { try await wait.value }
            let error = await #expect(throws: RemoteError.self) { try await running.value }
            #expect(error?.name == "KeyboardInterrupt")
            #expect(try await queued.value == 2, "another request is not touched")

            gate.close()
            let again = try client.loadBalancedView().with { $0.retries = 3 }.applyAsync($waitAtGate, 1)
            try await gate.waitForEntry()
            try await again.abort(interrupting: true)
            await #expect(throws: RemoteError.self) { try await again.value }
            #expect(gate.entered.load(ordering: .relaxed) == 1, "it is not tried again")
        }
    }

    @Test("Results are served first come, first served")
    func firstCome() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            gate.close()
            let slow = try client[0].applyAsync($waitAtGate, 1)
            let quick = try client[1].applyAsync($plusOne, 1)
            var order: [Int] = []
            for await result in [slow, quick].asCompleted() {
                order.append(try await result.value)
                gate.open()
            }
            #expect(order == [2, 1])
            for await _ in [AsyncResult<Int>]().asCompleted() { Issue.record("there is nothing to serve") }
        }
    }

    @Test("A result of many engines can be taken in parts")
    func parts() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            let result = try client[[2, 0, 1]].applyAsync($plusOne, 4)
            #expect(try await result.valueByEngine() == [0: 5, 1: 5, 2: 5])
            for ordered in [true, false] {
                var values: [Int] = []
                for try await value in result.elements(ordered: ordered) { values.append(value) }
                #expect(values == [5, 5, 5])
            }
            gate.close()
            let two = try client.loadBalancedView().mapAsync($waitAtGate, 0..<4)
            #expect(try await two.whole.wait(timeout: .milliseconds(20)) == false)
            gate.open()
            #expect(try await two.whole.wait(until: .firstCompleted))
            #expect(try await two.whole.wait(until: .firstError))
            #expect(try await two.value == [0, 1, 2, 3])
        }
    }
}

/// Bytes of this process that are in memory.
private func residentBytes() -> Int {
    let pages = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ").dropFirst().first
    return (pages.flatMap { Int($0) } ?? 0) * 4096
}

/// How many times more memory a test may take than in an ordinary build: a sanitizer puts margins around what is allocated, and keeps
/// up to 256 MB of what is freed.
private let memoryFactor = (dlsym(nil, "__asan_init") ?? dlsym(nil, "__tsan_init")) == nil ? 1 : 8
