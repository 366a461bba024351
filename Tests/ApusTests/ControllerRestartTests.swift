import Apus
import Foundation
import TestPython
import Testing

@Suite("A controller comes back", .serialized, .timeLimit(.minutes(3)))
struct ControllerRestartTests {
    /// The process that the cluster file names as the controller; nil while there is no such file.
    private func controller(of profile: ProfileDirectory, _ clusterID: String = "") -> pid_t? {
        guard let text = try? String(contentsOfFile: profile.clusterFile(clusterID: clusterID), encoding: .utf8),
            let file = try? JSONValue(parsing: text)
        else { return nil }
        return file["controller"]?["state"]?["pid"]?.int.flatMap { pid_t(exactly: $0) }
    }

    private func exists(_ process: pid_t) -> Bool { kill(process, 0) == 0 }

    @Test(
        "'apus start' starts a killed controller again, and each queued task runs once and ends", .enabled(if: TestPython.exists))
    func queueGoesOn() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let place = ["--profile-dir", profile.path]
            let started = try await ProgramProcess(
                built: "apus", ["start", "-n", "2", "--sqlitedb", "--daemonize", "--python", TestPython.path()] + place
            ).result()
            #expect(started.status == 0, "\(started.output)")
            let client = try await Client.connect(profileDirectory: profile.path)
            let runs = folder + "/runs"
            let note = PythonFunction.source(
                "lambda n: (open('\(runs)', 'a').write(f'{n}\\n'), __import__('time').sleep(0.02), n)[2]")
            let view = client.loadBalancedView()
            let results = try (0..<60).map { try view.applyAsync(note, $0, returning: Int.self) }
            for result in results.prefix(5) { _ = try await result.value }
            let nap = PythonFunction.source("lambda: (__import__('time').sleep(1), 1)[1]")
            let broadcast = Task { try await client.broadcastView().apply(nap) as [Int] }
            let coalesced = Task { try await client.broadcastView(isCoalescing: true).apply(nap) as [Int] }
            let direct = try client[0].applyAsync(.source("lambda: 8"), returning: Int.self)
            // The tasks, the two copies of each broadcast and the direct call are on the disk.
            while try await client.hubHistory().count < 65 { await Task.yield() }
            let first = try #require(self.controller(of: profile))
            kill(first, SIGKILL)
            #expect(try await direct.value == 8)
            #expect(try await broadcast.value == [1, 1])
            #expect(try await coalesced.value == [1, 1])
            for (number, result) in results.enumerated() { #expect(try await result.value == number) }
            let lines = try String(contentsOfFile: runs, encoding: .utf8).split(separator: "\n").compactMap { Int($0) }
            #expect(lines.sorted() == Array(0..<60), "each runs once")
            #expect(client.ids == [0, 1])
            while self.controller(of: profile) == first { try await Task.sleep(for: .milliseconds(20)) }
            let second = try #require(self.controller(of: profile))
            #expect(self.exists(second))
            let log = try String(contentsOfFile: profile.log + "/apus-.log", encoding: .utf8)
            let warnings = log.split(separator: "\n").filter { $0.contains("warning") }
            #expect(warnings.count == 1, "\(log)")
            #expect(
                warnings.first?.contains(
                    """
                    the controller ended with signal 9 (Killed); it is started again and takes up the tasks that have no outcome; its log is \
                    \(profile.log)/ipcontroller-.log
                    """) == true, "\(log)")
            await client.close()

            let stopped = try await ProgramProcess(built: "apus", ["stop"] + place).result()
            #expect(stopped.status == 0, "\(stopped.output)")
            #expect(!self.exists(second))
            #expect(self.controller(of: profile) == nil)
            #expect(!FileManager.default.fileExists(atPath: profile.clientFile(clusterID: "")))
        }
    }

    @Test("'apus stop' ends a cluster whose controller is about to be started again")
    func stopDuringPause() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let place = ["--profile-dir", profile.path]
            let start = try ProgramProcess(built: "apus", ["start", "-n", "0", "--restart-limit=1000"] + place)
            var last: pid_t = 0
            // The pause grows from death to death until 'apus stop' finds no controller.
            for _ in 0..<5 {
                while self.controller(of: profile).map({ $0 == last }) ?? true { try await Task.sleep(for: .milliseconds(5)) }
                last = try #require(self.controller(of: profile))
                kill(last, SIGKILL)
            }
            let stopped = try await ProgramProcess(built: "apus", ["stop"] + place).result()
            #expect(stopped.status == 0, "\(stopped.output)")
            let (status, output) = await start.result()
            #expect(status == 0, "\(output)")
            #expect(self.controller(of: profile) == nil)
        }
    }

    @Test(
        "A controller that is given up ends the cluster, which says why",
        arguments: [
            (["--restart-limit=1"], "it died 2 times in a row and is not started again"),
            (["--no-restart-controller"], "it is not started again here"),
        ])
    func givenUp(options: [String], reason: String) async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let start = try ProgramProcess(
                built: "apus", ["start", "-n", "1", "--no-python", "--profile-dir", profile.path] + options)
            let client = try await connectWhenThere(profile)
            try await client.waitForEngines(1)
            let ending = Task { await start.result() }
            let killing = Task {
                var last: pid_t = 0
                while !Task.isCancelled {
                    if let now = self.controller(of: profile), now != last {
                        last = now
                        kill(now, SIGKILL)
                    }
                    try await Task.sleep(for: .milliseconds(5))
                }
            }
            let (status, output) = await ending.value
            killing.cancel()
            _ = await killing.result
            #expect(status == 1)
            #expect(output.contains("the controller ended with signal 9 (Killed); \(reason); its log is"), "\(output)")
            #expect(self.controller(of: profile) == nil)
            await client.close()
        }
    }

    @Test("A cluster's controller of its own is started again; engines keep their ids and names, and clients go on")
    func ownProcess() async throws {
        try await withTemporaryFolder { folder in
            var options = Cluster.Options()
            options.controllerPlace = .ownProcess
            options.profile = ProfileDirectory(path: folder + "/profile_test")
            options.clusterID = "mine"
            options.controller.highWaterMark = 1
            let cluster = try await Cluster(options: options)
            do {
                try await cluster.startEngines(2)
                let client = try await cluster.connect()
                try await client.waitForEngines(2)
                try await client[...].push("x", 7)
                let processes = try await client[...].apply($engineProcess)
                let first = try #require(self.controller(of: cluster.profile, "mine"))
                #expect(first != getpid())
                let under = try client.loadBalancedView().applyAsync($sleepAsync, 2)
                while try await client.queueStatus().engines.values.allSatisfy({ $0.tasks == 0 }) { await Task.yield() }
                kill(first, SIGKILL)
                // Its record was in memory.
                let lost = await #expect(throws: ApusError.self) { try await under.value }
                #expect(lost?.code == .taskLost, "\(lost as Any)")
                while try await client.queueStatus().engines.count < 2 { try await Task.sleep(for: .milliseconds(20)) }
                #expect(try await client[...].pull("x", as: Int.self) == [7, 7])
                #expect(try await client[...].apply($engineProcess) == processes)
                #expect(try await client.loadBalancedView().map($squared, [1, 2, 3]) == [1, 4, 9])

                // The next controller tells the cluster of engines as the first one did.
                let died = await #expect(throws: ApusError.self) { try await client[0].apply($killEngine, Int(SIGKILL)) }
                #expect(died?.code == .engineDied, "\(died as Any)")
                var after = processes
                while after.count < 2 || after[0] == processes[0] {
                    after = (try? await client[...].apply($engineProcess)) ?? processes
                }
                #expect(after[1] == processes[1])
                #expect(client.ids == [0, 1])

                // A stop that comes with a death does not race with the restart.
                let second = try #require(self.controller(of: cluster.profile, "mine"))
                kill(second, SIGKILL)
                await client.close()
                await cluster.stop()
                #expect(self.controller(of: cluster.profile, "mine") == nil)
                try await cluster.controller.wait()
            } catch {
                Issue.record(error)
                await cluster.stop()
            }
        }
    }

    @Test("A controller of its own that cannot start says why")
    func cannotStart() async throws {
        let host = try await ControllerHost()
        var options = Cluster.Options()
        options.controllerPlace = .ownProcess
        options.controller.clientPorts = [host.clientInfo.task]
        let error = await #expect(throws: ApusError.self) { try await withCluster(engines: 1, options: options) { _ in } }
        #expect(error?.code == .launchFailed)
        #expect(error?.message.contains("\(host.clientInfo.task)") == true, "\(error as Any)")
        await host.stop()
    }
}
