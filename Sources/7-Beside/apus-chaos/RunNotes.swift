import Apus
import Foundation

/// The error of a task that is to fail.
struct TaskFails: Error, CustomStringConvertible {
    let description: String
}

/// Writes down in the task's file that a run of the task began and ended. The first runs fail, as many as told.
@Remote
func noteRun(_ folder: String, _ name: String, _ seconds: Double, _ failures: Int) async throws -> [String] {
    let file = "\(folder)/\(name)"
    func note(_ word: String) throws {
        try append("\(word) \(getpid()) \(String(format: "%.3f", Date().timeIntervalSince1970))\n", to: file)
    }
    try note("began")
    let runs = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").count { $0.hasPrefix("began") }
    try await Task.sleep(for: .seconds(seconds))
    if runs <= failures {
        try note("failed")
        throw TaskFails(description: "\(name) fails")
    }
    try note("ended")
    return ["value of", name]
}

/// As `noteRun`, for a task that takes the result of another task, which must be that of the task of this name.
@Remote
func noteRunGiven(
    _ given: [String], _ giver: String, _ folder: String, _ name: String, _ seconds: Double, _ failures: Int
) async throws -> [String] {
    guard given == ["value of", giver] else { throw TaskFails(description: "\(name) was given \(given)") }
    return try await noteRun(folder, name, seconds, failures)
}

/// Appends a line to a file in one write, so that lines of several processes do not mix.
func append(_ line: String, to path: String) throws {
    let file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw CocoaError(.fileWriteUnknown) }
    defer { close(file) }
    guard line.withCString({ write(file, $0, strlen($0)) }) == line.utf8.count else { throw CocoaError(.fileWriteUnknown) }
}
