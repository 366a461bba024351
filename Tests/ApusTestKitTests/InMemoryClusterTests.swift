import Apus
import ApusTestKit
import Foundation
import Testing

@Remote
private func halve(_ x: Double) -> Double { x / 2 }

@Remote
private func refuse(_ text: String) throws -> String { throw Refusal(text: text) }

@Remote
private func first(_ name: String) throws -> Double {
    try EngineContext.current?.namespace.get(name, as: [Double].self)?.first ?? 0
}

private struct Refusal: Error, CustomStringConvertible {
    let text: String
    var description: String { "no \(self.text) here" }
}

@Suite("A cluster in memory", .timeLimit(.minutes(1)))
struct InMemoryClusterTests {
    @Test("Calls, maps and names work as between machines")
    func everyday() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            #expect(client.ids == [0, 1, 2])
            #expect(try client[0..<2].ids == [0, 1])
            #expect(try client[1...].ids == [1, 2])
            #expect(try client[stride(from: 0, to: 3, by: 2)].ids == [0, 2])
            #expect(try await client[1].apply($halve, 3) == 1.5)
            #expect(try await client[...].apply($halve, 1) == [0.5, 0.5, 0.5])
            let numbers = (0..<50).map { Double($0) }
            #expect(try await client.loadBalancedView().map($halve, numbers, chunkSize: 4) == numbers.map { $0 / 2 })
            try await client[...].scatter("x", numbers)
            #expect(try await client[...].gather("x", as: Double.self) == numbers)
            #expect(try await client[[2, 0]].pull("x", as: [Double].self).count == 2)
            try await client[1]["x"].set([4.5])
            #expect(try await client[1]["x"].get(as: [Double].self) == [4.5])
            try await client.broadcastView()["y"].set("all")
            #expect(try await client[...]["y"].get(as: String.self) == ["all", "all", "all"])
        }
    }

    @Test("Tasks that wait for an engine can be aborted while there is none")
    func abortWithoutEngines() async throws {
        try await withInMemoryCluster(engines: 0) { client, _ in
            let waiting = try client.loadBalancedView().applyAsync($halve, 1)
            try await waiting.abort()
            let error = await #expect(throws: ApusError.self) { try await waiting.value(timeout: .seconds(10)) }
            #expect(error?.code == .taskAborted)
        }
    }

    @Test("Users' tests run with a cluster inside their own process")
    func inline() async throws {
        let halves = try await withCluster(.inMemory, engines: 3) { client in
            try await client.loadBalancedView().map($halve, [2, 4, 6])
        }
        #expect(halves == [1, 2, 3])
        let error = await #expect(throws: RemoteError.self) {
            try await withCluster(.inMemory, engines: 1) { try await $0[0].apply($refuse, "bread") }
        }
        #expect(error?.name == "Refusal")
    }

    @Test("One message reaches every engine, answered by each or by one reply of all", arguments: [false, true])
    func broadcast(isCoalescing: Bool) async throws {
        try await withInMemoryCluster(engines: 5) { client, cluster in
            let view = client.broadcastView(isCoalescing: isCoalescing)
            #expect(try await view.apply($halve, 3) == [1.5, 1.5, 1.5, 1.5, 1.5])
            try await client[...].scatter("x", [10, 11, 12, 13, 14])
            let backwards = client.broadcastView([4, 0, 2], isCoalescing: isCoalescing)
            #expect(try await backwards.apply($first, "x") == [14, 10, 12], "results come in the order of the targets")
            try await view.push("y", "said once")
            #expect(try await view.pull("y", as: String.self) == Array(repeating: "said once", count: 5))

            if isCoalescing {
                let error = await #expect(throws: RemoteError.self) { try await view.apply($refuse, "salt") }
                #expect(error?.name == "Refusal")
            } else {
                let error = await #expect(throws: CompositeError.self) { try await view.apply($refuse, "salt") }
                #expect(error?.errors.count == 5)
            }
            #expect(client.outstanding.isEmpty)
        }
    }

    @Test("A large push goes to the controller once, a small one to each engine", arguments: [16, 1 << 20])
    func largePush(count: Int) async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            let array = NDArray((0..<count).map { Double($0) })
            try await client[...].push("big", array)
            #expect(try await client[...].pull("big", as: NDArray.self) == [array, array, array])
            let records = try await client.hubHistory()
            #expect(records.count == 6, "each engine's copy is a record")
        }
    }

    @Test("Errors keep their names and say where they were raised")
    func errors() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let error = await #expect(throws: RemoteError.self) { try await client[1].apply($refuse, "milk") }
            #expect(error?.name == "Refusal")
            #expect(error?.value == "no milk here")
            #expect(error?.engineID == 1)
            let many = await #expect(throws: CompositeError.self) { try await client[...].apply($refuse, "milk") }
            #expect(many?.description.contains("[0:apply] Refusal: no milk here") == true)
            #expect(many?.description.contains("[1:apply] Refusal: no milk here") == true)
        }
    }

    @Test("A task runs after those it depends on, and never when they fail")
    func dependencies() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            var view = client.loadBalancedView()
            let first = try view.applyAsync($halve, 8)
            view.after = TaskDependency(first)
            let second = try view.applyAsync($halve, 4)
            #expect(try await second.value == 2)
            #expect(first.isReady)
            view.after = nil
            let failing = try view.applyAsync($refuse, "tea")
            view.after = TaskDependency(failing)
            let never = await #expect(throws: ApusError.self) { try await view.apply($halve, 1) }
            #expect(never?.code == .impossibleDependency)
            view.after = TaskDependency(failing, success: false, failure: true)
            #expect(try await view.apply($halve, 1) == 0.5)
            view.after = TaskDependency([TaskID("unheard_of")])
            let invalid = await #expect(throws: ApusError.self) { try await view.apply($halve, 1) }
            #expect(invalid?.code == .invalidDependency)
        }
    }

    @Test("A graph of thousands of tasks runs in its order")
    func graph() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            // Each task comes after two before it; the last after all.
            var results: [AsyncResult<Double>] = []
            for node in 0..<3000 {
                var view = client.loadBalancedView()
                if node > 1 {
                    view.after = TaskDependency(results[node / 2].messageIDs + results[node - 1 - node % 2].messageIDs)
                }
                results.append(try view.applyAsync($halve, Double(node)))
            }
            let all = TaskDependency(results.flatMap { $0.messageIDs })
            #expect(try await client.loadBalancedView().with { $0.after = all }.apply($halve, 1) == 0.5)
            #expect(results.allSatisfy { $0.isReady })
            for (node, result) in results.enumerated() where node > 1 {
                let (began, ended) = (result.metadata[0].started, results[node / 2].metadata[0].completed)
                #expect(began != nil && ended != nil && began! >= ended!, "task \(node) began before its time")
            }
        }
    }

    @Test("A failing task is tried again, and its retries end")
    func retries() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            var view = client.loadBalancedView()
            view.retries = 5
            let error = await #expect(throws: RemoteError.self) { try await view.apply($refuse, "sugar") }
            #expect(error?.name == "Refusal")
        }
    }

    @Test("Engines come to an end and the others go on")
    func engineLoss() async throws {
        try await withInMemoryCluster(engines: 2) { client, cluster in
            await cluster.killEngine(0)
            while client.ids.count > 1 { try await client.waitForEngines(1, timeout: .seconds(1)) }
            #expect(try await client.loadBalancedView().apply($halve, 6) == 3)
            let error = await #expect(throws: ApusError.self) { try await client[client.ids[0].number + 10].apply($halve, 1) }
            #expect(error?.code == .noSuchEngine)
        }
    }

    @Test("A client that closes fails what it waits for")
    func closing() async throws {
        try await withInMemoryCluster(engines: 0) { client, _ in
            let waiting = try client.loadBalancedView().applyAsync($halve, 1)
            let status = try await client.queueStatus()
            #expect(status.unassigned == 1)
            #expect(status.waiting[waiting.messageIDs[0]] != nil)
            await client.close()
            let error = await #expect(throws: ApusError.self) { try await waiting.value }
            #expect(error?.code == .closed)
            let late = #expect(throws: ApusError.self) { try client.loadBalancedView().applyAsync($halve, 1) }
            #expect(late?.code == .closed)
        }
    }

    @Test("Without engines a direct view says so")
    func noEngines() async throws {
        try await withInMemoryCluster(engines: 0) { client, _ in
            let error = await #expect(throws: ApusError.self) { try await client[...].apply($halve, 1) }
            #expect(error?.code == .noEnginesRegistered)
            let timeout = await #expect(throws: ApusError.self) { try await client.waitForEngines(1, timeout: .milliseconds(50)) }
            #expect(timeout?.code == .timeout)
        }
    }
}
