import Apus
import Foundation
import TestPython
import Testing

@Suite("Engines that run Python", .serialized, .enabled(if: TestPython.exists), .timeLimit(.minutes(5)))
struct PythonEngineTests {
    @Test("The kernel alone, over its socket pair: what it runs, publishes and survives")
    func kernel() async throws { try await Self.runPytest("test_kernel.py") }

    @Test("Processes that user code makes neither read nor write nor close what is the engine's")
    func forks() async throws { try await Self.runPytest("test_forks.py") }

    @Test("Tasks of asyncio go on between requests, and whatever they do harms no request")
    func loop() async throws { try await Self.runPytest("test_loop.py") }

    @Test("Comms of widgets go out as a stock engine's do, and are answered")
    func comms() async throws { try await Self.runPytest("test_comms.py") }

    @Test(
        "A notebook has the widgets of an engine, 25 entries for a tqdm.notebook and a slider as with stock engines, and moves them"
    )
    func notebook() async throws { try await Self.runPytestWithPrograms("test_notebook.py") }

    @Test("Large arrays cross in memory that the engine and its kernel share, and are the kernel's own from then on")
    func memory() async throws { try await Self.runPytest("test_memory.py") }

    @Test("A kernel imports a client, numpy and the like when they are used, and then whole and once")
    func lazy() async throws { try await Self.runPytest("test_lazy.py") }

    @Test("The article's session, in IPython with ipyparallel's client, goes as the article shows it")
    func session() async throws { try await Self.runPytestWithPrograms("test_session.py") }

    // MARK: With our client

    @Test("A Swift client calls what Python has, what source text gives, and what an earlier cell defined")
    func calls() async throws {
        try await Self.withPythonCluster { client, _ in
            try await client[0].execute("def scaled(x, factor=2): return x * factor")
            #expect(try await client[0].apply("scaled", 21) as Int == 42)
            #expect(try await client[0].apply("math.sqrt", 2.0) as Double == 2.0.squareRoot())
            #expect(
                try await client[0].apply(.source("lambda words: [w.upper() for w in words]"), ["a", "b"]) as [String] == [
                    "A", "B",
                ])
            let powers: [Int] = try await client.loadBalancedView().map("operator.pow", [2, 3, 5], [10, 4, 2, 1])
            #expect(powers == [1024, 81, 25])
            #expect(
                try await client[...].map(.source("lambda a, b, c: a + b + c"), 0..<3, [10, 20, 30], 0...) as [Int] == [
                    10, 22, 34,
                ])
            let lacking = PythonFunction.source("lambda: 1").requiring("no_such_module_at_all")
            let never = await #expect(throws: ApusError.self) { try await client.loadBalancedView().apply(lacking) as Int }
            #expect(never?.code == .impossibleDependency)
            #expect(never?.message.contains("the module 'no_such_module_at_all'") == true)
            let array = NDArray((0..<1000).map { Double($0) / 2 }, shape: [10, 100])
            #expect(
                try await client[0].apply(.source("lambda a: a.T.copy()"), array, returning: NDArray.self).shape == [100, 10])
        }
    }

    @Test("A program's own engines run Python beside its functions, where it is asked for")
    func ownEngines() async throws {
        var options = Cluster.Options()
        options.python = .interpreter(TestPython.interpreter)
        try await withCluster(engines: 1, options: options) { client in
            #expect(try await client[0].apply($squared, 3) == 9)
            try await client[0].execute("x = 4")
            #expect(try await client[0].apply(.source("lambda: x + 1")) as Int == 5)
        }
    }

    @Test("On a mixed cluster each task goes to an engine that can run it, whichever language sent it")
    func mixed() async throws {
        try await withTemporaryFolder { folder in
            var options = Cluster.Options()
            options.profile = ProfileDirectory(path: folder + "/profile_test")
            options.clusterID = ""
            try await withCluster(engines: 1, options: options) { client in
                let engine = try ProgramProcess(apusEngine: options.profile ?? ProfileDirectory(path: folder))
                try await client.waitForEngines(2, timeout: .seconds(60))
                let balanced = client.loadBalancedView()
                let numbers = (0..<30).map { Double($0) }
                let squares = numbers.map { $0 * $0 }
                let swift = try balanced.mapAsync($squared, numbers)
                let python = try balanced.mapAsync(.source("lambda x: x * x"), numbers, returning: Double.self)
                #expect(try await swift.value == squares)
                #expect(try await python.value == squares)
                let output = try await Python.run(Self.mixedScript, [folder + "/profile_test"])
                #expect(output.hasSuffix("all is well\n"), "\(output)")
                try await client.shutdown([1])
                #expect(await engine.result().status == 0)
            }
        }
    }

    private static let mixedScript = """
        import sys
        import ipyparallel as ipp

        client = ipp.Client(profile_dir=sys.argv[1])
        client.wait_for_engines(2, timeout=60, interactive=False)
        balanced, square = client.load_balanced_view(), ipp.Reference("squared")
        calls = [balanced.apply_async(square, 3.0) for _ in range(20)] + [balanced.apply_async(lambda: 9.0) for _ in range(20)]
        assert [call.get(timeout=30) for call in calls] == [9.0] * 40
        assert balanced.map_sync(square, [float(x) for x in range(20)]) == [float(x * x) for x in range(20)]
        assert balanced.map_sync(lambda x: x * x, range(20)) == [x * x for x in range(20)]
        client.close()
        print("all is well")
        """

    @Test("Shutdown with restart gives an engine a new interpreter in the same place")
    func restart() async throws {
        try await Self.withPythonCluster { client, _ in
            try await client[0].execute("x = 1")
            let before = try await client[0].apply("os.getpid") as Int
            try await client.shutdown(restart: true)
            #expect(client.ids == [0])
            #expect(try await client[0].apply("os.getpid") as Int != before)
            let error = await #expect(throws: RemoteError.self) { try await client[0].execute("x") }
            #expect(error?.name == "NameError")
        }
    }

    @Test("A task past its view's limit is interrupted; the engine keeps its namespace")
    func limit() async throws {
        try await Self.withPythonCluster { client, _ in
            try await client[0].execute("x = 1\nimport time")
            var hurried = client[0]
            hurried.runLimit = .milliseconds(100)
            var error = await #expect(throws: RemoteError.self) { try await hurried.execute("time.sleep(60)") }
            #expect(error?.name == "KeyboardInterrupt")
            var balanced = client.loadBalancedView()
            balanced.runLimit = .milliseconds(100)
            error = await #expect(throws: RemoteError.self) { try await balanced.apply("time.sleep", 60) as Int? }
            #expect(error?.value.contains("longer than its limit of 0.1 s") == true)
            #expect(try await client[0].pull("x", as: Int.self) == 1)
        }
    }

    @Test("An engine beats while Python holds its lock for longer than the heartbeat allows")
    func heartbeat() async throws {
        var options = ControllerOptions()
        options.heartbeatPeriod = 100
        options.maximumMisses = 2
        try await Self.withPythonCluster(options) { client, _ in
            let sum: Int = try await client[0].apply(.source("lambda: sum(range(10 ** 8))"))
            #expect(sum == 4_999_999_950_000_000)
            #expect(client.ids == [0])
        }
    }

    @Test("No interpreter outlives its engine, whatever it is doing")
    func orphans() async throws {
        try await Self.withPythonCluster { client, engine in
            let interpreter = try await client[0].apply("os.getpid") as pid_t
            let sign = NSTemporaryDirectory() + "apus-test-" + UUID().uuidString
            defer { try? FileManager.default.removeItem(atPath: sign) }
            let hung = try client[0].executeAsync("open('\(sign)', 'w').close()\nsum(range(10 ** 13))")
            while !FileManager.default.fileExists(atPath: sign) { try await Task.sleep(for: .milliseconds(5)) }
            kill(engine.pid, SIGKILL)
            while kill(interpreter, 0) == 0 { try await Task.sleep(for: .milliseconds(5)) }
            let error = await #expect(throws: ApusError.self) { try await hung.value }
            #expect(error?.code == .engineDied)
        }
    }

    @Test("Engines and their interpreters end when a client shuts the controller down")
    func finalWord() async throws {
        try await Self.withPythonCluster { client, engine in
            let interpreter = try await client[0].apply("os.getpid") as pid_t
            try await client.shutdown(hub: true)
            #expect(await engine.result().status == 0)
            while kill(interpreter, 0) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        }
    }

    /// Runs the body with a controller in this process, one `apus engine`, and our client.
    private static func withPythonCluster(
        _ options: ControllerOptions = ControllerOptions(), _ body: (Client, ProgramProcess) async throws -> Void
    ) async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let host = try await ControllerHost(options: options, files: ControllerHost.Files(profile: profile, clusterID: ""))
            let engine = try ProgramProcess(apusEngine: profile)
            let client = try await Client.connect(profileDirectory: profile.path)
            try await client.waitForEngines(1, timeout: .seconds(60))
            do { try await body(client, engine) } catch {
                kill(engine.pid, SIGKILL)
                throw error
            }
            try? await client.shutdown(hub: true)
            await client.close()
            try await host.wait()
        }
    }

    /// Runs one file of `Tests/PythonKernel`, all of it: a test that is skipped there is not passed here.
    private static func runPytest(_ file: String, environment: [String: String] = [:]) async throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "PythonKernel")
        let process = try pythonProcess(
            [
                "-B", "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-q", "--color=no", "--timeout=120",
                folder.appending(path: file).path,
            ],
            environment: environment)
        let (status, output) = await process.result()
        #expect(status == 0, "\(output)")
        #expect(!output.contains("SKIPPED"), "\(output)")
    }

    private static func runPytestWithPrograms(_ file: String) async throws {
        let apus = Self.built("apus")
        try await Self.runPytest(file, environment: ["APUS_ENGINE": "\(apus) engine", "APUS_CONTROLLER": "\(apus) controller"])
    }

    /// A program of this package, built beside the tests.
    private static func built(_ name: String) -> String {
        URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: name).path
    }
}
