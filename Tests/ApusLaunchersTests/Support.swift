import ApusWire
import Foundation
import Glibc
import Testing

@testable import ApusLaunchers

/// A folder for one test, removed at the test's end.
struct TemporaryFolder: ~Copyable {
    let path: String

    init() throws {
        let name = "apus-launchers-\(UUID().uuidString.prefix(8))"
        self.path = FileManager.default.temporaryDirectory.appending(path: name).path
        try FileManager.default.createDirectory(atPath: self.path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: self.path) }

    func text(_ name: String) -> String { (try? String(contentsOfFile: self.path + "/" + name, encoding: .utf8)) ?? "" }
}

/// Polls until the condition holds, for things that report no change (files, other people's processes).
func eventually(within limit: Duration = .seconds(60), _ condition: () -> Bool) async throws -> Bool {
    let deadline = ContinuousClock.now + limit
    while !condition() {
        guard ContinuousClock.now < deadline else { return false }
        try await Task.sleep(for: .milliseconds(5))
    }
    return true
}

func shell(
    _ script: String, output: LocalCommand.Output = .discarded, environment: [String: String] = [:],
    parentWatch: ParentWatch = .watchdog, stopGrace: Duration = .seconds(5)
) -> LocalCommand {
    LocalCommand(
        "sh", arguments: ["-c", script], environment: environment, output: output, parentWatch: parentWatch, stopGrace: stopGrace)
}
