import Apus
import ArgumentParser

@main
struct ApusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus",
        abstract: "Interactive parallel computing for Swift and Python.",
        discussion: """
            A cluster is a controller and engines. Start one, connect to it from Swift (Client.connect()) or Python
            (ipyparallel.Client()), and stop it when you are done:

              apus start -n 4 --daemonize
              apus status
              apus stop

            Clusters of Python's ipcluster are seen here, and these there.
            """,
        version: Client.version,
        subcommands: [Start.self, Stop.self, List.self, Status.self, ControllerCommand.self, EngineCommand.self, Bench.self])
}

/// The options that name the cluster that a command is about.
struct ClusterChoice: ParsableArguments {
    @Option(help: ArgumentHelp("The profile's name.", discussion: "Its folder is profile_<name> in $IPYTHONDIR or ~/.ipython."))
    var profile: String?

    @Option(help: "The profile's folder, instead of its name.")
    var profileDir: String?

    @Option(help: "Which of the profile's clusters; the one without an id unless told.")
    var clusterID: String = ""

    var directory: ProfileDirectory { ProfileDirectory(explicitPath: self.profileDir, profile: self.profile) }

    /// The options that name the same cluster on another command line.
    var arguments: [String] {
        (self.profile.map { ["--profile", $0] } ?? []) + (self.profileDir.map { ["--profile-dir", $0] } ?? [])
            + (self.clusterID.isEmpty ? [] : ["--cluster-id", self.clusterID])
    }

    var description: String { self.clusterID.isEmpty ? "the cluster" : "cluster '\(self.clusterID)'" }
}

/// Writes one sentence to standard error, and gives the error to throw, which ends the program with the exit code.
func fail(_ message: String, code: Int32 = 1) -> any Error {
    standardError("apus: \(message)")
    return ExitCode(code)
}
