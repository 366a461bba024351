import Apus
import Foundation
import TestPython

/// The stock programs that the tests run ours against.
enum Python {
    /// Ends every process whose command has the text: the stock controller leaves its schedulers behind, which are found no other
    /// way.
    static func endProcesses(naming text: String) {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
            guard let process = Int32(name), process != ProcessInfo.processInfo.processIdentifier,
                let command = try? String(contentsOfFile: "/proc/\(name)/cmdline", encoding: .utf8), command.contains(text)
            else { continue }
            kill(process, SIGKILL)
        }
    }

    /// Runs a script to its end and gives what it printed.
    static func run(_ script: String, _ arguments: [String] = []) async throws -> String {
        let process = try pythonProcess(["-c", script] + arguments)
        let (status, output) = await process.result()
        guard status == 0 else { throw TestPython.Failure(description: "the script ended with \(status):\n\(output)") }
        return output
    }
}

/// One Python process.
func pythonProcess(_ arguments: [String], environment: [String: String] = [:]) throws -> ProgramProcess {
    try ProgramProcess(TestPython.path(), arguments, environment: environment)
}

/// A process of a test's own; ended at the latest when the test lets go of it.
final class ProgramProcess: Sendable {
    private let process: Process
    private let ended: AsyncStream<Int32>
    /// What it prints goes to a file: reading a pipe would hold one of the few threads that all tests share.
    private let log = NSTemporaryDirectory() + "apus-test-" + UUID().uuidString + ".log"

    var pid: pid_t { self.process.processIdentifier }

    /// A program of this package, which is built beside the tests.
    convenience init(built name: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        let folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        try self.init(folder.appending(path: name).path, arguments, environment: environment)
    }

    /// `apus engine` with Python inside.
    convenience init(apusEngine profile: ProfileDirectory) throws {
        try self.init(built: "apus", ["engine", "--profile-dir=" + profile.path, "--python=" + TestPython.path()])
    }

    init(_ executable: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        _ = FileManager.default.createFile(atPath: self.log, contents: nil)
        let output = try FileHandle(forWritingTo: URL(fileURLWithPath: self.log))
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        let (ended, continuation) = AsyncStream.makeStream(of: Int32.self)
        process.terminationHandler = {
            continuation.yield($0.terminationStatus)
            continuation.finish()
        }
        self.process = process
        self.ended = ended
        try process.run()
        try output.close()
    }

    deinit {
        if self.process.isRunning { self.process.terminate() }
        try? FileManager.default.removeItem(atPath: self.log)
    }

    /// Kills the process.
    func kill() { Foundation.kill(self.process.processIdentifier, SIGKILL) }

    /// Waits for the end and gives the exit code and what was printed. To be asked once.
    func result() async -> (status: Int32, output: String) {
        for await status in self.ended { return (status, (try? String(contentsOfFile: self.log, encoding: .utf8)) ?? "") }
        return (-1, "cancelled")
    }
}

/// Runs the body with a folder of the test's own, which is removed afterwards.
func withTemporaryFolder<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let folder = NSTemporaryDirectory() + "apus-test-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    return try await body(folder)
}

/// Connects to a controller that is starting: it writes its file when it is ready.
func connectWhenThere(_ profile: ProfileDirectory) async throws -> Client {
    while true {
        do { return try await Client.connect(profileDirectory: profile.path) } catch let error as ApusError {
            guard error.code == .connectionFileNotFound || error.code == .badConnectionFile else { throw error }
            try await Task.sleep(for: .milliseconds(50))
        }
    }
}
