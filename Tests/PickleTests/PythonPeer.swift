import Foundation

/// A Python interpreter to check against, if this machine has one: `APUS_PYTHON`, else `.venv/bin/python` under the current directory.
enum PythonPeer {
    static let path: String? = {
        let path = ProcessInfo.processInfo.environment["APUS_PYTHON"] ?? ".venv/bin/python"
        return FileManager.default.isExecutableFile(atPath: path) ? path : nil
    }()

    static let isPresent = path != nil

    /// Whether the interpreter can import a module.
    static func has(_ module: String) -> Bool {
        isPresent && (try? run("import \(module); print('yes')")) == "yes\n"
    }

    static let hasNumPy = has("numpy")

    struct Failure: Error, CustomStringConvertible { let description: String }

    /// Runs a script with text on its standard input, and gives what it printed.
    static func run(_ script: String, input: String = "") throws -> String {
        // Through files, so that neither side can block on a full pipe.
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = ["script.py", "input", "output", "errors"].map { folder.appending(path: $0) }
        try Data(script.utf8).write(to: files[0])
        try Data(input.utf8).write(to: files[1])
        for file in files[2...] { try Data().write(to: file) }
        let process = Process()
        process.executableURL = URL(filePath: self.path!)
        process.arguments = [files[0].path]
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
