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
              apus start -n 2 --engines "python3 -m ipyparallel.engine"
            """)

    @Option(name: [.short, .customLong("n")], help: "How many engines; one per processor unless told.")
    var n: Int?

    @OptionGroup var cluster: ClusterChoice

    @Flag(help: "Run in the background; returns when the engines have registered.")
    var daemonize = false

    @Option(help: "The address to listen on; '*' for every interface. Only this machine can connect unless told.")
    var ip = "127.0.0.1"

    @Option(help: "The command that is an engine, instead of 'apus engine'.")
    var engines: String?

    func validate() throws {
        if let n, n < 0 { throw ValidationError("-n is \(n); a cluster cannot have fewer than no engines.") }
        if self.ip.isEmpty { throw ValidationError("--ip is empty; leave it out to listen on this machine only.") }
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
        if self.daemonize { try await self.runInBackground(profile) } else { try await self.runHere(profile) }
    }

    private func runHere(_ profile: ProfileDirectory) async throws {
        var options = Cluster.Options()
        options.profile = profile
        options.clusterID = self.cluster.clusterID
        options.controller.clientAddress = self.ip
        options.controller.engineAddress = self.ip
        options.engineCommand = self.engines?.split(separator: " ").map(String.init)
        let cluster: Cluster
        do { cluster = try await Cluster(options: options) } catch { throw fail("\(error)") }
        do { try await cluster.startEngines(self.count) } catch {
            await cluster.stop()
            throw fail("\(error)")
        }
        print(
            """
            \(self.count) engines run; the connection file is \(profile.clientFile(clusterID: self.cluster.clusterID))
              Swift:   let client = try await Client.connect(\(self.cluster.clusterID.isEmpty ? "" : "clusterID: \"\(self.cluster.clusterID)\""))
              Python:  client = ipyparallel.Client(\(self.cluster.clusterID.isEmpty ? "" : "cluster_id=\"\(self.cluster.clusterID)\""))
            Ctrl-C stops the cluster.
            """)
        // Ends by a signal or by a client's word, whichever is first.
        await withTaskGroup(of: Void.self) { group in
            group.addTask { _ = await waitForSignal() }
            group.addTask { try? await cluster.controller.wait() }
            await group.next()
            group.cancelAll()
        }
        await cluster.stop()
    }

    private func runInBackground(_ profile: ProfileDirectory) async throws {
        do { try profile.create() } catch { throw fail("the folder \(profile.path) cannot be made: \(error)") }
        let log = profile.log + "/apus-\(self.cluster.clusterID).log"
        var arguments = ["start", "-n", String(self.count), "--ip", self.ip] + self.cluster.arguments
        if let engines { arguments += ["--engines", engines] }
        let process: LocalProcess
        do {
            process = try await LocalProcess.start(
                LocalCommand(LocalCommand.thisExecutable, arguments: arguments, output: .log(log), parentWatch: .none))
        } catch { throw fail("\(error)") }
        do {
            let directory = ClusterDirectory(profiles: [profile])
            while directory.find(clusterID: self.cluster.clusterID)?.hasController != true {
                if let exit = process.exit { throw ApusError(.launchFailed, "the cluster \(exit)") }
                try await Task.sleep(for: .milliseconds(50))
            }
            let client = try await Client.connect(profileDirectory: profile.path, clusterID: self.cluster.clusterID)
            while client.ids.count < self.count {
                if let exit = process.exit { throw ApusError(.launchFailed, "the cluster \(exit)") }
                try? await client.waitForEngines(self.count, timeout: .seconds(1))
            }
            await client.close()
        } catch {
            throw fail("\(error)")
        }
        print(
            "\(self.count) engines run in the background (process \(process.processID)); stop them with 'apus \((["stop"] + self.cluster.arguments).joined(separator: " "))'"
        )
    }
}
