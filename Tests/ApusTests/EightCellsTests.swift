import Apus
import Foundation
import TestPython
import Testing

/// Whose controller, engines and client take part: Apus's, or ipyparallel's.
struct Cell: Sendable, CustomTestStringConvertible {
    enum Maker: String, Sendable, CaseIterable { case apus = "ours", stock }

    let controller: Maker
    let engines: Maker
    let client: Maker

    var testDescription: String {
        "\(self.controller) controller, \(self.engines) engines, \(self.client) client"
    }

    static let all = Maker.allCases.flatMap { controller in
        Maker.allCases.flatMap { engines in
            Maker.allCases.map { Cell(controller: controller, engines: engines, client: $0) }
        }
    }
}

@Suite("Either's controller, engines and client", .serialized, .enabled(if: TestPython.exists), .timeLimit(.minutes(5)))
struct EightCellsTests {
    @Test("Calls, maps, names, dependencies, errors and the hub's records work, whoever plays which part", arguments: Cell.all)
    func cell(_ cell: Cell) async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            try profile.create()
            let cast = try await Cast(cell, profile)
            do {
                switch cell.client {
                case .apus: try await self.perform(cast.connectWhenThere(), cell)
                case .stock:
                    try await cast.connectWhenThere().close()
                    let output = try await Python.run(Self.script, [profile.path])
                    #expect(output.hasSuffix("all is well\n"), "\(output)")
                }
            } catch { Issue.record(error) }
            await cast.end()
        }
    }

    // MARK: The play

    private func perform(_ client: Client, _ cell: Cell) async throws {
        try await client.waitForEngines(2, timeout: .seconds(60))
        let (view, balanced) = (client[...], client.loadBalancedView())
        let double = PythonFunction.source("lambda x: 2 * x")

        // Calls and maps.
        #expect(try await client[1].apply("math.sqrt", 9.0) as Double == 3)
        #expect(try await view.apply(double, 21) as [Int] == [42, 42])
        #expect(try await balanced.map(double, 0..<20, chunkSize: 3) as [Int] == (0..<20).map { 2 * $0 })
        #expect(try await view.map(double, 0..<5) as [Int] == [0, 2, 4, 6, 8])
        #expect(try await balanced.map(double, 0..<2000) as [Int] == (0..<2000).map { 2 * $0 })
        let share = PythonFunction.source("lambda x: 12 // x")
        for chunkSize in [nil, 4] {
            let outcomes = try await balanced.mapAsync(share, -2..<4, chunkSize: chunkSize, returning: Int.self).outcomes
            #expect(outcomes.map { try? $0.get() } == [-6, -12, nil, 12, 6, 4])
            let error = #expect(throws: RemoteError.self) { try outcomes[2].get() }
            #expect(error?.name == "ZeroDivisionError" && error?.engineID != nil)
            #expect(error?.traceback.isEmpty == false)
        }
        var lazy: [Int] = []
        for try await value in try balanced.lazyMap(double, 0..., maxOutstanding: 4, returning: Int.self) {
            lazy.append(value)
            if lazy.count == 12 { break }
        }
        #expect(lazy == (0..<12).map { 2 * $0 })

        // Names and arrays.
        try await view.execute("import os\nn = 7")
        #expect(try await view.pull("n", as: Int.self) == [7, 7])
        let matrix = NDArray((0..<10).map { Double($0) }, shape: [5, 2])
        try await view.scatter("m", matrix)
        #expect(try await view.gatherArray("m") == matrix)
        #expect(try await client[0].apply(.source("lambda: float(m.sum())")) as Double == 15)
        #expect(try await client.broadcastView().pull("n", as: Int.self) == [7, 7])

        // Dependencies, conditions, retries.
        let first = try balanced.applyAsync(double, 1, returning: Int.self)
        #expect(try await balanced.with { $0.after = TaskDependency(first) }.apply(double, 2) as Int == 4)
        try await client[0].execute("here = 0")
        try await client[1].execute("here = 1")
        let there = try PythonFunction.source("lambda: here").depending(on: .source("lambda: here == 1"))
        for _ in 0..<3 { #expect(try await balanced.apply(there) as Int == 1) }
        #expect(try await balanced.apply(PythonFunction.source("lambda: math.pi > 3").requiring("math")) as Bool)
        let unmet = PythonFunction.source("lambda: 1").requiring("no_such_module")
        let refused = await #expect(throws: RemoteError.self) { try await client[0].apply(unmet) as Int }
        #expect(refused?.name == "UnmetDependency")

        // Features of our controller alone are an error elsewhere, and are not ignored.
        let urgent = balanced.with { $0.priority = 1 }
        let patient = balanced.with { ($0.retries, $0.retryRule) = (1, RetryRule(pause: .milliseconds(1))) }
        let demanding = balanced.with { $0.resources = ["gpu": 0] }
        for view in [urgent, patient, demanding] {
            switch cell.controller {
            case .apus: #expect(try await view.apply(double, 3) as Int == 6)
            case .stock:
                let unknown = await #expect(throws: ApusError.self) { try await view.apply(double, 3) as Int }
                #expect(unknown?.code == .notSupported)
            }
        }

        // A result as an argument goes from engine to engine, with blocks of data beside the pickle or without.
        let rows = try balanced.applyAsync(.source("lambda: __import__('numpy').arange(1000.0)"), returning: NDArray.self)
        let total = PythonFunction.source("lambda a, b: float(a.sum()) + b")
        switch cell.controller {
        case .apus: #expect(try await balanced.apply(total, .result(of: rows), .result(of: first)) as Double == 499_502)
        case .stock:
            let unknown = #expect(throws: ApusError.self) {
                try balanced.applyAsync(total, .result(of: rows), .value(1), returning: Double.self)
            }
            #expect(unknown?.code == .notSupported)
        }

        // Errors and what is printed.
        let error = await #expect(throws: RemoteError.self) { try await client[0].execute("1/0") }
        #expect(error?.name == "ZeroDivisionError")
        #expect(error?.engineID == 0)
        let printing = try client[1].executeAsync("print('hello')")
        var printed = ""
        for await piece in printing.streamOutput() { printed += piece.text }
        #expect(printed == "hello\n")

        // Features of our engines alone.
        if cell.engines == .apus {
            let sleep = PythonFunction.source("lambda: (print('begun', flush=True), __import__('time').sleep(60))")
            let sleeping = try client[0].applyAsync(sleep, returning: [Int?].self)
            let behind = try client[0].applyAsync(double, 4, returning: Int.self)
            for await _ in sleeping.streamOutput() { break }
            try await sleeping.abort(interrupting: true)
            let interrupted = await #expect(throws: RemoteError.self) { try await sleeping.value(timeout: .seconds(20)) }
            #expect(interrupted?.name == "KeyboardInterrupt")
            #expect(try await behind.value == 8)
        }

        // A run limit is kept, or refused, also where only the engine's answer shows that it cannot keep one.
        let nap = PythonFunction.source("lambda: __import__('time').sleep(3)")
        let hurried = balanced.with { $0.runLimit = .milliseconds(200) }
        var hurriedOne = client[1]
        hurriedOne.runLimit = .milliseconds(200)
        for run in [{ try await hurried.apply(nap) as Int? }, { [hurriedOne] in try await hurriedOne.apply(nap) as Int? }] {
            let error = await #expect(throws: (any Error).self) { try await run() }
            switch cell.engines {
            case .apus: #expect((error as? RemoteError)?.name == "KeyboardInterrupt", "\(error as Any)")
            case .stock: #expect((error as? ApusError)?.code == .notSupported, "\(error as Any)")
            }
        }

        // The hub.
        #expect(try await client.getResult(first.messageIDs[0], as: Int.self).value == 2)
        #expect(try await client.resubmit(first.messageIDs, as: Int.self).value(timeout: .seconds(20)) == [2])
        let record = try await client.dbQuery(["msg_id": .string(first.messageIDs[0].text)])
        #expect(record.first?.engineUUID == first.metadata[0].engineUUID)
        #expect(try await client.hubHistory().contains(first.messageIDs[0]))
        #expect(try await client.queueStatus().engines.count == 2)
        try await client.shutdown(hub: true)
        await client.close()
    }

    private static let script = """
        import sys, time
        import ipyparallel as ipp

        client = ipp.Client(profile_dir=sys.argv[1])
        client.wait_for_engines(2, timeout=60, interactive=False)
        view, balanced = client[:], client.load_balanced_view()
        double = lambda x: 2 * x

        assert client[1].apply_sync(__import__("math").sqrt, 9.0) == 3
        assert view.apply_sync(double, 21) == [42, 42]
        assert balanced.map_sync(double, range(20)) == [2 * x for x in range(20)]
        assert view.map_sync(double, range(5)) == [0, 2, 4, 6, 8]
        lazy = []
        for value in balanced.imap(double, range(12), max_outstanding=4):
            lazy.append(value)
        assert lazy == [2 * x for x in range(12)]

        view.execute("import os\\nn = 7", block=True)
        assert view.pull("n", block=True) == [7, 7]
        import numpy
        matrix = numpy.arange(10.0).reshape(5, 2)
        view.scatter("m", matrix, block=True)
        assert (view.gather("m", block=True) == matrix).all()
        assert client[0].apply_sync(lambda: float(m.sum())) == 15
        assert client.broadcast_view().pull("n", block=True) == [7, 7]

        # Each engine has its own of what is pushed to both, however large.
        big = numpy.arange(300_000.0)
        for pushing in (view, client.broadcast_view()):
            pushing.push({"big": big}, block=True)
            client[0].execute("big += 1", block=True)
            assert view.apply_sync(lambda: float(big[-1])) == [300_000.0, 299_999.0]
            assert (client[1].pull("big", block=True) == big).all()
        assert balanced.apply_sync(lambda a: float(a[-1]), big) == 299_999.0

        first = balanced.apply_async(double, 1)
        with balanced.temp_flags(after=[first]):
            assert balanced.apply_sync(double, 2) == 4
        client[0].execute("here = 0", block=True)
        client[1].execute("here = 1", block=True)

        @ipp.interactive
        def at_one():
            return here == 1

        @ipp.depend(at_one)
        @ipp.interactive
        def where():
            return here

        for _ in range(3):
            assert balanced.apply_sync(where) == 1

        try:
            client[0].execute("1/0", block=True)
            raise SystemExit("no error came")
        except ipp.RemoteError as error:
            assert error.ename == "ZeroDivisionError", error.ename
        printing = client[1].execute("print('hello')")
        printing.get()
        printing.wait_for_output()
        assert printing.stdout == "hello\\n", printing.stdout

        assert client.get_result(first.msg_ids, owner=False).get() == [2]
        assert client.resubmit(first.msg_ids).get(timeout=20) == [2]
        record = client.db_query({"msg_id": first.msg_ids[0]})[0]
        assert record["engine_uuid"] == first.metadata["engine_uuid"], record
        assert first.msg_ids[0] in client.hub_history()
        client.shutdown(hub=True)
        print("all is well")
        """
}

/// A controller and two engines, Apus's or ipyparallel's as the cell says.
private final class Cast: Sendable {
    private let profile: ProfileDirectory
    private let host: ControllerHost?
    private let processes: [ProgramProcess]

    init(_ cell: Cell, _ profile: ProfileDirectory) async throws {
        self.profile = profile
        var processes: [ProgramProcess] = []
        switch cell.controller {
        case .apus: self.host = try await ControllerHost(files: ControllerHost.Files(profile: profile, clusterID: ""))
        case .stock:
            self.host = nil
            processes.append(try pythonProcess(["-m", "ipyparallel.controller", "--profile-dir=" + profile.path, "--ping=500"]))
        }
        while !FileManager.default.fileExists(atPath: profile.engineFile(clusterID: "")) {
            try await Task.sleep(for: .milliseconds(50))
        }
        for _ in 0..<2 {
            switch cell.engines {
            case .stock:
                processes.append(
                    try pythonProcess(["-m", "ipyparallel.engine", "--profile-dir=" + profile.path, "--timeout=30"]))
            case .apus: processes.append(try ProgramProcess(apusEngine: profile))
            }
        }
        self.processes = processes
    }

    /// The controller writes the file when it is ready.
    func connectWhenThere() async throws -> Client {
        while true {
            do { return try await Client.connect(profileDirectory: self.profile.path) } catch let error as ApusError {
                guard error.code == .connectionFileNotFound || error.code == .badConnectionFile else { throw error }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    func end() async {
        await self.host?.stop()
        Python.endProcesses(naming: self.profile.path)
        for process in self.processes { _ = await process.result() }
    }
}
