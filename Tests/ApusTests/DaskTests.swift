import Apus
import Foundation
import TestPython
import Testing

@Suite("Engines as workers of dask", .serialized, .enabled(if: TestPython.exists), .timeLimit(.minutes(3)))
struct DaskTests {
    /// A client of dask's that computes with two workers, and then says that it is done.
    private static let computer = """
        import sys
        import dask.array, distributed

        with distributed.Client(sys.argv[1]) as computer:
            computer.wait_for_workers(2, timeout=60)
            assert {worker["nthreads"] for worker in computer.scheduler_info(n_workers=-1)["workers"].values()} == {int(sys.argv[2])}
            assert computer.submit(sum, [1, 2, 3]).result(timeout=60) == 6
            array = dask.array.arange(100_000, chunks=10_000)
            assert int((array + array[::-1]).sum().compute()) == 99_999 * 100_000
        print("computed")
        """

    @Test("Are made from Swift with our controller, work for ipyparallel meanwhile, and are engines again after the stop")
    func ours() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            var options = ControllerOptions()
            options.python = try TestPython.path()
            let host = try await ControllerHost(options: options, files: ControllerHost.Files(profile: profile, clusterID: ""))
            let engines = try (0..<2).map { _ in try ProgramProcess(apusEngine: profile) }
            let client = try await Client.connect(profileDirectory: profile.path)
            try await client.waitForEngines(2, timeout: .seconds(60))
            try await Self.compute(client)
            // The scheduler ends with the controller.
            _ = try await client.becomeDask()
            try await client.shutdown(hub: true)
            await client.close()
            try await host.wait()
            for engine in engines { _ = await engine.result() }
        }
    }

    @Test("Are made from Swift with a stock controller and stock engines")
    func stock() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            try profile.create()
            let place = "--profile-dir=" + profile.path
            let controller = try pythonProcess(["-m", "ipyparallel.controller", place, "--ping=500"])
            let engines = try (0..<2).map { _ in try pythonProcess(["-m", "ipyparallel.engine", place, "--timeout=30"]) }
            let client = try await connectWhenThere(profile)
            try await client.waitForEngines(2, timeout: .seconds(60))
            try await Self.compute(client)
            try await client.shutdown(hub: true)
            await client.close()
            Python.endProcesses(naming: profile.path)
            for process in engines + [controller] { _ = await process.result() }
        }
    }

    private static func compute(_ client: Client) async throws {
        let address = try await client.becomeDask(workerArguments: ["nthreads": 2])
        #expect(address.hasPrefix("tcp://"))
        let output = try await Python.run(Self.computer, [address, "2"])
        #expect(output.hasSuffix("computed\n"), "\(output)")
        #expect(try await client[...].apply("math.sqrt", 4.0) as [Double] == [2, 2])
        try await client.stopDask()
        #expect(try await client[...].apply("math.sqrt", 9.0) as [Double] == [3, 3])
    }

    @Test("Cannot be had where the controller finds no Python, which the error says")
    func noPython() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            var options = ControllerOptions()
            options.python = "/no/such/python"
            let host = try await ControllerHost(options: options, files: ControllerHost.Files(profile: profile, clusterID: ""))
            let client = try await Client.connect(profileDirectory: profile.path)
            let error = await #expect(throws: ApusError.self) { _ = try await client.becomeDask() }
            #expect(error?.code == .hubError)
            #expect(error?.message.contains("dask's scheduler needs Python: there is no interpreter /no/such/python") == true)
            await client.close()
            await host.stop()
        }
    }
}
