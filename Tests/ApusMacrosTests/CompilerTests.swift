import Foundation
import Testing

/// What the compiler says of source that uses the macros, from the modules this test was built with.
private struct Compiler {
    /// Where the build put its products.
    private let products = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()

    private var plugin: String { self.products.appendingPathComponent("ApusMacros-tool").path }

    /// Whether the products are where they can be used again; other build systems than SwiftPM's native one lay them out otherwise.
    var isUsable: Bool {
        let modules = self.products.appendingPathComponent("Modules/ApusFunctions.swiftmodule").path
        return [modules, self.plugin].allSatisfy { FileManager.default.fileExists(atPath: $0) }
    }

    /// The C modules of this package and of those it depends on.
    private var moduleMaps: [String] {
        let files = FileManager.default
        let build = self.products.deletingLastPathComponent().deletingLastPathComponent()
        let generated = (try? files.contentsOfDirectory(at: self.products, includingPropertiesForKeys: nil)) ?? []
        let checkouts =
            (try? files.contentsOfDirectory(at: build.appendingPathComponent("checkouts"), includingPropertiesForKeys: nil)) ?? []
        let sources = checkouts.flatMap { checkout in
            let targets = try? files.contentsOfDirectory(
                at: checkout.appendingPathComponent("Sources"), includingPropertiesForKeys: nil)
            return (targets ?? []).map { $0.appendingPathComponent("include") }
        }
        // What ends in "-tool.build" was made for the macros to run with.
        let targets = generated.filter { $0.pathExtension == "build" && !$0.lastPathComponent.hasSuffix("-tool.build") }
        return (targets + sources)
            .map { $0.appendingPathComponent("module.modulemap").path }
            .filter { files.fileExists(atPath: $0) }
    }

    /// Checks a source file; gives its errors and warnings as "line: error: …", in the order of the lines.
    func diagnostics(of source: String, settings: [String] = ["-swift-version", "6"]) throws -> [String] {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("Sums.swift")
        try source.write(to: file, atomically: true, encoding: .utf8)

        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            [
                "swiftc", "-typecheck", "-parse-as-library", "-diagnostic-style", "llvm",
                "-module-cache-path", self.products.appendingPathComponent("ModuleCache").path,
                "-I", self.products.appendingPathComponent("Modules").path, "-load-plugin-executable",
                "\(self.plugin)#ApusMacros",
            ] + settings + self.moduleMaps.flatMap { ["-Xcc", "-fmodule-map-file=\($0)"] } + [file.path]
        let output = Pipe()
        process.standardError = output
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()

        // The name of the diagnostic's group, in brackets at the end, is left out.
        let problem = /(.+):([0-9]+):[0-9]+: ((?:error|warning): .+?)(?: \[#\w+\])?/
        let found = text.split(separator: "\n").compactMap { line -> (Int, String)? in
            guard let match = line.wholeMatch(of: problem), let number = Int(match.2) else { return nil }
            // What is told of an expansion's own lines is told again, or first, of the user's.
            guard match.1.hasSuffix("Sums.swift") else { return nil }
            return (number, String(match.3))
        }
        // A compiler that did not get as far as the file must not pass for a contented one.
        if found.isEmpty, process.terminationStatus != 0 { return [String(text.prefix(500))] }
        return Set(found.map { "\($0.0): \($0.1)" }).sorted { ($0.lineNumber, $0) < ($1.lineNumber, $1) }
    }
}

extension String {
    fileprivate var lineNumber: Int { Int(self.prefix { $0.isNumber }) ?? 0 }
}

@Suite("The compiler's own checks", .enabled(if: Compiler().isUsable))
struct CompilerTests {
    @Test(
        "Code that uses the macros as they are meant draws no warning",
        arguments: [
            ["-swift-version", "6"], ["-swift-version", "5"], ["-swift-version", "6", "-strict-memory-safety"],
            ["-swift-version", "6", "-enable-upcoming-feature", "NonisolatedNonsendingByDefault"],
        ])
    func accepted(settings: [String]) throws {
        let source = """
            import ApusFunctions
            @Remote public func square(_ x: Double) -> Double { x * x }
            @available(*, deprecated) @Remote func old(_ x: Int) async throws {}
            @MainActor final class Model {
                @Remote private static func step(_ x: Int) -> Int { x + 1 }
                var k = 1
                func closures() -> [RemoteFunction<Int, Int>] {
                    [Self.$step, #remote { [k = k as Int] (x: Int) in x + k }]
                }
            }
            struct Defaults {
                var f = #remote { (x: Int) in x }
                func g(_ h: RemoteFunction<Int> = #remote { 1 }) {}
            }
            """
        let diagnostics = try Compiler().diagnostics(of: source, settings: settings)
        #expect(diagnostics == [])
    }

    @Test("In a module whose code is on the main actor unless it says otherwise, a remote function says so")
    func mainActorByDefault() throws {
        let source = """
            import ApusFunctions
            @Remote nonisolated func a(_ x: Int) -> Int { x }
            @Remote func b(_ x: Int) async -> Int { x }
            @MainActor @Remote func c(_ x: Int) -> Int { x }
            struct S {
                @Remote nonisolated static func d(_ x: Int) throws -> Int { x }
                func f() -> RemoteFunction<Int, Int> { #remote { (x: Int) in x } }
            }
            @Remote func e(_ x: Int) -> Int { x }
            """
        let diagnostics = try Compiler().diagnostics(
            of: source, settings: ["-swift-version", "6", "-default-isolation", "MainActor"])
        #expect(
            diagnostics == ["9: error: call to main actor-isolated global function 'e' in a synchronous nonisolated context"])
    }

    @Test("A type that cannot travel is an error in the line of the function")
    func notCodable() throws {
        let source = """
            import ApusFunctions
            struct Plain {}
            final class Shared: Codable { var x = 1 }
            @Remote func a(_ x: Plain) {}
            @Remote func b() -> Plain { Plain() }
            @Remote func c(_ x: Shared) {}
            func f(_ plain: Plain) {
                _ = #remote { (x: Plain) in 1 }
                _ = #remote { [plain = plain as Plain] in 1 }
            }
            """
        let diagnostics = try Compiler().diagnostics(of: source)
        #expect(diagnostics.contains("4: error: type 'Plain' does not conform to protocol 'Decodable'"))
        #expect(
            diagnostics.contains("5: error: initializer 'init(__declared:body:)' requires that 'Plain' conform to 'Decodable'"))
        #expect(diagnostics.contains("6: error: type 'Shared' does not conform to the 'Sendable' protocol"))
        #expect(diagnostics.contains("8: error: macro 'remote' requires that 'Plain' conform to 'Decodable'"))
        #expect(
            diagnostics.contains { $0.hasPrefix("9: error: initializer 'init(__closure:make:capturing:)' requires that 'Plain'") }
        )
        #expect(Set(diagnostics.map(\.lineNumber)).isSubset(of: [4, 5, 6, 8, 9]))
    }

    @Test("A closure's result must be able to travel, too")
    func resultNotCodable() throws {
        let source = """
            import ApusFunctions
            struct Plain: Sendable {}
            let f = #remote { (x: Int) in Plain() }
            """
        let diagnostics = try Compiler().diagnostics(of: source)
        #expect(
            diagnostics == [
                "3: error: 'init(__closure:make:capturing:)' is unavailable: "
                    + "the result of a remote closure must be Codable and Sendable, or Void"
            ])
    }

    @Test("A value that the capture list forgot is an error where it is used")
    func forgottenCapture() throws {
        let source = """
            import ApusFunctions
            func f(_ j: Int) {
                _ = #remote { [
                    k = j as Int
                ] (x: Int) in
                    let y = x + k
                    return y * j
                }
            }
            """
        let diagnostics = try Compiler().diagnostics(of: source)
        #expect(diagnostics == ["7: error: enum declaration cannot close over value 'j' defined in outer scope"])
    }

    @Test("Two remote functions of one name in one place are refused")
    func overloads() throws {
        let source = """
            import ApusFunctions
            @Remote func f(_ x: Int) {}
            @Remote func f(_ x: Double) {}
            """
        let diagnostics = try Compiler().diagnostics(of: source)
        #expect(diagnostics == ["3: error: invalid redeclaration of '$f'"])
    }
}
