import Apus
import Foundation
import Synchronization
import Testing

/// Ends the engine's process by a signal, once it has been told to say something.
@Remote
func killEngine(with number: Int) -> Int {
    kill(getpid(), Int32(number))
    Thread.sleep(forTimeInterval: 60)
    return number
}

@Suite("Engines come back", .serialized, .timeLimit(.minutes(3)))
struct RestartTests {
    @Test("An engine that dies is started again in its place, with its id and without its names")
    func inPlace() async throws {
        try await withCluster(engines: 2) { client in
            try await client[...].push("x", 1)
            let before = try await client[...].apply($engineProcess)
            let died = await #expect(throws: ApusError.self) { try await client[0].apply($killEngine, Int(SIGKILL)) }
            #expect(died?.code == .engineDied)
            // The notice of the death comes a moment after the error, and until then the old engine may still be called.
            var after = before
            while after.count < 2 || after[0] == before[0] { after = (try? await client[...].apply($engineProcess)) ?? before }
            #expect(after.count == 2 && after[1] == before[1])
            #expect(client.ids == [0, 1])
            let lost = await #expect(throws: RemoteError.self) { try await client[0].pull("x", as: Int.self) }
            #expect(lost?.name == "NameError")
            #expect(try await client[1].pull("x", as: Int.self) == 1)
        }
    }

    @Test("A task that kills each engine it is given ends after its retries, and the cluster goes on")
    func poison() async throws {
        try await withCluster(engines: 1) { client in
            let view = client.loadBalancedView().with { $0.retries = 2 }
            let killer = try view.applyAsync($killEngine, Int(SIGKILL))
            let behind = try view.applyAsync($squared, 3)
            let error = await #expect(throws: ApusError.self) { try await killer.value }
            #expect(error?.code == .engineDied)
            #expect(try await behind.value == 9)
        }
    }

    @Test("Where engines are not started again, tasks end when none is left, with the reason")
    func off() async throws {
        var options = Cluster.Options()
        options.restartsEngines = false
        try await withCluster(engines: 1, options: options) { client in
            let view = client.loadBalancedView()
            let killer = try view.applyAsync($killEngine, Int(SIGKILL))
            let waiting = try view.applyAsync($squared, 3)
            await #expect(throws: ApusError.self) { try await killer.value }
            let error = await #expect(throws: ApusError.self) { try await waiting.value }
            #expect(error?.code == .noEnginesRegistered)
            #expect(error?.message.contains("engine 0 ended with signal 9 (Killed)") == true, "\(error as Any)")
            let new = await #expect(throws: ApusError.self) { try await view.apply($squared, 3) }
            #expect(new?.code == .noEnginesRegistered)
        }
    }

    @Test("An engine that was shut down stays away until somebody asks for it")
    func shutDown() async throws {
        let cluster = try await Cluster()
        do {
            try await cluster.startEngines(2)
            let client = try await cluster.connect()
            try await client.waitForEngines(2)
            try await client.shutdown([1])
            #expect(try await client.loadBalancedView().apply($squared, 2) == 4)
            try await client.shutdown([0])
            let error = await #expect(throws: ApusError.self) { try await client.loadBalancedView().apply($squared, 2) }
            #expect(error?.code == .noEnginesRegistered)
            #expect(error?.message.contains("engine 0 ended with code 0; it was told to") == true, "\(error as Any)")

            try await cluster.restartEngines([1])
            #expect(try await client.loadBalancedView().apply($squared, 2) == 4)
            try await client.waitForEngines(1)
            #expect(client.ids == [1])
            let before = try await client[1].apply($engineProcess)
            try await cluster.restartEngines()
            try await client.waitForEngines(2)
            #expect(client.ids == [0, 1])
            #expect(try await client[1].apply($engineProcess) != before)
            let foreign = await #expect(throws: ApusError.self) { try await cluster.restartEngines([7]) }
            #expect(foreign?.code == .noSuchEngine)
            await client.close()
        } catch { Issue.record(error) }
        await cluster.stop()
    }

    @Test("An engine that can no longer start is given up after the stated number of times, with its last words")
    func cannotLive() async throws {
        try await withTemporaryFolder { folder in
            let itself = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            let script = folder + "/engine"
            try """
            #!/bin/sh
            if [ -e \(folder)/expired ]; then echo the licence has expired; exit 3; fi
            APUS_ENGINE_MODE=1 exec \(itself)
            """.write(toFile: script, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: script)
            var options = Cluster.Options()
            options.engineCommand = [script]
            options.restartLimit = 2
            try await withCluster(engines: 1, options: options) { client in
                let view = client.loadBalancedView()
                #expect(try await view.apply($squared, 3) == 9)
                try Data().write(to: URL(filePath: folder + "/expired"))
                await #expect(throws: ApusError.self) { try await view.apply($killEngine, Int(SIGKILL)) }
                let error = await #expect(throws: ApusError.self) { try await view.apply($squared, 3) }
                #expect(error?.code == .noEnginesRegistered)
                #expect(
                    error?.message.contains("ended with code 3 ('the licence has expired'); it died 3 times in a row") == true,
                    "\(error as Any)")
            }
        }
    }

    @Test("An engine that ends before it has registered fails the launch at once, with its last words")
    func launchFails() async throws {
        var options = Cluster.Options()
        options.engineCommand = ["sh", "-c", "echo there is no licence; exit 3"]
        let error = await #expect(throws: ApusError.self) { try await withCluster(engines: 2, options: options) { _ in } }
        #expect(error?.code == .launchFailed)
        #expect(error?.message.contains("ended with code 3; last lines:\n    there is no licence") == true, "\(error as Any)")
        options.engineCommand = ["/nowhere/engine"]
        let missing = await #expect(throws: ApusError.self) { try await withCluster(engines: 2, options: options) { _ in } }
        #expect(missing?.message.contains("/nowhere/engine cannot be started") == true, "\(missing as Any)")
    }

    @Test("A program that is no engine is answered by what makes it one")
    func noEngine() async throws {
        var options = Cluster.Options()
        options.startTimeout = .milliseconds(300)
        for program in [["sleep", "100"], ["true"]] {
            options.engineCommand = program
            let error = await #expect(throws: ApusError.self) { try await withCluster(engines: 1, options: options) { _ in } }
            #expect(error?.message.contains("env APUS_ENGINE_MODE=1 \(program[0])") == true, "\(error as Any)")
        }
    }

    @Test("A program that imports Apus is an engine without being told")
    func engineMode() async throws {
        var options = Cluster.Options()
        options.engineCommand = [try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"), "--list-tests"]
        let nine = try await withCluster(engines: 1, options: options) { client in try await client[0].apply($squared, 3) }
        #expect(nine == 9)
    }
}
