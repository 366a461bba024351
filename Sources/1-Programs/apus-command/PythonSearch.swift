import ApusEngine
import ApusLaunchers
import Foundation

/// Looks for a Python interpreter that engines can run: it must start, and be new enough.
enum PythonSearch {
    /// Why no interpreter works: the words after "no Python works: ".
    struct Failure: Error {
        let reason: String
    }

    /// The oldest version that engines run.
    private static let oldest = (major: 3, minor: 9)
    /// How long an interpreter may take to start.
    private static let patience: Duration = .seconds(20)

    /// Finds the first interpreter that works.
    ///
    /// - Parameter asked: The interpreter's path or name; nil: the active environment's and those on the path are tried.
    static func find(_ asked: String?) async throws(Failure) -> String {
        let candidates = PythonOptions.interpreters(asked)
        var first: String?
        for candidate in candidates {
            guard let problem = await Self.problem(of: candidate) else { return candidate }
            first = first ?? "\(candidate) \(problem)"
        }
        throw Failure(
            reason: first
                ?? asked.map { "there is no interpreter \($0)" }
                ?? "there is no active environment, and no python3 on the path")
    }

    /// Why an interpreter does not work; nil if it does.
    private static func problem(of interpreter: String) async -> String? {
        let log = NSTemporaryDirectory() + "apus-python-\(UUID().uuidString).log"
        defer { try? FileManager.default.removeItem(atPath: log) }
        let script =
            "import json, socket, sys, threading; sys.exit(sys.version_info < (\(Self.oldest.major), \(Self.oldest.minor)) and 3)"
        let process: LocalProcess
        do {
            process = try await LocalProcess.start(LocalCommand(interpreter, arguments: ["-c", script], output: .log(log)))
        } catch { return "does not start: \(error)" }
        let exit = await withTaskGroup(of: ProcessExit?.self) { group in
            group.addTask { await process.wait() }
            group.addTask {
                try? await Task.sleep(for: Self.patience)
                return nil
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
        switch exit?.cause {
        case .code(0): return nil
        case .code(3): return "is older than Python \(Self.oldest.major).\(Self.oldest.minor)"
        case .code, .signal, .unknown: return exit.map { "\($0.cause)" + ($0.lastLines.last.map { " ('\($0)')" } ?? "") }
        case nil:
            await process.stop()
            return "does not answer"
        }
    }
}
