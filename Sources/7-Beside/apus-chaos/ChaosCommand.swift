import ArgumentParser
import Foundation

/// The Swift client of `scripts/chaos`, which submits tasks of all kinds and writes down what becomes of each. In engine mode the program
/// is an engine that has the functions of these tasks.
@main
struct ChaosCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus-chaos",
        abstract: "Submit tasks to a cluster whose processes are killed meanwhile.",
        discussion: """
            Appends a line of JSON to FOLDER/journals/NAME before each submission, after each, and for each outcome. A client that is \
            started again reads what the one before wrote, and asks the hub for the tasks that had no outcome, by their ids or, where the \
            client before was killed too soon to write the ids down, by their labels. Submits until FOLDER/finish exists, then waits for \
            what is missing, for a limited time.
            """)

    @Option(help: "The name of this client.") var name: String
    @Option(help: "The folder of the run, which has the folders 'journals' and 'runs'.") var folder: String
    @Option(help: "The profile's folder, where the controller's connection files are.") var profileDir: String
    @Option(help: "Decides which tasks are submitted.") var seed = 0

    func run() async throws {
        let submitter = try await Submitter(
            name: self.name, folder: self.folder, profile: self.profileDir, seed: self.seed)
        await submitter.run()
        // Waits that go on do not keep the process.
        fflush(nil)
        _exit(0)
    }
}
