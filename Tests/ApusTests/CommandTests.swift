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
                try await self.json(profile)

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

    /// Checks what `--json` prints for a cluster of two engines.
    private func json(_ profile: String) async throws {
        let status = try await Apus.json(["status", "--json", "--profile-dir", profile])
        let idle: JSONValue = ["queue": 0, "tasks": 0, "completed": 0]
        #expect(status == ["engines": ["0": idle, "1": idle], "unassigned": 0, "waiting": [:]])
        try "{".write(toFile: profile + "/security/cluster-torn.json", atomically: true, encoding: .utf8)
        let list = try await Apus.json(["list", "--json", "--profile-dir", profile])
        #expect(list.array?.count == 2)
        #expect(
            list.array?.first == [
                "profile_dir": .string(profile), "cluster_id": "", "running": true, "controller": true, "engines": 2,
                "launcher": "local", "file": .string(profile + "/security/cluster-.json"),
            ])
        #expect(list.array?.last?["file"]?.string == profile + "/security/cluster-torn.json")
        #expect(list.array?.last?["error"]?.string?.contains("describes no cluster") == true)
    }

    @Test(
        "The engines of a cluster run a stock client's Python, and come back when they are killed",
        .enabled(if: TestPython.exists))
    func python() async throws {
        try await withTemporaryFolder { folder in
            let place = ["--profile-dir", folder + "/profile_test"]
            let interpreter = try TestPython.path()
            let started = try await Apus.run(["start", "-n", "2", "--daemonize", "--python", interpreter] + place)
            #expect(started.status == 0, "\(started.output)")
            #expect(started.output.contains("2 engines run Swift functions and Python (\(interpreter))"), "\(started.output)")
            let script = """
                import os, signal, sys, time
                import ipyparallel as ipp

                client = ipp.Client(profile_dir=sys.argv[1])
                client.wait_for_engines(2, timeout=60, interactive=False)
                assert client[:].apply_sync(lambda x: x + 1, 41) == [42, 42]
                before = client[:].apply_sync(os.getppid)
                os.kill(before[1], signal.SIGKILL)

                def second():
                    try:
                        return client[1].apply_sync(os.getppid)
                    except (IndexError, ipp.RemoteError):
                        return before[1]

                while second() == before[1]:
                    time.sleep(0.05)
                assert client.ids == [0, 1], client.ids
                after = client[:].apply_sync(os.getppid)
                assert after[0] == before[0] and after[1] != before[1]
                client.close()
                print("all is well", after[0], after[1])
                """
            let output = try await Python.run(script, [folder + "/profile_test"])
            #expect(output.contains("all is well"), "\(output)")
            // The new engine belongs to the cluster, as the old one did.
            let stopped = try await Apus.run(["stop"] + place)
            #expect(stopped.status == 0, "\(stopped.output)")
            for process in output.split(whereSeparator: \.isWhitespace).suffix(2).compactMap({ Int32($0) }) {
                #expect(kill(process, 0) != 0, "engine process \(process) outlived its cluster")
            }
        }
    }

    @Test("Values go to engines whose Python has no ipyparallel, and come back", .enabled(if: TestPython.exists))
    func plainPython() async throws {
        try await withTemporaryFolder { folder in
            let python = folder + "/python"
            try "#!/bin/sh\nexec \(try TestPython.path()) -S \"$@\"\n".write(toFile: python, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: python)
            let place = ["--profile-dir", folder + "/profile_test"]
            let started = try await Apus.run(["start", "-n", "1", "--daemonize", "--python", python] + place)
            #expect(started.status == 0, "\(started.output)")
            let client = try await Client.connect(profileDirectory: folder + "/profile_test")
            try await client[...].push("x", [1, 2, 3])
            #expect(try await client[0].pull("x", as: [Int].self) == [1, 2, 3])
            #expect(try await client[0].apply(.source("lambda: sum(x)")) as Int == 6)
            let squares: [Int] = try await client[...].map(.source("lambda x: x * x"), 0..<4)
            #expect(squares == [0, 1, 4, 9])
            await client.close()
            _ = try await Apus.run(["stop"] + place)
        }
    }

    @Test("Without a Python that works engines run Swift functions, and one line says how to change that")
    func withoutPython() async throws {
        try await withTemporaryFolder { folder in
            let place = ["--profile-dir", folder + "/profile_test"]
            try "#!/bin/sh\necho no version is set >&2\nexit 127\n".write(
                toFile: folder + "/python3", atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder + "/python3")
            let environment = ["PATH": folder, "VIRTUAL_ENV": "/nowhere", "CONDA_PREFIX": "/nowhere"]
            let started = try await Apus.run(["start", "-n", "1", "--daemonize"] + place, environment: environment)
            #expect(started.status == 0, "\(started.output)")
            let lines = started.output.split(separator: "\n")
            #expect(lines.count == 2, "\(started.output)")
            #expect(lines[0].contains("\(folder)/python3 ended with code 127 ('no version is set')"))
            #expect(lines[0].contains("--python PATH") && lines[0].contains("--no-python"))
            #expect(lines[1].hasPrefix("1 engine runs Swift functions in the background"))
            _ = try await Apus.run(["stop"] + place)

            let asked = try await Apus.run(["start", "--python", folder + "/python3"] + place)
            #expect(asked.status == 1)
            #expect(asked.output.contains("--python names no Python that works"), "\(asked.output)")
        }
    }

    @Test("A command that is no engine is told what to add; one whose engines end at once says why")
    func otherEngines() async throws {
        try await withTemporaryFolder { folder in
            let start = ["start", "-n", "1", "--profile-dir", folder + "/profile_test", "--engines"]
            let (status, output) = try await Apus.run(start + ["echo my-program did its work"])
            #expect(status == 1)
            #expect(output.contains("my-program did its work"), "\(output)")
            #expect(output.contains("env APUS_ENGINE_MODE=1 echo"), "\(output)")
            let background = try await Apus.run(start + ["cat /nowhere/licence", "--daemonize"])
            #expect(background.status == 1)
            #expect(background.output.contains("/nowhere/licence"), "\(background.output)")
        }
    }

    @Test(
        "A mistake is answered by a sentence and an exit code",
        arguments: [
            (["nonsense"], "nonsense"),
            (["start", "-n", "many"], "many"),
            (["start", "-n=-1"], "-1"), (["start", "--restart-limit=-1"], "--no-restart"),
            (["start", "--engines", "x", "--no-python"], "--engines"),
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
        "The help has examples, and the version is printed",
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
            // The client is the same, and its sockets reconnect by themselves; the engines were not started again.
            while try await client.queueStatus().engines.count < 2 { try await Task.sleep(for: .milliseconds(20)) }
            #expect(client.ids == [0, 1])
            try await client[...].push("x", 7)
            #expect(try await client[1].pull("x", as: Int.self) == 7)
            // What the engines own is known, too: a task finds what it needs, and one that needs more waits.
            let view = client.loadBalancedView().with { ($0.resources, $0.runLimit) = (["gpu": 1], .seconds(60)) }
            let refused = await #expect(throws: RemoteError.self) { try await view.apply("nowhere") as Int }
            #expect(refused?.name == "FunctionNotFound", "\(refused as Any)")
            try await client.shutdown(hub: true)
            await client.close()
            for process in engines + [second] { #expect(await process.result().status == 0) }
        }
    }

    @Test(
        "Tasks under way when a controller is killed end at the next one, or are reported as lost",
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
            // One task that runs, one behind it at the engine, and one that no engine can run.
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
            if database == "--sqlitedb" {
                // It was taken up, and waits as before for an engine that owns what it needs.
                while try await waiting.whyWaiting().isEmpty { try await Task.sleep(for: .milliseconds(20)) }
                try await waiting.abort()
            }
            let error = await #expect(throws: ApusError.self) { try await waiting.value }
            #expect(error?.code == (database == "--sqlitedb" ? .taskAborted : .taskLost), "\(error as Any)")
            #expect(try await balanced.apply("math.sqrt", 9.0) as Double == 3)
            #expect(client.outstanding.isEmpty)
            try await client.shutdown(hub: true)
            await client.close()
            for process in [engine, second] { #expect(await process.result().status == 0) }
        }
    }

    @Test(
        "Every task that was queued when a controller was killed runs once at the next one, in its order",
        .enabled(if: TestPython.exists))
    func queueOutlivesController() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let controller = ["controller", "--profile-dir=" + profile.path, "--log-level=40", "--sqlitedb"]
            let first = try Apus.start(controller + ["--reuse"])
            let client = try await connectWhenThere(profile)
            let engines = try (0..<2).map { _ in try ProgramProcess(apusEngine: profile) }
            try await client.waitForEngines(2)
            let runs = folder + "/runs"
            let note = PythonFunction.source(
                "lambda n: (open('\(runs)', 'a').write(f'{n}\\n'), __import__('time').sleep(0.02), n)[2]")
            let view = client.loadBalancedView()
            let results = try (0..<60).map { try view.applyAsync(note, $0, returning: Int.self) }
            let last = try view.with { $0.after = TaskDependency(results[59].messageIDs) }.applyAsync(
                note, 60, returning: Int.self)
            for result in results.prefix(5) { _ = try await result.value }
            first.kill()
            _ = await first.result()

            let second = try Apus.start(controller + ["--restore"])
            var values: [Int] = []
            for result in results { values.append(try await result.value) }
            #expect(values == Array(0..<60))
            #expect(try await last.value == 60)
            let lines = try String(contentsOfFile: runs, encoding: .utf8).split(separator: "\n").compactMap { Int($0) }
            #expect(lines.sorted() == Array(0...60), "each runs once")
            try await client.shutdown(hub: true)
            await client.close()
            for process in engines + [second] { #expect(await process.result().status == 0) }
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
            // A call that comes when the controller is away already does not wait for ever either.
            let other = await #expect(throws: ApusError.self) { try await client.queueStatus() }
            #expect(other?.code == .controllerGone, "\(other as Any)")
            await client.close()
        }
    }

    @Test("A port that is in use is named, with the process that has it")
    func portInUse() async throws {
        try await withTemporaryFolder { folder in
            let host = try await ControllerHost(
                files: ControllerHost.Files(profile: ProfileDirectory(path: folder + "/profile_one"), clusterID: ""))
            let port = host.clientInfo.task
            let (status, output) = try await Apus.run(
                ["controller", "--profile-dir=" + folder + "/profile_two", "--client-ports=\(port)"])
            #expect(status != 0)
            #expect(output.contains("port \(port) on 127.0.0.1 is in use"), "\(output)")
            #if os(Linux)
                #expect(output.contains("by process \(ProcessInfo.processInfo.processIdentifier) ("), "\(output)")
            #endif
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
    static func run(_ arguments: [String], environment: [String: String] = [:]) async throws -> (status: Int32, output: String) {
        await (try ProgramProcess(built: "apus", arguments, environment: environment)).result()
    }

    /// Runs it and reads all that it said as JSON.
    static func json(_ arguments: [String]) async throws -> JSONValue {
        let (status, output) = try await Self.run(arguments)
        #expect(status == 0, "\(output)")
        return try JSONValue(parsing: output)
    }
}
