import Apus
import ApusEngine
import ArgumentParser
import Foundation

/// `apus engine`: an engine alone, as `ipengine`.
struct EngineCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "engine",
        abstract: "Run an engine alone, in the foreground.",
        discussion: """
            Joins the controller of the profile's engine connection file, waiting up to ten seconds for the file. It runs the Swift
            functions that this program holds; your own program is its own engine (withCluster, or APUS_ENGINE_MODE=1).
            """)

    @Option(help: "The profile's name.") var profile: String?
    @Option(help: "The profile's folder, instead of its name.") var profileDir: String?
    @Option(help: "The cluster's id, for several clusters in one profile.") var clusterID: String?
    @Option(help: "The engine connection file itself.") var file: String?

    func run() async throws {
        var place = EngineProcess.Place()
        place.file = self.file
        place.profile = ProfileDirectory(explicitPath: self.profileDir, profile: self.profile)
        place.clusterID = self.clusterID ?? ProcessInfo.processInfo.environment["IPP_CLUSTER_ID"] ?? ""
        throw ExitCode(await EngineProcess.run(place))
    }
}
