import ApusWire
import Foundation
import Glibc
import Testing

@testable import ApusLaunchers

@Suite("Engines on this machine")
struct LocalLauncherTests {
    private func order(_ count: Int, in folder: borrowing TemporaryFolder) -> EngineOrder {
        EngineOrder(
            count: count, setID: "17", clusterID: "c", profile: ProfileDirectory(path: folder.path + "/profile_p"),
            environment: ["MY": "own"])
    }

    private func engines(_ script: String) -> LocalLauncher.Engine { .init("sh", arguments: ["-c", script]) }

    @Test("Each engine gets the cluster's environment, and a log where Python's launcher would put it")
    func environment() async throws {
        let folder = try TemporaryFolder()
        var order = self.order(2, in: folder)
        order.connection = EngineConnectionInfo(
            common: ConnectionCommon(
                interface: "tcp://127.0.0.1", registration: 1, key: "secret", signatureScheme: "hmac-sha256", location: "here"),
            control: 2, mux: 3, task: 4, iopub: 5, heartbeatPing: 6, heartbeatPong: 7, broadcast: [8])
        let launcher = LocalLauncher(self.engines("env | grep -E '^(IPP_|MY=)' | sort"))
        let set = try await launcher.launch(order)
        await set.wait()
        let text = [
            "IPP_CLUSTER_ID=c", "IPP_CONNECTION_INFO=\(order.connection!.json)", "IPP_PROFILE_DIR=\(order.profile.path)",
            "MY=own",
            "",
        ].joined(separator: "\n")
        for number in 0..<2 { #expect(folder.text("profile_p/log/ipengine-c-17-\(number).log") == text) }
        #expect(await set.record == nil)
        await set.stop()
    }

    @Test("An engine that ends is an event, with its number and the reason")
    func exits() async throws {
        let folder = try TemporaryFolder()
        let launcher = LocalLauncher(self.engines("echo up; case $0 in *) sleep 100; esac"), output: .logFiles)
        let order = self.order(2, in: folder)
        let set = try await launcher.launch(order)
        #expect(try await eventually { folder.text("profile_p/log/ipengine-c-17-1.log") == "up\n" })
        try await set.signal(SIGKILL, to: 1)
        var exits = set.exits.makeAsyncIterator()
        #expect(
            await exits.next()
                == EngineExit(
                    engine: 1, uuid: order.uuids[1], exit: ProcessExit(.signal(SIGKILL), lastLines: ["up"]), wasStopped: false))
        let error = await #expect(throws: LauncherError.self) { try await set.signal(SIGKILL, to: 1) }
        #expect(error?.description == "set 17 has no engine 1 that runs; it has [0]")
        #expect(await set.record?.engines.keys.sorted() == ["0"])

        await set.stop()
        await set.stop()
        await set.wait()
        let last = await exits.next()
        #expect(last?.engine == 0 && last?.wasStopped == true)
        #expect(await exits.next() == nil)
    }

    @Test("An engine is restarted under its number, whether it runs or not")
    func restart() async throws {
        let folder = try TemporaryFolder()
        let set = try await LocalLauncher(self.engines("exec sleep 100"), output: .discarded).launch(self.order(2, in: folder))
        let before = try #require(await set.record)
        try await set.restart(1)
        let between = try #require(await set.record)
        #expect(between.engines["0"] == before.engines["0"])
        #expect(between.engines["1"]?.processID != before.engines["1"]?.processID)

        var exits = set.exits.makeAsyncIterator()
        #expect(await exits.next()?.wasStopped == true)
        try await set.signal(SIGKILL, to: 1)
        #expect(await exits.next()?.wasStopped == false)
        try await set.restart(1)
        #expect(await set.record?.count == 2)
        let error = await #expect(throws: LauncherError.self) { try await set.restart(2) }
        #expect(error?.code == .noSuchEngine)
        await set.stop()
        await #expect(throws: LauncherError.self) { try await set.restart(0) }
        #expect(await set.record == nil)
    }

    @Test("Each engine has a uuid of its own, and keeps it when it is started again")
    func uuids() async throws {
        let folder = try TemporaryFolder()
        let order = self.order(2, in: folder)
        let set = try await LocalLauncher(self.engines("echo $APUS_ENGINE_UUID")).launch(order)
        await set.wait()
        try await set.restart(1)
        await set.wait()
        let (first, second) = (order.uuids[0].text, order.uuids[1].text)
        #expect(first != second)
        #expect(folder.text("profile_p/log/ipengine-c-17-0.log") == "\(first)\n")
        #expect(folder.text("profile_p/log/ipengine-c-17-1.log") == "\(second)\n\(second)\n")
    }

    @Test("When an engine cannot be started, those before it are stopped")
    func allOrNothing() async throws {
        let folder = try TemporaryFolder()
        let launcher = LocalLauncher(.init(folder.path + "/missing"))
        await #expect(throws: LauncherError.self) { try await launcher.launch(self.order(2, in: folder)) }
        let order = self.order(1000, in: folder)
        let launching = Task {
            try await LocalLauncher(self.engines("echo $$; exec sleep 100")).launch(order)
        }
        #expect(try await eventually { folder.text("profile_p/log/ipengine-c-17-0.log").hasSuffix("\n") })
        launching.cancel()
        await #expect(throws: CancellationError.self) { try await launching.value }
        let first = try #require(Int32(folder.text("profile_p/log/ipengine-c-17-0.log").dropLast()))
        #expect(!ProcessTable.exists(first))
    }

    @Test("Unless told otherwise the engine is this very program, in engine mode")
    func thisProgram() throws {
        let folder = try TemporaryFolder()
        let order = self.order(1, in: folder)
        let command = LocalLauncher().command(engine: 0, of: order)
        let itself = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        #expect(command.executable == itself)
        #expect(command.environment == order.variables(ofEngine: 0).merging(["APUS_ENGINE_MODE": "1"]) { $1 })
        #expect(command.parentWatch == .process)
        #expect(LocalLauncher.Engine.python("py", arguments: ["--x"]).arguments == ["-m", "ipyparallel.engine", "--x"])
    }

    @Test("This very program can be started while its file is replaced")
    func replacedProgram() async throws {
        let process = try await LocalProcess.start(
            LocalCommand("sh", arguments: ["-c", "exec \"/proc/$PPID/exe\" --help"], output: .discarded))
        #expect(await process.wait()?.cause == .code(0))
    }
}
