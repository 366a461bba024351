import Apus
import Foundation
import TestPython
import Testing

@Suite("With Python's own programs", .serialized, .enabled(if: TestPython.exists), .timeLimit(.minutes(3)))
struct PythonTests {
    @Test("Stock clients and stock engines find nothing missing on our controller")
    func stockOnOurController() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let host = try await ControllerHost(files: ControllerHost.Files(profile: profile, clusterID: ""))
            let engines = try (0..<2).map { _ in try pythonProcess(["-m", "ipyparallel.engine", "--profile-dir=" + profile.path])
            }
            let output = try await Python.run(Self.clientScript, [profile.path])
            #expect(output.hasSuffix("all is well\n"), "\(output)")
            // The script shut the cluster down: controller and engines end by themselves, and the files are gone.
            try await host.wait()
            #expect(!FileManager.default.fileExists(atPath: profile.clientFile(clusterID: "")))
            for engine in engines { _ = await engine.result() }
        }
    }

    private static let clientScript = """
        import os, sys, time
        import ipyparallel as ipp

        client = ipp.Client(profile_dir=sys.argv[1])
        client.wait_for_engines(2, timeout=60, interactive=False)
        assert client.ids == [0, 1], client.ids
        view, balanced = client[:], client.load_balanced_view()

        pids = view.apply_sync(os.getpid)
        assert len(set(pids)) == 2
        assert balanced.apply_sync(lambda x, y=1: x + y, 2, y=5) == 7
        assert view.map_sync(lambda x: x * x, range(10)) == [x * x for x in range(10)]
        assert balanced.map_sync(lambda x: x * x, range(10)) == [x * x for x in range(10)]

        view.push({"a": 5, "b": [1, "zwei"]}, block=True)
        assert view.pull("a", block=True) == [5, 5]
        assert client[1].pull(["a", "b"], block=True) == [5, [1, "zwei"]]

        result = view.execute("print('hi'); a + 1", silent=False)
        result.get()
        assert result.stdout == ["hi\\n", "hi\\n"], result.stdout
        assert [r["data"]["text/plain"] for r in result.execute_result] == ["6", "6"]

        try:
            balanced.apply_sync(lambda: 1 / 0)
            raise SystemExit("no error came")
        except ipp.RemoteError as error:
            assert error.ename == "ZeroDivisionError", error.ename

        @ipp.require("no_such_module_at_all")
        def needs():
            return 1

        try:
            balanced.apply_async(needs).get(timeout=20)
            raise SystemExit("a module was found that is not there")
        except ipp.RemoteError as error:
            assert error.ename == "ImpossibleDependency", error.ename
            assert "no_such_module_at_all" in error.evalue, error.evalue

        @ipp.depend(lambda: "licence" in globals())
        def licensed():
            return 7

        view.apply_sync(lambda: globals().pop("licence", None))
        waiting = balanced.apply_async(licensed)
        while "does not meet its condition" not in client.queue_status().get("apus_waiting", {}).get(waiting.msg_ids[0], ""):
            time.sleep(0.01)
        client[1].push({"licence": True}, block=True)
        assert waiting.get(timeout=5) == 7

        running = [client[0].apply_async(time.sleep, 0.5), client[0].apply_async(time.sleep, 0.5)]
        client.abort(running[1])
        try:
            running[1].get(timeout=20)
            raise SystemExit("the aborted task gave a result")
        except ipp.error.TaskAborted:
            pass
        running[0].get(timeout=20)

        broadcast = client.broadcast_view()
        assert sorted(broadcast.apply_sync(os.getpid)) == sorted(pids)
        broadcast.is_coalescing = True
        assert sorted(broadcast.apply_sync(os.getpid)) == sorted(pids)

        status = client.queue_status()
        assert status["unassigned"] == 0 and status[0]["queue"] == 0
        history = client.hub_history()
        assert history
        done = balanced.apply_async(lambda: 42)
        assert done.get() == 42
        assert client.get_result(done.msg_ids, owner=False).get() == [42]
        assert client.resubmit(done.msg_ids).get(timeout=20) == [42]
        assert client.db_query({"msg_id": done.msg_ids[0]}, keys=["engine_uuid"])[0]["engine_uuid"]

        lost = client[1].apply_async(lambda: __import__("os")._exit(1))
        try:
            lost.get(timeout=20)
            raise SystemExit("a dead engine gave a result")
        except ipp.RemoteError as error:
            assert error.ename == "EngineError", error.ename
        assert client.ids == [0], client.ids
        client.shutdown(hub=True)
        print("all is well")
        """

    @Test("Our client works on a stock controller with stock engines")
    func ourClientOnStock() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            try profile.create()
            let controller = try pythonProcess(["-m", "ipyparallel.controller", "--profile-dir=" + profile.path, "--ping=500"])
            let engines = try (0..<2).map { _ in
                try pythonProcess(["-m", "ipyparallel.engine", "--profile-dir=" + profile.path, "--timeout=30"])
            }
            let client = try await connectWhenThere(profile)
            try await client.waitForEngines(2, timeout: .seconds(60))
            let view = client[...]
            let balanced = client.loadBalancedView()

            let replies = try await view.execute("import math\nprint('hi')\nx = 5\nx + 1", silent: false)
            #expect(replies.map { $0.stdout } == ["hi\n", "hi\n"])
            #expect(replies.map { $0.result?.description } == ["6", "6"])
            #expect(try await view.pull("x", as: Int.self) == [5, 5])

            try await view.push(["text": "grün", "list": [1, 2, 3]])
            #expect(try await client[1].pull("text", as: String.self) == "grün")
            let array = NDArray((0..<1000).map { Double($0) / 2 }, shape: [10, 100])
            try await view.push("array", array)
            #expect(try await client[0].pull("array", as: NDArray.self) == array)
            #expect(try await client[0].apply(.source("lambda a: float(a.sum())"), array) as Double == 249_750)

            #expect(try await client[0].apply("math.sqrt", 2.0) as Double == 2.0.squareRoot())
            #expect(try await balanced.apply("math.hypot", 3.0, 4.0) as Double == 5)
            #expect(try await balanced.map(.source("lambda n: n * n"), 0..<20, chunkSize: 3) as [Int] == (0..<20).map { $0 * $0 })
            #expect(try await view.map("math.factorial", 0..<6) as [Int] == [1, 1, 2, 6, 24, 120])
            try await view.scatter("part", 0..<7)
            #expect(try await view.gather("part", as: Int.self) == Array(0..<7))

            let error = await #expect(throws: RemoteError.self) { try await client[0].execute("1/0") }
            #expect(error?.name == "ZeroDivisionError")
            #expect(error?.traceback.isEmpty == false)
            let status = try await client.queueStatus()
            #expect(status.engines.keys.sorted() == [0, 1])
            try await client.shutdown(hub: true)
            await client.close()
            Python.endProcesses(naming: profile.path)
            for process in engines + [controller] { _ = await process.result() }
        }
    }

    /// Runs a Python client of a cluster with Swift engines; the client says that all is well.
    private func expectWell(_ script: String, engines: Int) async throws {
        try await withTemporaryFolder { folder in
            var options = Cluster.Options()
            options.profile = ProfileDirectory(path: folder + "/profile_test")
            options.clusterID = ""
            try await withCluster(engines: engines, options: options) { _ in
                let output = try await Python.run(script, [folder + "/profile_test"])
                #expect(output.hasSuffix("all is well\n"), "\(output)")
            }
        }
    }

    @Test("A Python client calls Swift functions by name on Swift engines")
    func pythonCallsSwift() async throws {
        try await self.expectWell(Self.swiftCallsScript, engines: 2)
    }

    @Test("A Python client finds the tasks of one that was killed by id, label and history, those that are queued among them")
    func clientKilled() async throws {
        try await self.expectWell(Self.killedClientScript, engines: 1)
    }

    private static let killedClientScript = """
        import os, signal, subprocess, sys
        import ipyparallel as ipp

        client = ipp.Client(profile_dir=sys.argv[1])
        client.wait_for_engines(1, timeout=60, interactive=False)
        if sys.argv[2:] == ["first"]:
            view = client.load_balanced_view()
            with view.temp_flags(label="fit"):
                results = [view.apply_async(ipp.Reference("sleepFor"), seconds) for seconds in (0.0, 3.0, 0.1, 0.2)]
            results[0].get(timeout=20)
            while len(client.hub_history()) < 4:
                pass
            print(*(result.msg_ids[0] for result in results), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        first = subprocess.run([sys.executable, *sys.orig_argv[1:], "first"], stdout=subprocess.PIPE, text=True)
        assert first.returncode == -signal.SIGKILL
        ids = first.stdout.split()
        assert client.hub_history() == ids
        assert [record["msg_id"] for record in client.db_query({"label": "fit"}, keys=["label"])] == ids
        assert client.result_status(ids)["pending"] == ids[1:]
        assert client.get_result(ids, owner=False).get(timeout=20) == [0.0, 3.0, 0.1, 0.2]
        client.close()
        print("all is well")
        """

    private static let swiftCallsScript = """
        import sys
        import ipyparallel as ipp

        client = ipp.Client(profile_dir=sys.argv[1])
        client.wait_for_engines(2, timeout=60, interactive=False)
        view, balanced = client[:], client.load_balanced_view()
        square, add = ipp.Reference("squared"), ipp.Reference("add")
        assert client[0].apply_sync(square, 3.0) == 9.0
        assert view.apply_sync(add, 2, 3) == [5, 5]
        assert balanced.apply_sync(add, 2, 3) == 5
        assert balanced.map_sync(square, [1.0, 2.0, 3.0]) == [1.0, 4.0, 9.0]
        view.push({"n": 7}, block=True)
        assert view.pull("n", block=True) == [7, 7]
        assert view.apply_sync(add, ipp.Reference("n"), 1) == [8, 8]
        result = client[0].apply_async(ipp.Reference("shout"), "hello")
        assert result.get(timeout=20) == "HELLO!"
        result.wait_for_output()
        assert result.stdout == "shouting hello\\n", result.stdout
        for call, error in ((lambda: balanced.apply_sync(ipp.Reference("avoidThirteen"), 13), "Unlucky"),
                            (lambda: balanced.apply_sync(ipp.Reference("nonesuch"), 13), "NotFound"),
                            (lambda: balanced.apply_sync(add, 13), "argument"),
                            (lambda: balanced.apply_sync(lambda: 1), "Swift")):
            try:
                call()
                raise SystemExit("no error came: " + error)
            except ipp.RemoteError as raised:
                assert error in raised.ename + raised.evalue, (error, raised.ename, raised.evalue)
        client.close()
        print("all is well")
        """
}
