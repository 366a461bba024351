import Foundation
import NIOCore
import Testing

/// Tries the inputs that `scripts/fuzz` begins with, and those that it found, without a fuzzer.
@Suite("Parsers of foreign bytes")
struct ReplayTests {
    private static let names = FuzzTarget.all.map(\.name)
    private static let inputs = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Inputs")

    private static func target(_ name: String) throws -> FuzzTarget {
        try #require(FuzzTarget.all.first { $0.name == name }, "Inputs has a folder of no target: \(name)")
    }

    @Test("Whole inputs, and those cut short anywhere, show nothing untrue", arguments: names)
    func seeds(name: String) throws {
        let target = try Self.target(name)
        for seed in target.seeds {
            #expect(seed.readableBytes <= target.longestInput)
            for length in 0...seed.readableBytes { try target.check(seed.getSlice(at: seed.readerIndex, length: length)!) }
        }
    }

    @Test(
        "Inputs that a parser once failed on are handled",
        arguments: try FileManager.default.contentsOfDirectory(atPath: inputs.path).sorted())
    func finds(name: String) throws {
        let target = try Self.target(name)
        for file in try FileManager.default.contentsOfDirectory(atPath: Self.inputs.appending(path: name).path).sorted() {
            let input = try Data(contentsOf: Self.inputs.appending(path: "\(name)/\(file)"))
            do { try target.check(ByteBuffer(bytes: input)) } catch { Issue.record(error, "\(name)/\(file)") }
        }
    }
}
