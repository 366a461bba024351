import Apus
import Foundation
import TestPython
import Testing

@Remote
func trapWith(_ words: String) -> Int {
    FileHandle.standardError.write(Data("about to trap\n".utf8))
    fatalError(words)
}

@Remote
func readPastEnd(_ index: Int) -> Int { [1, 2, 3][index] }

@Remote
func sendSignal(_ number: Int) -> Int { Int(raise(Int32(number))) }

/// How engines die, what clients are told, and how an engine that was given up comes back: real processes over TCP.
@Suite("An engine that dies", .serialized, .timeLimit(.minutes(3)))
struct EngineDeathTests {
    @Test("A task whose engine dies says what it called, where, how often, and what ended it, as soon as it does")
    func cause() async throws {
        try await withCluster(engines: 6) { client in
            let balanced = client.loadBalancedView()
            var died: Set<EngineID> = []
            func failure(_ body: () async throws -> Int) async -> String {
                let started = ContinuousClock.now
                let error = await #expect(throws: ApusError.self) { _ = try await body() }
                #expect(error?.code == .engineDied)
                if let id = (error?.message ?? "").firstMatch(of: /^engine (\d)/)?.1 { died.insert(EngineID(Int(id) ?? -1)) }
                // A backtrace alone takes longer than this.
                #expect(ContinuousClock.now - started < .seconds(2))
                return error?.message ?? ""
            }
            var text = await failure { try await balanced.apply($trapWith, "no cheese") }
            #expect(
                text.contains(/^engine \d died while running ApusTests\.trapWith \(task '\S+', tried once\): signal [45] \(SIG/),
                "\(text)")
            #expect(text.contains("Fatal error: no cheese"), "\(text)")
            #expect(text.contains("    about to trap\n"), "\(text)")

            text = await failure { try await balanced.apply($readPastEnd, 3) }
            #expect(text.contains("Fatal error: Index out of range"), "\(text)")

            text = await failure { try await balanced.apply($crash) }
            #expect(text.contains("it exited with code 99"), "\(text)")

            // Only the program that started the process can tell this.
            text = await failure { try await balanced.apply($sendSignal, Int(SIGKILL)) }
            #expect(text.contains("signal 9 (SIGKILL), as the system sends it when memory runs out"), "\(text)")

            // The client may not have heard yet that an engine of before is gone.
            let last = try #require(client.ids.last { !died.contains($0) })
            text = await failure { try await client[last].apply($trapWith, "still none") }
            #expect(text.hasPrefix("engine \(last) died while running ApusTests.trapWith (task '"), "\(text)")
            #expect(text.contains("Fatal error: still none"), "\(text)")
        }
    }

    @Test("A task whose Python is killed says the same", .enabled(if: TestPython.exists))
    func python() async throws {
        var options = Cluster.Options()
        options.python = .interpreter(TestPython.interpreter)
        try await withCluster(engines: 1, options: options) { client in
            let view = client.loadBalancedView().with { $0.retries = 1 }
            var error = await #expect(throws: RemoteError.self) { _ = try await view.apply("os._exit", 3) as Int }
            var text = error?.value ?? ""
            #expect(error?.name == "EngineError")
            #expect(
                text.contains(
                    /^engine 0 could not finish _exit \(task '\S+', tried 2 times\): its Python kernel died: it exited/),
                "\(text)")
            error = await #expect(throws: RemoteError.self) {
                try await client[0].execute(
                    "import os, sys\nprint('about to die', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 9)")
            }
            text = error?.value ?? ""
            #expect(text.contains("it was killed (SIGKILL)"), "\(text)")
            #expect(text.hasSuffix("\nThe last lines of its error output:\n    about to die"), "\(text)")
            #expect(client.ids == [0])
        }
    }

    @Test("A task that is tried again says how often when it fails for good; one that waited behind it runs elsewhere")
    func tries() async throws {
        try await withCluster(engines: 3) { client in
            let view = client.loadBalancedView().with { $0.retries = 1 }
            let others = try (0..<20).map { try client.loadBalancedView().applyAsync($squared, Double($0)) }
            let error = await #expect(throws: ApusError.self) { try await view.apply($trapWith, "no cheese") }
            #expect(error?.message.contains("tried 2 times") == true, "\(error?.message ?? "")")
            for (number, other) in others.enumerated() { #expect(try await other.value == Double(number * number)) }
        }
    }

    @Test(
        "An engine that was stopped for longer than its heartbeat allows takes its place again, with its names, and its task runs anew"
    )
    func frozen() async throws {
        var options = Cluster.Options()
        options.controller.heartbeatPeriod = 100
        options.controller.maximumMisses = 10
        try await withCluster(engines: 1, options: options) { client in
            let process = Int32(try await client[0].apply($engineProcess))
            try await client[0].push(["x": [1.0, 2.0]])
            let running = try client.loadBalancedView().with { $0.retries = 1 }.applyAsync($sleepFor, 0.3)
            let direct = try client[0].applyAsync($sleepFor, 0.2)
            kill(process, SIGSTOP)
            while !client.ids.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
            let error = await #expect(throws: ApusError.self) { try await direct.value }
            #expect(error?.message.contains("it no longer answered heartbeats") == true, "\(error?.message ?? "")")
            let waiting = try client.loadBalancedView().applyAsync($squared, 3)
            kill(process, SIGCONT)
            #expect(try await waiting.value == 9)
            #expect(try await running.value == 0.3)
            #expect(client.ids == [0])
            #expect(try await client[0].apply($sumOf, "x") == 3)
            #expect(Int32(try await client[0].apply($engineProcess)) == process)
        }
    }
}
