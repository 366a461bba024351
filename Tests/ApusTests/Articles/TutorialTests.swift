import Foundation
import Testing

@Suite("Tutorial", .timeLimit(.minutes(1)))
struct TutorialTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    @Test("The tutorial's last step is the example")
    func lastStep() throws {
        let example = Self.root.appending(path: "Examples/PrimeCounting/PrimeCounting.swift")
        let catalogue = Self.root.appending(path: "Sources/1-Programs/Apus/Apus.docc")
        let tutorial = try String(contentsOf: catalogue.appending(path: "MeetApus.tutorial"), encoding: .utf8)
        let last = try #require(tutorial.matches(of: /file: "([^"]+)"/).last?.output.1)
        let shown = try String(contentsOf: catalogue.appending(path: "Resources/\(last)"), encoding: .utf8)
        #expect(try shown == String(contentsOf: example, encoding: .utf8))
    }

    /// Builds of chosen test targets have no examples (scripts/sanitize).
    private static let hasExample = FileManager.default.isExecutableFile(
        atPath: URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "prime-counting").path)

    @Test(
        "The example counts primes on four engines, and tells of an error, as the tutorial says",
        .enabled(if: hasExample || ProcessInfo.processInfo.environment["APUS_TEST_TARGETS"] == nil))
    func run() async throws {
        let (status, output) = await (try ProgramProcess(built: "prime-counting", ["100000"])).result()
        #expect(status == 0)
        #expect(output.contains("10/10 tasks, "), "\(output)")
        #expect(output.contains("9592 primes below 100000\n"), "\(output)")
        #expect(output.contains(/engine 3 did \d+ of 10 ranges\n/), "\(output)")
        #expect(output.contains(/\[\d:apply\] NegativeNumbers: there are no primes among -10\.\.<10\n/), "\(output)")
    }
}
