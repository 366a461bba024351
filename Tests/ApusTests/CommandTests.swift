import Apus
import Foundation
import TestPython
import Testing

@Suite("The apus command", .serialized, .timeLimit(.minutes(2)))
struct CommandTests {
    @Test("Starts a cluster in the background, shows it, measures it and stops it")
    func life() async throws {
        try await withTemporaryFolder { folder in
            let profile = folder + "/profile_test"
            let place = ["--profile-dir", profile]
            let nothing = try await Apus.run(["status"] + place)
            #expect(nothing.status == 1)
            #expect(nothing.output.contains("apus start"))

            let started = try await Apus.run(["start", "-n", "2", "--daemonize"] + place)
            #expect(started.status == 0, "\(started.output)")
            do {
                let client = try await Client.connect(profileDirectory: profile)
                #expect(client.ids == [0, 1])
                #expect(try await client.queueStatus().engines.count == 2)
                await client.close()

                let twice = try await Apus.run(["start", "-n", "2", "--daemonize"] + place)
                #expect(twice.status == 10)
                #expect(twice.output.contains("already runs"))
                let status = try await Apus.run(["status"] + place)
                #expect(status.output.contains("0 tasks wait for an engine"), "\(status.output)")
                let list = try await Apus.run(["list"] + place)
                #expect(list.output.contains("yes"), "\(list.output)")

                let bench = try await Apus.run(["bench", "--join", "--engines", "2", "--tasks", "20", "--json"] + place)
                let figures = try #require(
                    try JSONSerialization.jsonObject(with: Data(bench.output.utf8)) as? [String: Any], "\(bench.output)")
                for figure in ["sync_us", "direct_sync_us", "tasks_per_s", "map_tasks_per_s", "push_MBps", "pull_MBps"] {
                    #expect((figures[figure] as? Double ?? 0) > 0, "\(figure) is missing")
                }
            }
            let stopped = try await Apus.run(["stop"] + place)
            #expect(stopped.status == 0, "\(stopped.output)")
            #expect(!FileManager.default.fileExists(atPath: profile + "/security/ipcontroller-client.json"))
            let again = try await Apus.run(["stop"] + place)
            #expect(again.status == 11)
            #expect(again.output.contains("does not run"))
        }
    }

    @Test(
        "A mistake is answered by a sentence and an exit code",
        arguments: [
            (["nonsense"], "nonsense"),
            (["start", "-n", "many"], "many"),
            (["start", "-n=-1"], "-1"),
            (["bench", "--tasks", "0"], "--tasks is 0"),
            (["engine", "--file", "/nowhere/engine.json"], "/nowhere/engine.json"),
            (["status", "--profile-dir", "/nowhere/profile"], "/nowhere/profile"),
            (["controller", "--no-such-option=1", "--ip"], "--"),
            (["controller", "--hwm=deep"], "deep"),
        ])
    func mistakes(arguments: [String], mention: String) async throws {
        let (status, output) = try await Apus.run(arguments)
        #expect(status != 0)
        #expect(output.contains(mention), "\(output)")
        #expect(!output.contains("Fatal error") && !output.contains("Backtrace"), "\(output)")
        #expect(output.split(separator: "\n").count < 30, "\(output)")
    }

    @Test(
        "Help teaches and the version is told",
        arguments: [
            (["--help"], "apus start -n 4"), (["--version"], "0."), (["help", "start"], "--daemonize"),
            (["controller", "--help"], "--scheme"),
            (["engine", "--help"], "--python"), (["help", "bench"], "sync_us"),
        ])
    func help(arguments: [String], mention: String) async throws {
        let (status, output) = try await Apus.run(arguments)
        #expect(status == 0)
        #expect(output.contains(mention), "\(output)")
    }

    @Test("A controller that was killed and started again finds its engines and clients")
    func restart() async throws {
        try await withTemporaryFolder { folder in
            let profile = folder + "/profile_test"
            let controller = ["controller", "--profile-dir=" + profile, "--log-level=40"]
            let first = try Apus.start(controller + ["--reuse"])
            let client = try await connectWhenThere(ProfileDirectory(path: profile))
            let engines = try (0..<2).map { _ in
                try Apus.start(["engine", "--profile-dir=" + profile, "--no-python", "--resources", "gpu=1"])
            }
            try await client.waitForEngines(2)
            #expect(client.ids == [0, 1])
            first.kill()
            _ = await first.result()

            let second = try Apus.start(controller + ["--restore"])
            // The same client, whose sockets come back by themselves, and engines that were never started again.
            while try await client.queueStatus().engines.count < 2 { try await Task.sleep(for: .milliseconds(20)) }
            #expect(client.ids == [0, 1])
            try await client[...].push("x", 7)
            #expect(try await client[1].pull("x", as: Int.self) == 7)
            // What the engines said of themselves is known, too: a task finds what it needs, and one that needs more waits.
            let view = client.loadBalancedView().with { ($0.resources, $0.runLimit) = (["gpu": 1], .seconds(60)) }
            let refused = await #expect(throws: RemoteError.self) { try await view.apply("nowhere") as Int }
            #expect(refused?.name == "FunctionNotFound", "\(refused as Any)")
            try await client.shutdown(hub: true)
            await client.close()
            for process in engines + [second] { #expect(await process.result().status == 0) }
        }
    }

    @Test(
        "What was under way when a controller is killed comes by the next one, or is said to be lost",
        .enabled(if: TestPython.exists), arguments: ["--sqlitedb", "--dictdb"])
    func takeOver(database: String) async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let controller = ["controller", "--profile-dir=" + profile.path, "--log-level=40", database]
            let first = try Apus.start(controller + ["--reuse"])
            let client = try await connectWhenThere(profile)
            let engine = try ProgramProcess(apusEngine: profile)
            try await client.waitForEngines(1)
            let balanced = client.loadBalancedView()
            let ended = try balanced.applyAsync("math.sqrt", 4.0, returning: Double.self)
            _ = try await ended.value
            // One that runs, one behind it at the engine, and one that no engine can have.
            let slow = PythonFunction.source("lambda: (print('begun', flush=True), __import__('time').sleep(1), 7)[2]")
            let running = try balanced.applyAsync(slow, returning: Int.self)
            for await _ in running.streamOutput() { break }
            let queued = try client[0].applyAsync(.source("lambda: 8"), returning: Int.self)
            let waiting = try balanced.with { $0.resources = ["gpu": 1] }.applyAsync(slow, returning: Int.self)
            while try await client.hubHistory().count < 4 { await Task.yield() }
            first.kill()
            _ = await first.result()

            let second = try Apus.start(controller + ["--restore"])
            if database == "--sqlitedb" {
                #expect(try await running.value == 7)
                #expect(try await queued.value == 8)
                #expect(try await client.getResult(ended.messageIDs, as: Double.self).value == [2])
            } else {
                for lost in [running, queued] {
                    let error = await #expect(throws: ApusError.self) { try await lost.value }
                    #expect(error?.code == .taskLost, "\(error as Any)")
                }
            }
            let error = await #expect(throws: ApusError.self) { try await waiting.value }
            #expect(error?.code == .taskLost, "\(error as Any)")
            #expect(try await balanced.apply("math.sqrt", 9.0) as Double == 3)
            #expect(client.outstanding.isEmpty)
            try await client.shutdown(hub: true)
            await client.close()
            for process in [engine, second] { #expect(await process.result().status == 0) }
        }
    }

    @Test("A controller that is killed and stays away does not keep anybody waiting for ever")
    func outOfReach() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let controller = try Apus.start(["controller", "--profile-dir=" + profile.path, "--log-level=40"])
            await (try connectWhenThere(profile)).close()
            let client = try await Client.connect(profileDirectory: profile.path, patience: .milliseconds(200))
            let waiting = try client.loadBalancedView().applyAsync("math.sqrt", 2.0, returning: Double.self)
            while try await client.hubHistory().isEmpty { await Task.yield() }
            controller.kill()
            let error = await #expect(throws: ApusError.self) { try await waiting.value }
            #expect(error?.code == .controllerGone, "\(error as Any)")
            // Nor those who ask when it is away already.
            let other = await #expect(throws: ApusError.self) { try await client.queueStatus() }
            #expect(other?.code == .controllerGone, "\(other as Any)")
            await client.close()
        }
    }

    @Test("A port that is in use is named")
    func portInUse() async throws {
        try await withTemporaryFolder { folder in
            let host = try await ControllerHost(
                files: ControllerHost.Files(profile: ProfileDirectory(path: folder + "/profile_one"), clusterID: ""))
            let port = host.clientInfo.task
            let (status, output) = try await Apus.run(
                ["controller", "--profile-dir=" + folder + "/profile_two", "--client-ports=\(port)"])
            #expect(status != 0)
            #expect(output.contains("\(port)"), "\(output)")
            await host.stop()
        }
    }
}

/// The command as it was built beside the tests.
private enum Apus {
    static func start(_ arguments: [String]) throws -> ProgramProcess {
        try ProgramProcess(built: "apus", arguments)
    }

    /// Runs it to its end and gives its exit code and all that it said.
    static func run(_ arguments: [String]) async throws -> (status: Int32, output: String) {
        await (try Self.start(arguments)).result()
    }
}
