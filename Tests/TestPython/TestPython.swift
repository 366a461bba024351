import Foundation

/// The Python that tests use: it has ipyparallel, NumPy and the other packages of scripts/requirements.txt.
package enum TestPython {
    /// `APUS_PYTHON`, or the one of `.venv`, which `scripts/venv` makes; nil when there is neither.
    ///
    /// A Python that the variable names is assumed to be there: if it is not, tests must fail and not be skipped.
    package static let interpreter: String? = {
        if let named = ProcessInfo.processInfo.environment["APUS_PYTHON"] { return named }
        let own = FileManager.default.currentDirectoryPath + "/.venv/bin/python"
        return FileManager.default.isExecutableFile(atPath: own) ? own : nil
    }()

    package static let exists = interpreter != nil

    package struct Failure: Error, CustomStringConvertible {
        package let description: String

        package init(description: String) { self.description = description }
    }

    /// Where the interpreter is.
    package static func path() throws -> String {
        guard let interpreter else { throw Failure(description: "there is no Python; scripts/venv makes one") }
        return interpreter
    }

    /// A program that is installed beside the interpreter.
    package static func program(_ name: String) -> String {
        URL(filePath: self.interpreter ?? "").deletingLastPathComponent().appending(path: name).path
    }

    /// Runs a script with text on its standard input, and gives what it printed.
    package static func run(_ script: String, input: String = "") throws -> String {
        // Through files, so that neither side can block on a full pipe.
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = ["script.py", "input", "output", "errors"].map { folder.appending(path: $0) }
        try Data(script.utf8).write(to: files[0])
        try Data(input.utf8).write(to: files[1])
        for file in files[2...] { try Data().write(to: file) }
        let process = Process()
        process.executableURL = URL(filePath: try self.path())
        process.arguments = [files[0].path]
        // Without the user's own configuration.
        process.environment = ProcessInfo.processInfo.environment.merging(["IPYTHONDIR": folder.path]) { $1 }
        process.standardInput = try FileHandle(forReadingFrom: files[1])
        process.standardOutput = try FileHandle(forWritingTo: files[2])
        process.standardError = try FileHandle(forWritingTo: files[3])
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure(description: String(decoding: try Data(contentsOf: files[3]), as: UTF8.self))
        }
        return String(decoding: try Data(contentsOf: files[2]), as: UTF8.self)
    }
}
