import Apus
import ApusLaunchers
import ArgumentParser
import Foundation

/// `apus start`: a controller and engines of this machine.
struct Start: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Start a cluster on this machine.",
        discussion: """
            Runs until Ctrl-C, 'apus stop' or a client's shutdown; with --daemonize in the background.

              apus start -n 4                 four engines, in the foreground
              apus start -n 4 --daemonize     the same in the background
              apus start -n 2 --python ~/venvs/numpy/bin/python
              apus start -n 2 --engines ./my-program
              apus start -n 2 --engines "python3 -m ipyparallel.engine"

            The engines are 'apus engine': they run Python, of the active environment unless told, and Swift functions. An
            engine that dies is started again in its place with its id, unless told not to: at once, then after pauses that
            grow from 0.1 to 10 seconds. One that dies more often in a row than --restart-limit allows, without having had
            work and before it has run for a minute, is given up. Where no engine is left, tasks end with an error.

            The controller is a process of its own, and is started again in the same way when it dies: engines and clients go on at
            the same ports. It takes up the tasks that had no outcome; with --dictdb and --nodb they are lost. When it has died more
            often in a row than --restart-limit allows, each time within a minute, the cluster ends with exit code 1. The
            controller's log is log/ipcontroller-ID.log in the profile's folder.
            """)

    @Option(name: [.short, .customLong("n")], help: "How many engines; one per processor unless told.")
    var n: Int?

    @OptionGroup var cluster: ClusterChoice

    @Flag(help: "Run in the background; returns when the engines have registered.")
    var daemonize = false

    @Option(help: "The address to listen on; '*' for every interface. Only this machine can connect unless told.")
    var ip = "127.0.0.1"

    @Option(
        help: ArgumentHelp(
            "The interpreter that engines run: a path or a name.",
            discussion: "Unless told, the active environment's, else python3 on the path."))
    var python: String?

    @Flag(name: .customLong("no-python"), help: "Have engines run Swift functions only.")
    var withoutPython = false

    @Option(
        help: ArgumentHelp(
            "The command that is an engine, instead of 'apus engine'.",
            discussion: "A program of yours that imports Apus is started in engine mode."))
    var engines: String?

    @Flag(
        inversion: .prefixedNo, help: "Whether an engine that dies is started again in its place, with its id.")
    var restart = true

    @Flag(inversion: .prefixedNo, help: "Whether a controller that dies is started again; else the cluster ends.")
    var restartController = true

    @Option(help: "How often in a row an engine may die without having had work, or the controller, before it is given up.")
    var restartLimit = 5

    @Flag(
        help: ArgumentHelp(
            "Keep task records in a file, so that tasks outlive the controller; so it is unless told.",
            discussion: """
                The file is tasks.db in the profile's folder, with --cluster-id tasks-ID.db: records of 1,000,000 tasks that have ended \
                and 2 GiB at most.
                """))
    var sqlitedb = false

    @Flag(help: "Keep task records in memory: those of the last 1,024 tasks that have ended, and 256 MiB at most.")
    var dictdb = false

    @Flag(help: "Keep no task records. A result that its client has not got is not to be had again.")
    var nodb = false

    @Flag(
        help: ArgumentHelp(
            "Have the disk confirm each batch of records in the file.",
            discussion: "They outlive a power cut then, too, and tasks take longer."))
    var fsync = false

    @Flag(
        help: ArgumentHelp(
            "Go on where a cluster that was killed, or stopped, has left off.",
            discussion: """
                Uses the ports and the key of the connection files that are there, leaves the files at the end and, unless records were \
                kept in memory, takes up the tasks that have no outcome.
                """))
    var restore = false

    func validate() throws {
        if let n, n < 0 { throw ValidationError("-n is \(n); a cluster cannot have fewer than no engines.") }
        if self.ip.isEmpty { throw ValidationError("--ip is empty; leave it out to listen on this machine only.") }
        if [self.sqlitedb, self.dictdb, self.nodb].count(where: { $0 }) > 1 {
            throw ValidationError("--sqlitedb, --dictdb and --nodb are three places for task records; give one of them.")
        }
        if self.fsync, self.dictdb || self.nodb {
            throw ValidationError("--fsync is for task records in a file; leave --dictdb and --nodb out.")
        }
        if self.restartLimit < 0 {
            throw ValidationError("--restart-limit is \(self.restartLimit); --no-restart leaves dead engines alone.")
        }
        if self.engines != nil, self.python != nil || self.withoutPython {
            throw ValidationError("--python and --no-python are for 'apus engine'; write them into the command of --engines.")
        }
        if self.python != nil, self.withoutPython { throw ValidationError("--python and --no-python contradict each other.") }
        if let engines, engines.allSatisfy(\.isWhitespace) { throw ValidationError("--engines is empty.") }
    }

    private var count: Int { self.n ?? ProcessInfo.processInfo.activeProcessorCount }

    func run() async throws {
        let profile = self.cluster.directory
        if let running = ClusterDirectory(profiles: [profile]).find(clusterID: self.cluster.clusterID), running.isRunning {
            throw fail(
                """
                \(self.cluster.description) already runs in \(profile.path); stop it with 'apus \((["stop"] + self.cluster.arguments)
                    .joined(separator: " "))', or give this one a --cluster-id
                """, code: 10)
        }
        let python = try await self.findPython()
        if self.daemonize {
            try await self.runInBackground(profile, python)
        } else {
            try await self.runHere(profile, python)
        }
    }

    /// Finds the interpreter that the engines are to run; nil where the engines run Swift functions only, or are another program.
    private func findPython() async throws -> String? {
        if self.withoutPython || self.engines != nil { return nil }
        do { return try await PythonSearch.find(self.python) } catch {
            if self.python != nil { throw fail("--python names no Python that works: \(error.reason)") }
            standardError(
                "apus: the engines run Swift functions only, for no Python works: \(error.reason). Name one with --python PATH, or say --no-python"
            )
            return nil
        }
    }

    /// The command `apus engine` of this program, with the interpreter or with `--no-python`.
    private static func engine(_ python: String?) -> LocalLauncher.Engine {
        LocalLauncher.Engine(
            nil, arguments: ["engine", python.map { "--python=\($0)" } ?? "--no-python"], parentWatch: .process)
    }

    private func runHere(_ profile: ProfileDirectory, _ python: String?) async throws {
        var options = Cluster.Options()
        options.profile = profile
        options.clusterID = self.cluster.clusterID
        options.controller.clientAddress = self.ip
        options.controller.engineAddress = self.ip
        options.controller.python = python
        options.engineCommand = self.engines?.split(whereSeparator: \.isWhitespace).map(String.init)
        if self.engines == nil { options.engineProgram = Self.engine(python) }
        options.restartsEngines = self.restart
        options.restartLimit = self.restartLimit
        options.controllerPlace = .ownProcess
        options.restartsController = self.restartController
        options.restores = self.restore
        options.isLauncher = true
        options.controller.database =
            self.nodb ? .none : self.dictdb ? .memory() : .sqlite(path: nil, waitsForDisk: self.fsync)
        // From here on a signal stops the cluster, also while it still starts.
        let signals = StopSignals([SIGINT, SIGTERM])
        defer { signals.cancel() }
        let cluster: Cluster
        do { cluster = try await Cluster(options: options) } catch { throw fail("\(error)") }
        let numbers = signals.numbers
        // A signal, a client's shutdown request or the controller's last death ends the cluster, whichever comes first.
        let end = await withTaskGroup(of: End.self) { group in
            group.addTask {
                for await _ in numbers { break }
                return .wanted
            }
            group.addTask { await self.serve(cluster, profile, python) }
            let end = await group.next() ?? .wanted
            await cluster.stop()
            group.cancelAll()
            return end
        }
        switch end {
        case .wanted: return
        case .failed(let error): throw fail("\(error)")
        // The cluster has logged why.
        case .controllerDied: throw ExitCode(1)
        }
    }

    /// How a cluster ended.
    private enum End: Sendable {
        case wanted, controllerDied
        /// The engines did not start.
        case failed(any Error)
    }

    /// Starts the engines and waits for the end of the controller.
    private func serve(_ cluster: Cluster, _ profile: ProfileDirectory, _ python: String?) async -> End {
        do { try await cluster.startEngines(self.count) } catch { return .failed(error) }
        let id = self.cluster.clusterID
        print(
            """
            \(self.account(python)); the connection file is \(profile.clientFile(clusterID: id))
              Swift:   let client = try await Client.connect(\(id.isEmpty ? "" : "clusterID: \"\(id)\""))
              Python:  client = ipyparallel.Client(\(id.isEmpty ? "" : "cluster_id=\"\(id)\""))
            Ctrl-C stops the cluster.
            """)
        do { try await cluster.controller.wait() } catch { return .controllerDied }
        return .wanted
    }

    /// Says what the engines run: "2 engines run Swift functions and Python (/usr/bin/python3)".
    private func account(_ python: String?) -> String {
        let engines = self.count == 1 ? "1 engine runs" : "\(self.count) engines run"
        if self.engines != nil { return engines }
        return engines + (python.map { " Swift functions and Python (\($0))" } ?? " Swift functions")
    }

    /// Waits until the cluster that starts in the background has its engines.
    private func waitForEngines(_ profile: ProfileDirectory) async throws {
        let directory = ClusterDirectory(profiles: [profile])
        while directory.find(clusterID: self.cluster.clusterID)?.hasController != true {
            try await Task.sleep(for: .milliseconds(50))
        }
        let client = try await Client.connect(profileDirectory: profile.path, clusterID: self.cluster.clusterID)
        // No time limit here: the cluster ends when its engines do not register, and the caller waits for that as well.
        while client.ids.count < self.count {
            try Task.checkCancellation()
            try? await client.waitForEngines(self.count, timeout: .seconds(1))
        }
        await client.close()
    }

    private func runInBackground(_ profile: ProfileDirectory, _ python: String?) async throws {
        do { try profile.create() } catch { throw fail("the folder \(profile.path) cannot be made: \(error)") }
        let log = profile.log + "/apus-\(self.cluster.clusterID).log"
        var arguments = ["start", "-n", String(self.count), "--ip", self.ip] + self.cluster.arguments
        if let engines {
            arguments += ["--engines", engines]
        } else {
            arguments += python.map { ["--python", $0] } ?? ["--no-python"]
        }
        if !self.restart { arguments.append("--no-restart") }
        if !self.restartController { arguments.append("--no-restart-controller") }
        if self.dictdb { arguments.append("--dictdb") }
        if self.nodb { arguments.append("--nodb") }
        if self.fsync { arguments.append("--fsync") }
        if self.restore { arguments.append("--restore") }
        arguments += ["--restart-limit", String(self.restartLimit)]
        let process: LocalProcess
        do {
            process = try await LocalProcess.start(
                LocalCommand(LocalCommand.thisExecutable, arguments: arguments, output: .log(log), parentWatch: .none))
        } catch { throw fail("\(error)") }
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                // When the cluster ends early, connecting fails too; the error to report is how the cluster ended.
                group.addTask { if let exit = await process.wait() { throw ApusError(.launchFailed, "the cluster \(exit)") } }
                group.addTask { try await self.waitForEngines(profile) }
                defer { group.cancelAll() }
                try await group.next()
            }
        } catch {
            throw fail("\(error)")
        }
        print(
            "\(self.account(python)) in the background (process \(process.processID)); stop them with 'apus \((["stop"] + self.cluster.arguments).joined(separator: " "))'"
        )
    }
}
