public import Foundation

/// Reads the index that `apt-get update` has fetched, with apt's own tools, which know where it is and how it is compressed.
public enum AptIndex {
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// The `Packages` files of all sources of this machine.
    public static func files() throws -> [Data] {
        let list = try Self.run("apt-get", ["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"])
        let paths = String(decoding: list, as: UTF8.self).split(separator: "\n").map(String.init)
        guard !paths.isEmpty else {
            throw Failure(description: "apt has no package index here; 'apt-get update' brings one")
        }
        return try paths.map { try Self.run("/usr/lib/apt/apt-helper", ["cat-file", $0]) }
    }

    /// Runs a tool and gives its output.
    public static func run(_ tool: String, _ arguments: [String]) throws -> Data {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [tool] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardInput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        do { try process.run() } catch { throw Failure(description: "\(tool) cannot be run: \(error)") }
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure(description: "\(tool) \(arguments.joined(separator: " ")) ended with code \(process.terminationStatus)")
        }
        return data
    }
}
