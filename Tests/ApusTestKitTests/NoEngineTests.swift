import Apus
import ApusClient
import ApusTestKit
import ApusWire
import Logging
import Locks
import Testing

@Remote
private func twice(_ x: Int) -> Int { 2 * x }

@Remote
private func failWith(_ text: String) throws -> Int { throw Broken(text: text) }

@Remote
private func hasLicence() throws -> Bool {
    try EngineContext.current?.namespace.get("licence", as: Bool.self) ?? false
}

private struct Broken: Error, CustomStringConvertible {
    let text: String
    var description: String { self.text }
}

/// Keeps what is logged.
private final class Lines: LogHandler {
    let lines = Mutex<[String]>([])
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var logLevel: Logger.Level {
        get { .info }
        set {}
    }
    subscript(metadataKey _: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }
    func log(event: LogEvent) { self.lines.withLock { $0.append("\(event.level): \(event.message)") } }
}

/// Runs the body with a controller that has no engine, and a client whose log is kept.
private func withoutEngines(
    _ change: (inout ControllerOptions) -> Void = { _ in }, _ body: (Client, InMemoryCluster, Lines) async throws -> Void
) async throws {
    var options = Cluster.Options()
    options.logger.logLevel = .error
    change(&options.controller)
    let cluster = try await InMemoryCluster(engines: 0, options: options)
    let lines = Lines()
    let client = try await cluster.connect(logger: Logger(label: "client") { _ in lines })
    do { try await body(client, cluster, lines) } catch {
        await client.close()
        await cluster.stop()
        throw error
    }
    await client.close()
    await cluster.stop()
}

@Suite("A client whose cluster has no engine", .timeLimit(.minutes(1)))
struct NoEngineClientTests {
    @Test("Everyone who asks is told the same: no engine is registered")
    func sameWords() async throws {
        try await withoutEngines { client, _, lines in
            let results = try (0..<3).map { try client.loadBalancedView().applyAsync($twice, $0) }
            let id = results[0].messageIDs[0]
            var reason = try await client.whyWaiting(id)
            while reason == nil { reason = try await client.whyWaiting(id) }
            #expect(reason == "no engine is registered")
            #expect(try await results[0].whyWaiting() == [id: "no engine is registered"])
            var status = try await client.queueStatus()
            while status.unassigned < 3 { status = try await client.queueStatus() }
            #expect(status.waiting.values.sorted() == Array(repeating: "no engine is registered", count: 3))
            #expect(
                lines.lines.withLock { $0 } == [
                    "warning: no engine is registered: 1 task waits for one; start some ('apus start -n 4', 'apus engine') or wait for them "
                        + "(waitForEngines)"
                ])
            #expect(try await client.whyWaiting(TaskID("unheard of")) == nil)
        }
    }

    @Test("A task ends when its view's, its client's or its controller's engine time-out is over")
    func engineTimeouts() async throws {
        try await withoutEngines { client, _, _ in
            let view = client.loadBalancedView().with { $0.engineTimeout = .milliseconds(20) }
            let error = await #expect(throws: ApusError.self) { try await view.apply($twice, 1) }
            #expect(error?.code == .noEnginesRegistered)
            #expect(error?.message == "no engine is registered, and none came within 0.02 s, the task's engine time-out")
            client.engineTimeout = .milliseconds(30)
            let other = await #expect(throws: ApusError.self) { try await client.loadBalancedView().apply($twice, 1) }
            #expect(other?.message.contains("0.03 s") == true)
        }
        try await withoutEngines({ $0.engineTimeout = .milliseconds(10) }) { client, _, _ in
            let view = client.loadBalancedView()
            let error = await #expect(throws: ApusError.self) { try await view.apply($twice, 1) }
            #expect(error?.message.contains("0.01 s") == true)
            let patient = try view.with { $0.engineTimeout = .zero }.applyAsync($twice, 1)
            _ = await #expect(throws: ApusError.self) { try await view.apply($twice, 1) }
            #expect(try await patient.whyWaiting().values.first == "no engine is registered")
        }
    }

    @Test("When none is coming, tasks end, and nobody waits for engines")
    func noneIsComing() async throws {
        try await withoutEngines { client, cluster, _ in
            let waiting = try client.loadBalancedView().applyAsync($twice, 1)
            while try await waiting.whyWaiting().isEmpty {}
            cluster.expectNoEngine("its two engines ended by signal 9")
            let error = await #expect(throws: ApusError.self) { try await waiting.value }
            #expect(error?.code == .noEnginesRegistered)
            #expect(error?.message == "no engine is registered, and none is coming: its two engines ended by signal 9")
            let next = await #expect(throws: ApusError.self) { try await client.loadBalancedView().apply($twice, 2) }
            #expect(next?.message == error?.message)
            let none = await #expect(throws: ApusError.self) { try await client.waitForEngines(2) }
            #expect(none?.message == "0 of 2 engines are registered, and none is coming: its two engines ended by signal 9")
        }
    }

    @Test("A condition that holds nowhere says who was asked and when, and is asked again after a push")
    func refusedEverywhere() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let result = try client.loadBalancedView().applyAsync($twice.depending(on: $hasLicence), 21)
            let id = result.messageIDs[0]
            var reason = try await client.whyWaiting(id) ?? ""
            while !reason.hasPrefix("no engine meets its dependencies") { reason = try await client.whyWaiting(id) ?? "" }
            #expect(reason.contains("engine 0 does not meet its condition (asked 0."))
            #expect(reason.contains("engine 1 does not meet its condition (asked 0."))
            #expect(try await client.queueStatus().waiting[id]?.hasPrefix("no engine meets its dependencies") == true)
            try await client[1].push("licence", true)
            #expect(try await result.value == 42)
            #expect(result.metadata[0].engineID == 1)
        }
    }

    @Test("A time-out ends what no engine accepts, and says what it waited for")
    func refusedUntilTimeout() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let view = client.loadBalancedView().with { $0.timeout = .milliseconds(100) }
            let error = await #expect(throws: ApusError.self) { try await view.apply($twice.depending(on: $hasLicence), 1) }
            #expect(error?.code == .taskTimeout)
            #expect(error?.message.contains("waited longer than its time-out allows: no engine meets its dependencies") == true)
        }
    }

    @Test("A failed dependency says why it failed, along the whole chain")
    func failedDependency() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            var view = client.loadBalancedView()
            let first = try view.applyAsync($failWith, "the oven is cold")
            view.after = TaskDependency(first)
            let second = try view.applyAsync($twice, 1)
            let (a, b) = (first.messageIDs[0], second.messageIDs[0])
            let error = await #expect(throws: ApusError.self) { try await second.value }
            #expect(error?.message == "task '\(a)', which it comes after, failed: Broken: the oven is cold")
            view.after = TaskDependency(second)
            let third = await #expect(throws: ApusError.self) { try await view.apply($twice, 1) }
            #expect(
                third?.message.hasPrefix("task '\(b)', which it comes after, failed: ImpossibleDependency: task '\(a)'") == true)
        }
    }
}
