import Apus
import Foundation
import NIOCore
import NIOPosix
import Locks
import Testing

/// One cluster of two engines, real processes over TCP, for the tests that do not harm it.
@Suite("A cluster of this program", .serialized, .timeLimit(.minutes(3)))
struct ClusterTests {
    @Test("Calls, maps, names, errors and output on two engines")
    func everyday() async throws {
        try await withCluster(engines: 2) { client in
            #expect(client.ids == [0, 1])
            try await self.calls(client)
            try await self.maps(client)
            try await self.names(client)
            try await self.errors(client)
            try await self.output(client)
            try await self.closures(client)
            try await self.hub(client)
        }
    }

    @Test("Engines own what they are started with, and tasks find it")
    func resources() async throws {
        let cluster = try await Cluster()
        do {
            try await cluster.startEngines(1)
            try await cluster.startEngines(1, resources: ["gpu": 1, "memory": 64])
            let client = try await cluster.connect()
            let owner = try await client[1].apply($engineProcess)
            let view = client.loadBalancedView().with { $0.resources = ["gpu": 1, "memory": 32] }
            let processes = try await view.map(#remote { (_: Int) in Int(ProcessInfo.processInfo.processIdentifier) }, 0..<8)
            #expect(processes == Array(repeating: owner, count: 8))
            await client.close()
        } catch { Issue.record(error) }
        await cluster.stop()
    }

    @Test("A client lives on the event loops that it is given")
    func ownEventLoops() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let host = try await ControllerHost()
        let client = try await Client.connect(to: host.clientInfo, eventLoopGroup: group)
        #expect(try await client.queueStatus().engines.isEmpty)
        await client.close()
        try await group.shutdownGracefully()
        await host.stop()
    }

    @Test("A result is an argument of another task, on another engine, and after the controller was started again")
    func resultsAsArguments() async throws {
        try await withTemporaryFolder { folder in
            var options = Cluster.Options()
            options.controller.database = .sqlite(path: folder + "/tasks.db")
            let sum: TaskID = try await withCluster(engines: 2, options: options) { client in
                let (first, second) = (client.loadBalancedView([0]), client.loadBalancedView([1]))
                let nine = try first.applyAsync($add, 4, 5)
                let sum = try second.applyAsync($add, .result(of: nine), .value(1))
                #expect(try await sum.value == 10)
                #expect(try await first.apply($add, .result(of: sum), .result(of: nine)) == 19)
                return sum.messageIDs[0]
            }
            let more = try await withCluster(engines: 1, options: options) { client in
                try await client.loadBalancedView().apply($add, .result(ofTask: sum), .value(90))
            }
            #expect(more == 100)
        }
    }

    @Test("Functions submit tasks of their own and wait for them, and what each prints is its own")
    func nestedTasks() async throws {
        try await withCluster(engines: 2) { client in
            let result = try client.loadBalancedView().applyAsync($talkingTree, 4)
            #expect(try await result.value == 31)
            #expect(result.metadata[0].stdout == "4 begins\n4 ends\n")
            let records = try await client.dbQuery(["stdout": ["$glob": "*begins*"]])
            #expect(records.count == 31)
            for record in records {
                let words = record.stdout.split(whereSeparator: \.isWhitespace)
                #expect(words.count == 4 && words[0] == words[2] && words[3] == "ends", "\(record.stdout)")
            }
        }
    }

    private func calls(_ client: Client) async throws {
        #expect(try await client[0].apply($squared, 3) == 9)
        #expect(try await client[...].apply($squared, 4) == [16, 16])
        #expect(try await client.loadBalancedView().apply($add, 2, 3) == 5)
        let particle = Particle(name: "α", position: [0, 1], partner: nil)
        #expect(try await client[1].apply($shift, particle, 0.5) == Particle(name: "α", position: [0.5, 1.5], partner: nil))
        let processes = try await client[...].apply($engineProcess)
        #expect(Set(processes).count == 2)
        #expect(!processes.contains(Int(ProcessInfo.processInfo.processIdentifier)))
        #expect(try await client[0].apply($sleepAsync, 0.01) == 0.01)
    }

    private func maps(_ client: Client) async throws {
        let numbers = (0..<100).map { Double($0) }
        let squares = numbers.map { $0 * $0 }
        #expect(try await client[...].map($squared, numbers) == squares)
        #expect(try await client.loadBalancedView().map($squared, numbers) == squares)
        #expect(try await client.loadBalancedView().map($squared, numbers, chunkSize: 7) == squares)
        #expect(try await client.loadBalancedView().map($add, 0..<5, 10..<15) == [10, 12, 14, 16, 18])
        #expect(try await client.loadBalancedView().map($squared, [Double]()) == [])
        var arrived: [Double] = []
        for try await value in try client.loadBalancedView().mapAsync($squared, numbers, chunkSize: 3, ordered: false) {
            arrived.append(value)
        }
        #expect(arrived.sorted() == squares)
        var ordered: [Double] = []
        for try await value in try client.loadBalancedView().mapAsync($squared, numbers, chunkSize: 3) { ordered.append(value) }
        #expect(ordered == squares)
    }

    private func names(_ client: Client) async throws {
        let view = client[...]
        try await view.push(["a": 1, "b": "two"])
        #expect(try await view.pull("a", as: Int.self) == [1, 1])
        #expect(try await client[1].pull("b", as: String.self) == "two")
        try await view.scatter("part", (0..<11).map { Double($0) })
        #expect(try await view.pull("part", as: [Double].self).map { $0.count } == [6, 5])
        #expect(try await view.gather("part", as: Double.self) == (0..<11).map { Double($0) })
        #expect(try await view.apply($sumOf, "part").reduce(0, +) == 55)
        try await view.scatter("dealt", 0..<5, .roundRobin)
        #expect(try await view.pull("dealt", as: [Int].self) == [[0, 2, 4], [1, 3]])
        #expect(try await view.gather("dealt", as: Int.self, .roundRobin) == [0, 1, 2, 3, 4])
        #if os(Linux)
            // Other tests of this process may have some.
            let filesBefore = try openMemoryFiles()
        #endif
        let array = NDArray((0..<100_000).map { Double($0) })
        try await view.push("array", array)
        #expect(try await client[0].pull("array", as: NDArray.self) == array)
        #if os(Linux)
            // Both engines have the same pages until they release them; this process keeps no file open.
            let mapsShared = #remote { (_: Int) in
                let maps = try? FileHandle(forReadingFrom: URL(filePath: "/proc/self/maps")).readToEnd()
                return maps.map { String(decoding: $0, as: UTF8.self).contains("/memfd:apus-") } ?? false
            }
            #expect(try await view.apply(mapsShared, 0) == [true, true])
            try await view.clear()
            #expect(try await view.apply(mapsShared, 0) == [false, false])
            #expect(try openMemoryFiles().subtracting(filesBefore) == [])
        #endif
        try await view.clear()
        let missing = await #expect(throws: RemoteError.self) { try await client[0].pull("a", as: Int.self) }
        #expect(missing?.name == "NameError")
        #expect(missing?.engineID == 0)
    }

    private func errors(_ client: Client) async throws {
        let view = client.loadBalancedView()
        let error = await #expect(throws: RemoteError.self) { try await view.apply($avoidThirteen, 13) }
        #expect(error?.name == "Unlucky")
        #expect(error?.value == "13 brings bad luck")
        #expect(error?.engineID != nil)
        #expect(error?.description.contains("avoidThirteen") == true)
        let many = await #expect(throws: CompositeError.self) { try await client[...].apply($avoidThirteen, 13) }
        #expect(many?.errors.count == 2)
        await #expect(throws: (any Error).self) { try await view.map($avoidThirteen, 10..<20) }
        #expect(try await view.map($avoidThirteen, 0..<10) == Array(0..<10))
        let gone = await #expect(throws: ApusError.self) { try await client[7].apply($squared, 1) }
        #expect(gone?.code == .noSuchEngine)
    }

    private func output(_ client: Client) async throws {
        let result = try client[0].applyAsync($shout, "hello")
        #expect(try await result.value == "HELLO!")
        let metadata = try #require(result.metadata.first)
        #expect(metadata.stdout == "shouting hello\n")
        #expect(metadata.status == .ok)
        #expect(metadata.engineID == 0)
        let started = try #require(metadata.started)
        let completed = try #require(metadata.completed)
        #expect(metadata.submitted <= started && started <= completed)
        #expect(result.isReady)
        #expect(try result.isSuccessful)
    }

    private func closures(_ client: Client) async throws {
        let factor = 3
        let offset = 0.5
        let scale = #remote { [factor = factor as Int, offset = offset as Double] (x: Double) -> Double in
            x * Double(factor) + offset
        }
        #expect(try await client.loadBalancedView().map(scale, [1.0, 2.0]) == [3.5, 6.5])
        #expect(try await client[0].apply(scale, 10) == 30.5)
    }

    private func hub(_ client: Client) async throws {
        let view = client.loadBalancedView()
        let result = try view.applyAsync($squared, 2)
        _ = try await result.value
        let status = try await client.queueStatus()
        #expect(status.engines.keys.sorted() == [0, 1])
        #expect(status.unassigned == 0)
        #expect(try await client.hubHistory().contains(result.messageIDs[0]))
        #expect(try await client.resultStatus(result.messageIDs).completed == result.messageIDs)
    }

    @Test("Queued work is aborted, running work goes on")
    func aborts() async throws {
        try await withCluster(engines: 1) { client in
            let running = try client[0].applyAsync($sleepFor, 0.5)
            let queued = try client[0].applyAsync($squared, 2)
            let balanced = try (0..<5).map { _ in try client.loadBalancedView().applyAsync($sleepFor, 0.4) }
            try await queued.abort()
            let error = await #expect(throws: ApusError.self) { try await queued.value }
            #expect(error?.code == .taskAborted)
            try await client.abort(balanced.suffix(3).flatMap { $0.messageIDs })
            for result in balanced.suffix(3) {
                let error = await #expect(throws: ApusError.self) { try await result.value }
                #expect(error?.code == .taskAborted)
            }
            #expect(try await running.value == 0.5)
            #expect(try await balanced[0].value == 0.4)
        }
    }

    @Test("A dead engine's task fails at once, or runs elsewhere when it may be tried again")
    func death() async throws {
        try await withCluster(engines: 2) { client in
            let clock = ContinuousClock()
            let direct = try client[0].applyAsync($crash)
            let took = await clock.measure {
                let error = await #expect(throws: ApusError.self) { try await direct.value }
                #expect(error?.code == .engineDied)
            }
            #expect(took < .seconds(5))
            var view = client.loadBalancedView()
            view.retries = 2
            #expect(try await view.apply($squared, 5) == 25)
        }
    }

    @Test("Nothing is left when the scope ends, also after an error")
    func nothingIsLeft() async throws {
        struct Stop: Error {}
        let processes = Mutex<[Int]>([])
        await #expect(throws: Stop.self) {
            try await withCluster(engines: 2) { client in
                let ids = try await client[...].apply($engineProcess)
                processes.withLock { $0 = ids }
                throw Stop()
            }
        }
        let ids = processes.withLock { $0 }
        #expect(ids.count == 2)
        for process in ids { #expect(kill(Int32(process), 0) != 0, "engine process \(process) outlived its cluster") }
    }
}

#if os(Linux)
    /// The names of the memory files that this process shares; no two files have the same name.
    private func openMemoryFiles() throws -> Set<String> {
        let links = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").map { "/proc/self/fd/" + $0 }
        let targets = links.compactMap { try? FileManager.default.destinationOfSymbolicLink(atPath: $0) }
        return Set(targets.filter { $0.hasPrefix("/memfd:apus-") })
    }
#endif
