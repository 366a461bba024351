import Foundation
import Testing

#if os(Linux)
    @Suite("Simulated clusters", .serialized, .timeLimit(.minutes(5)))
    struct ClusterSimulationTests {
        @Test("Every request to a cluster ends once and well, or for a cause, whatever dies, breaks, comes late or comes twice")
        func promises() async throws {
            let (status, text) = try await Self.simulate("200")
            #expect(status == 0, "\(text)")
        }

        @Test("The same seed makes the same cluster")
        func repeats() async throws {
            let (status, text) = try await Self.simulate("20", "--first", "1000", "--twice")
            #expect(status == 0, "\(text)")
        }

        /// Runs the program that simulates clusters, which was built beside the tests; gives its status and its output. The program
        /// is killed when the test is cancelled at its time limit, because the test would otherwise wait for the output for ever.
        private static func simulate(_ arguments: String...) async throws -> (status: Int32, text: String) {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
                .appending(path: "apus-simulate")
            process.arguments = ["--world", "cluster"] + arguments
            let pipe = Pipe()
            process.standardOutput = pipe
            process.standardError = pipe
            try process.run()
            // All output is read, so that the program never waits for room in the pipe.
            let (program, output) = (process.processIdentifier, pipe.fileHandleForReading)
            let text = try await withTaskCancellationHandler {
                String(decoding: try output.readToEnd() ?? Data(), as: UTF8.self)
            } onCancel: {
                kill(program, SIGKILL)
            }
            process.waitUntilExit()
            return (process.terminationStatus, text)
        }
    }
#endif
