import Apus
import ArgumentParser
import Foundation

/// `apus controller`: a controller alone, as `ipcontroller`.
struct ControllerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "controller",
        abstract: "Run a controller alone, in the foreground.",
        discussion: "Engines and clients find it through the connection files in the profile's security folder.")

    @Option(help: "The profile's name.") var profile: String?
    @Option(help: "The profile's folder, instead of its name.") var profileDir: String?
    @Option(help: "The cluster's id, for several clusters in one profile.") var clusterID: String?
    @Option(help: "The address to listen on; '*' for every interface.") var ip = "127.0.0.1"
    @Option(help: "The host name to write into the connection files.") var location: String?
    @Option(help: "Milliseconds between heartbeats.") var ping = 3000
    @Option(help: "How many unfinished tasks one engine may hold; 0 for any number; adapts unless told.") var hwm: Int?

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        var options = ControllerOptions()
        options.clientAddress = self.ip
        options.engineAddress = self.ip
        if let location { options.location = location }
        options.heartbeatPeriod = self.ping
        options.highWaterMark = self.hwm
        if let key = environment["IPP_SESSION_KEY"], !key.isEmpty { options.key = key }
        let files = ControllerHost.Files(
            profile: ProfileDirectory(explicitPath: self.profileDir, profile: self.profile),
            clusterID: self.clusterID ?? environment["IPP_CLUSTER_ID"] ?? "")
        let host: ControllerHost
        do { host = try await ControllerHost(options: options, files: files) } catch { throw fail("\(error)") }
        standardError("controller runs; the connection files are in \(files.profile.security)")
        await withTaskGroup(of: Void.self) { group in
            group.addTask { _ = await waitForSignal([SIGINT, SIGTERM, SIGABRT]) }
            group.addTask { try? await host.wait() }
            await group.next()
            group.cancelAll()
        }
        await host.stop()
    }
}
