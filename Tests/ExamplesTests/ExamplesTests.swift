import Foundation
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
        // Programs are built beside the tests.
        let folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        let log = FileManager.default.temporaryDirectory.appending(path: "apus-example-\(UUID().uuidString).log")
        _ = FileManager.default.createFile(atPath: log.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: log) }
        let output = try FileHandle(forWritingTo: log)
        let process = Process()
        process.executableURL = folder.appending(path: name)
        process.arguments = arguments
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        let (ended, continuation) = AsyncStream.makeStream(of: Int32.self)
        process.terminationHandler = { continuation.yield($0.terminationStatus) }
        try process.run()
        for await status in ended {
            let text = try String(contentsOf: log, encoding: .utf8)
            #expect(status == 0, "\(text)")
            #expect(text.hasPrefix(beginning), "\(text)")
            break
        }
    }
}
