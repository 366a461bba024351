import Foundation
import TestPython
import Testing

@Suite("Examples", .serialized, .timeLimit(.minutes(2)))
struct ExamplesTests {
    @Test(
        "Each example runs, and finds its own results right",
        arguments: [
            ("option-pricing", ["20"], "400000 paths: "),
            ("word-frequencies", [], "5040 the\n2520 of\n1680 engine\n"),
            ("wave-equation", ["100", "50"], "100 points after 50 steps"),
            ("task-graph", ["200"], "200 tasks with "),
        ])
    func runs(_ name: String, _ arguments: [String], _ beginning: String) async throws {
        let (status, text) = try await Self.run(name, arguments)
        #expect(status == 0, "\(text)")
        #expect(text.hasPrefix(beginning), "\(text)")
    }

    @Test("Cross-validation on engines with Python agrees with scikit-learn's own", .enabled(if: TestPython.exists))
    func crossValidation() async throws {
        let (status, text) = try await Self.run("cross-validation", ["3"], ["APUS_PYTHON": try TestPython.path()])
        #expect(status == 0, "\(text)")
        #expect(text.contains("27/27 tasks"), "\(text)")
        #expect(text.hasSuffix("best: penalty 10.0, gamma 0.001\ncross_val_score agrees\n"), "\(text)")
    }

    @Test("An interpreter that is not there ends the program with what is missing")
    func noPython() async throws {
        let (status, text) = try await Self.run("cross-validation", [], ["APUS_PYTHON": "/no/such/python"])
        #expect(status == 1)
        #expect(text.contains("there is no Python interpreter /no/such/python"), "\(text)")
    }

    /// Runs a program that was built beside the tests; gives its status and all that it printed.
    private static func run(_ name: String, _ arguments: [String], _ environment: [String: String] = [:]) async throws -> (
        status: Int32, text: String
    ) {
        let folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        let log = FileManager.default.temporaryDirectory.appending(path: "apus-example-\(UUID().uuidString).log")
        _ = FileManager.default.createFile(atPath: log.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: log) }
        let output = try FileHandle(forWritingTo: log)
        let process = Process()
        process.executableURL = folder.appending(path: name)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        let (ended, continuation) = AsyncStream.makeStream(of: Int32.self)
        process.terminationHandler = { continuation.yield($0.terminationStatus) }
        try process.run()
        var status: Int32 = -1
        for await ended in ended {
            status = ended
            break
        }
        return (status, try String(contentsOf: log, encoding: .utf8))
    }
}
