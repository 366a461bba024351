import Foundation
import Synchronization

/// The stock programs that the tests run ours against: a Python with ipyparallel, in the project's own environment.
enum Python {
    /// The interpreter: `APUS_PYTHON`, or the one of `.venv` (`scripts/venv` makes it).
    static let interpreter: String? = {
        let environment = ProcessInfo.processInfo.environment
        let candidates = [environment["APUS_PYTHON"], FileManager.default.currentDirectoryPath + "/.venv/bin/python"].compactMap {
            $0
        }
        return candidates.first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    static var isAvailable: Bool { self.interpreter != nil }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Runs a script to its end and gives what it printed.
    static func run(_ script: String, _ arguments: [String] = []) async throws -> String {
        let process = try PythonProcess(["-c", script] + arguments)
        let (status, output) = await process.result()
        guard status == 0 else { throw Failure(description: "the script ended with \(status):\n\(output)") }
        return output
    }
}

/// One Python process; ended at the latest when the test lets go of it.
final class PythonProcess: Sendable {
    private let process: Process
    private let reading: Task<String, Never>
    private let ending: Task<Int32, Never>

    init(_ arguments: [String], environment: [String: String] = [:]) throws {
        guard let interpreter = Python.interpreter else { throw Python.Failure(description: "there is no Python") }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: interpreter)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        let (ended, continuation) = AsyncStream.makeStream(of: Int32.self)
        process.terminationHandler = {
            continuation.yield($0.terminationStatus)
            continuation.finish()
        }
        try process.run()
        self.process = process
        self.reading = Task.detached { String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self) }
        self.ending = Task.detached {
            for await status in ended { return status }
            return -1
        }
    }

    deinit { self.kill() }

    func result() async -> (status: Int32, output: String) { (await self.ending.value, await self.reading.value) }

    func kill() { if self.process.isRunning { self.process.terminate() } }
}

/// A folder of the test's own, gone afterwards.
func withTemporaryFolder<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let folder = NSTemporaryDirectory() + "apus-test-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    return try await body(folder)
}
