import Apus
import ApusEngine
import ApusSettings
import ArgumentParser
import Foundation

/// `apus engine`: an engine alone, in place of `ipengine`.
struct EngineCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "engine",
        abstract: "Run an engine alone, in the foreground.",
        discussion: """
            Takes ipengine's options; 'apus engine --help' lists them. It runs Python, with IPython where that is installed, and the
            Swift functions that this program holds; your own program is its own engine (withCluster, or APUS_ENGINE_MODE=1).
            """,
        helpNames: [])

    @Argument(parsing: .captureForPassthrough, help: "ipengine's options.") var arguments: [String] = []

    func run() async throws {
        let settings: EngineSettings
        do {
            settings = try EngineSettings(arguments: self.arguments, environment: ProcessInfo.processInfo.environment) {
                try? String(contentsOfFile: $0, encoding: .utf8)
            }
        } catch {
            throw fail("\(error)")
        }
        if settings.asksForHelp {
            print(EngineSettings.help)
            return
        }
        for warning in settings.warnings { standardError("apus: \(warning)") }
        throw ExitCode(await EngineProcess.run(settings))
    }
}

extension EngineProcess {
    /// Runs the engine that a command line describes until the engine ends, and gives the process's exit code.
    static func run(_ settings: EngineSettings) async -> Int32 {
        if let folder = settings.workingDirectory, !FileManager.default.changeCurrentDirectoryPath(folder) {
            standardError("apus: there is no folder \(folder) to work in")
            return 1
        }
        if let file = settings.logFile {
            try? settings.place.profile.create()
            let descriptor = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
            if descriptor >= 0 {
                dup2(descriptor, STDERR_FILENO)
                close(descriptor)
            } else {
                standardError("apus: \(file) cannot be written")
            }
        }
        return await EngineProcess.run(settings.place)
    }
}
