import ApusWire
import ArgumentParser
import NIOPosix
import ZMTPTransport

/// `apus-load`: measures how much load a controller, Apus's or Python's, can bear, without the cost of real clients and engines.
@main
struct LoadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus-load",
        abstract: "Drive a running controller with many light engines and clients.",
        discussion: "Prints one JSON object: register_s, tasks_per_s, broadcast_s, coalesced_s, errors.")

    @Option(help: "The profile's folder, where the controller's connection files are.") var profileDir: String
    @Option(help: "The cluster's id.") var clusterID = ""
    @Option(help: "How many engines.") var engines = 2
    @Option(help: "How many clients.") var clients = 4
    @Option(help: "How many tasks in all.") var tasks = 200_000
    @Option(help: "How many tasks each client has under way.") var window = 64
    @Option(help: "How many broadcasts to all engines, of each kind.") var broadcasts = 0

    func run() async throws {
        let profile = ProfileDirectory(path: self.profileDir)
        let client = try ClientConnectionInfo(PrivateFile.readJSON(profile.clientFile(clusterID: self.clusterID)))
        let engine = try EngineConnectionInfo(PrivateFile.readJSON(profile.engineFile(clusterID: self.clusterID)))
        let host = try HostAddress.reachable(interface: client.common.interface, location: client.common.location)
        let generator = try LoadGenerator(
            client, engine, host: host, transport: ZMTPTransport(), eventLoop: MultiThreadedEventLoopGroup.singleton.next())
        let clock = ContinuousClock()
        var figures: JSONObject = [:]

        let registration = await clock.measure { await generator.register(self.engines) }
        figures["register_s"] = .double(registration / .seconds(1))
        if self.tasks > 0 {
            // The first tasks are not measured, because they pay for set-up.
            await generator.run(tasks: min(self.tasks, 2_000), clients: self.clients, window: self.window)
            let time = await clock.measure {
                await generator.run(tasks: self.tasks, clients: self.clients, window: self.window)
            }
            figures["tasks_per_s"] = .double((Double(self.tasks) / (time / .seconds(1))).rounded())
        }
        for isCoalescing in [false, true] where self.broadcasts > 0 {
            let time = await clock.measure {
                for _ in 0..<self.broadcasts { await generator.broadcast(coalescing: isCoalescing) }
            }
            figures[isCoalescing ? "coalesced_s" : "broadcast_s"] = .double(time / .seconds(1) / Double(self.broadcasts))
        }
        figures["errors"] = .int(await generator.errors)
        print(JSONValue.object(figures))
    }
}
