import ApusWire
import Foundation
import Glibc
import TestPython
import Testing

@testable import ApusLaunchers

@Suite("Finding clusters")
struct ClusterDirectoryTests {
    /// Starts a cluster of a controller and two engines, which are programs that only wait, and writes its file.
    static func start(
        _ id: String, profile: ProfileDirectory, launcher: String = "local"
    ) async throws -> (file: ClusterFile, controller: LocalProcess, engines: any EngineSet) {
        let order = EngineOrder(count: 2, setID: "17", clusterID: id, profile: profile)
        let controller = try await LocalProcess.start(
            LocalCommand(
                "sleep", arguments: ["100"], environment: order.variables(ofEngine: 0),
                output: .log(profile.log + "/ipcontroller-\(id).log")))
        let engines = try await LocalLauncher(.init("sleep", arguments: ["100"])).launch(order)
        var file = ClusterFile(clusterID: id, profile: profile, engineCount: 2, engineKind: launcher)
        file.controller = .init(
            kind: launcher,
            process: .init(
                processID: controller.processID, outputFile: profile.log + "/ipcontroller-\(id).log", clusterID: id,
                profile: profile))
        file.engineSets[engines.id] = await engines.record
        try file.save()
        return (file, controller, engines)
    }

    @Test("The list tells of every profile's clusters what still runs")
    func list() async throws {
        let folder = try TemporaryFolder()
        let one = ProfileDirectory(profile: "one", ipythonDirectory: folder.path)
        let two = ProfileDirectory(profile: "two", ipythonDirectory: folder.path)
        let a = try await Self.start("a", profile: one)
        // As the Python package's launchers call themselves.
        let b = try await Self.start("", profile: two, launcher: "apus")
        try await b.engines.signal(SIGKILL, to: 0)
        var exits = b.engines.exits.makeAsyncIterator()
        #expect(await exits.next()?.engine == 0)
        await b.controller.stop()
        try "{".write(toFile: one.clusterFile(clusterID: "torn"), atomically: true, encoding: .utf8)
        try FileManager.default.createDirectory(atPath: folder.path + "/profile_empty", withIntermediateDirectories: true)
        try "".write(toFile: folder.path + "/profile_file", atomically: true, encoding: .utf8)

        let profiles = ClusterDirectory.allProfiles(ipythonDirectory: folder.path)
        #expect(profiles.map(\.path) == ["empty", "one", "two"].map { "\(folder.path)/profile_\($0)" })
        let directory = ClusterDirectory(profiles: profiles)
        let list = directory.list()
        #expect(list.map(\.path) == [a.file.path, one.clusterFile(clusterID: "torn"), b.file.path])
        #expect(list.map(\.hasController) == [true, false, false])
        #expect(list.map(\.engineCount) == [2, 0, 1])
        #expect(list.map(\.isRunning) == [true, false, true])
        #expect(list.map { $0.file == nil } == [false, true, false])
        #expect(directory.find(clusterID: "")?.path == b.file.path)
        #expect(directory.find(clusterID: "none")?.path == nil)

        for cluster in list { try await cluster.stop() }
        #expect(directory.list().isEmpty)
        #expect(await a.controller.wait()?.cause == .signal(SIGTERM))
        await a.engines.wait()
        await b.engines.wait()
    }

    @Test("Stopping a cluster sweeps up what its processes leave behind")
    func stopSweeps() async throws {
        let folder = try TemporaryFolder()
        let profile = ProfileDirectory(path: folder.path)
        let controller = try await LocalProcess.start(
            shell(
                "trap '' TERM; sleep 100 & child=$!; trap - TERM; echo $child; wait", output: .log(folder.path + "/log"),
                parentWatch: .none))
        #expect(try await eventually { folder.text("log").hasSuffix("\n") })
        let child = try #require(Int32(folder.text("log").dropLast()))
        var file = ClusterFile(clusterID: "c", profile: profile)
        file.controller = .init(
            process: .init(processID: controller.processID, outputFile: "", clusterID: "c", profile: profile))
        try file.save()
        try await ClusterListing(path: file.path).stop()
        #expect(await controller.wait()?.cause == .signal(SIGTERM))
        #expect(!ProcessTable.exists(child))
    }

    @Test("A process that was given an ended engine's process id is not taken for the engine")
    func reusedProcessID() async throws {
        let folder = try TemporaryFolder()
        let stranger = try await LocalProcess.start(LocalCommand("sleep", arguments: ["100"]))
        var file = ClusterFile(clusterID: "old", profile: ProfileDirectory(path: folder.path))
        file.controller = .init(
            process: .init(processID: stranger.processID, outputFile: "", clusterID: "old", profile: file.profile))
        try file.save()
        // A controller inside a user's program has no mark, but it started before its file was written.
        #expect(ClusterListing(path: file.path).isRunning)
        try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -60)], ofItemAtPath: file.path)
        let listing = ClusterListing(path: file.path)
        #expect(!listing.isRunning)
        try await listing.stop()
        #expect(ProcessTable.exists(stranger.processID))
        #expect(!PrivateFile.exists(file.path))
        await stranger.stop()
    }

    @Test("Cleaning removes what ended clusters left, and nothing that belongs to one that runs")
    func clean() async throws {
        let folder = try TemporaryFolder()
        let profile = ProfileDirectory(profile: "p", ipythonDirectory: folder.path)
        let live = try await Self.start("live", profile: profile)
        let dead = try await Self.start("dead", profile: profile)
        await dead.engines.stop()
        await dead.controller.stop()
        for id in ["live", "dead"] {
            for path in [profile.clientFile(clusterID: id), profile.engineFile(clusterID: id)] {
                try PrivateFile.write("{}", to: path)
            }
        }
        try PrivateFile.write("a", to: profile.security + "/other.json")
        try PrivateFile.write("old", to: profile.log + "/old.log")
        func names() -> [String] {
            FileManager.default.subpaths(atPath: profile.path)!.filter { $0.contains(".") }.sorted()
        }

        ClusterDirectory(profiles: [profile]).clean()
        let kept = [
            "log/ipcontroller-live.log", "log/ipengine-live-17-0.log", "log/ipengine-live-17-1.log", "security/cluster-live.json",
            "security/ipcontroller-live-client.json", "security/ipcontroller-live-engine.json", "security/other.json",
        ]
        #expect(names() == kept)
        let removed = ClusterDirectory(profiles: [profile]).clean(force: true)
        #expect(removed.count == 6)
        #expect(names() == ["security/other.json"])
        await live.engines.stop()
        await live.controller.stop()
    }
}

/// Python's own command line, beside the interpreter that tests use.
let ipcluster = TestPython.program("ipcluster")

@Suite("Python's ipcluster", .enabled(if: FileManager.default.isExecutableFile(atPath: ipcluster)))
struct IPClusterTests {
    private func run(_ arguments: [String], in folder: String) async throws -> (exit: ProcessExit?, output: String) {
        let log = "\(folder)/ipcluster-\(UUID().uuidString).log"
        let process = try await LocalProcess.start(
            LocalCommand(ipcluster, arguments: arguments, environment: ["IPYTHONDIR": folder], output: .log(log)))
        let exit = await process.wait()
        return (exit, try String(contentsOfFile: log, encoding: .utf8))
    }

    @Test("lists our clusters, finds nothing to correct in their files, stops them and cleans up")
    func seesOurs() async throws {
        let folder = try TemporaryFolder()
        let profile = ProfileDirectory(profile: "mine", ipythonDirectory: folder.path)
        let cluster = try await ClusterDirectoryTests.start("1795430986-ab1c", profile: profile)
        let written = try String(contentsOfFile: cluster.file.path, encoding: .utf8)

        let table = try await self.run(["list"], in: folder.path)
        #expect(table.exit?.cause == .code(0))
        let rows = table.output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        #expect(rows.last == ["mine", "1795430986-ab1c", "True", "2", "Local"])
        let json = try await self.run(["list", "-o", "json"], in: folder.path)
        let last = try #require(json.output.split(separator: "\n").last)
        #expect(try JSONValue(parsing: String(last)) == [cluster.file.json])
        // It rewrites a file that is not as it would have written it: members in another order, at least.
        #expect(try String(contentsOfFile: cluster.file.path, encoding: .utf8) == written)

        let stop = try await self.run(["stop", "--profile=mine", "--cluster-id=1795430986-ab1c"], in: folder.path)
        #expect(stop.exit?.cause == .code(0))
        #expect(await cluster.controller.wait()?.cause == .signal(SIGTERM))
        await cluster.engines.wait()
        #expect(!PrivateFile.exists(cluster.file.path))

        try cluster.file.save()
        #expect(!ClusterListing(path: cluster.file.path).isRunning)
        let clean = try await self.run(["clean", "--profile=mine"], in: folder.path)
        #expect(clean.exit?.cause == .code(0))
        #expect(!PrivateFile.exists(cluster.file.path))
        await cluster.engines.stop()
    }

    @Test("starts clusters that we list, stop and clean up")
    func startsForUs() async throws {
        let folder = try TemporaryFolder()
        let profile = ProfileDirectory(profile: "default", ipythonDirectory: folder.path)
        let start = try await self.run(["start", "--n=1", "--daemonize"], in: folder.path)
        #expect(start.exit?.cause == .code(0))
        let directory = ClusterDirectory(profiles: [profile])
        #expect(
            try await eventually(within: .seconds(60)) {
                directory.find(clusterID: "").map { $0.hasController && $0.engineCount == 1 } ?? false
            })
        let cluster = try #require(directory.list().first)
        #expect(cluster.file?.clusterID == "")
        let processes = try #require(cluster.file).processes.compactMap { $0.processID }
        #expect(processes.count == 2)
        try await cluster.stop()
        #expect(!processes.contains(where: ProcessTable.exists))
        #expect(directory.list().isEmpty)
        directory.clean()
        #expect(FileManager.default.subpaths(atPath: profile.security) == [])
    }
}
