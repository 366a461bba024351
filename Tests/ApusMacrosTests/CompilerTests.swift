import Foundation
import Testing

/// Runs the compiler on source that uses the macros, with the modules that this test was built with.
private struct Compiler {
    /// Where the build put its products.
    private let products = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()

    private var plugin: String { self.products.appendingPathComponent("ApusMacros-tool").path }

    /// Whether the products are in the places that SwiftPM's native build system gives them; other build systems have other
    /// places.
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
        // Folders that end in "-tool.build" were made for the macros to run with.
        let targets = generated.filter { $0.pathExtension == "build" && !$0.lastPathComponent.hasSuffix("-tool.build") }
        return (targets + sources)
            .map { $0.appendingPathComponent("module.modulemap").path }
            .filter { files.fileExists(atPath: $0) }
    }

    /// Checks a source file; gives its errors and warnings as "line: error: …", in the order of the lines.
    func diagnostics(of source: String, settings: [String] = ["-swift-version", "6"]) throws -> [String] {
        let (text, status) = try self.output(of: ["-typecheck"] + settings, source)
        // The name of the diagnostic's group, in brackets at the end, is left out.
        let problem = /(.+):([0-9]+):[0-9]+: ((?:error|warning): .+?)(?: \[#\w+\])?/
        let found = text.split(separator: "\n").compactMap { line -> (Int, String)? in
            guard let match = line.wholeMatch(of: problem), let number = Int(match.2) else { return nil }
            // A diagnostic in an expansion's own lines has another in the user's lines.
            guard match.1.hasSuffix("Sums.swift") else { return nil }
            return (number, String(match.3))
        }
        // A compiler that failed before it read the file must not count as one that found nothing.
        if found.isEmpty, status != 0 { return [String(text.prefix(500))] }
        return Set(found.map { "\($0.0): \($0.1)" }).sorted { ($0.lineNumber, $0) < ($1.lineNumber, $1) }
    }

    /// Compiles a source file, as far as the errors that are found last; gives all errors, those in expansions too, as
    /// "line: sentence", in the order in which they are told.
    func errors(of source: String) throws -> [String] {
        let (text, status) = try self.output(of: ["-c", "-o", "/dev/null", "-swift-version", "6"], source)
        let found = text.matches(of: /(?m)^(?:.*\/)?([^\/:]*):([0-9]+):[0-9]+: error: (.+?)(?: \[#\w+\]| \(from macro '\w+'\))?$/)
            .map { ($0.1 == "Sums.swift" ? "" : "\($0.1):") + "\($0.2): \($0.3)" }
        return found.isEmpty && status != 0 ? [String(text.prefix(500))] : found
    }

    /// All that the compiler prints, and its exit status.
    func output(of arguments: [String], _ source: String) throws -> (text: String, status: Int32) {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("Sums.swift")
        try source.write(to: file, atomically: true, encoding: .utf8)

        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            [
                "swiftc", "-parse-as-library", "-diagnostic-style", "llvm",
                "-module-cache-path", self.products.appendingPathComponent("ModuleCache").path,
                "-I", self.products.appendingPathComponent("Modules").path, "-load-plugin-executable",
                "\(self.plugin)#ApusMacros",
            ] + arguments + self.moduleMaps.flatMap { ["-Xcc", "-fmodule-map-file=\($0)"] } + [file.path]
        let output = Pipe()
        process.standardError = output
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (text, process.terminationStatus)
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
            diagnostics.contains(
                "5: error: 'init(__declared:body:)' is unavailable: "
                    + "the result of a remote function must be Codable and Sendable, or Void"))
        #expect(diagnostics.contains("6: error: type 'Shared' does not conform to the 'Sendable' protocol"))
        #expect(
            diagnostics.contains(
                "8: error: 'remote' is unavailable: the parameters of a remote closure must be Codable and Sendable"))
        #expect(
            diagnostics.contains(
                "9: error: 'init(__closure:make:capturing:)' is unavailable: "
                    + "what a remote closure captures must be Codable and Sendable"))
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

    @Test("A value that the capture list forgot is an error where it is used, and the compiler shows what to write")
    func forgottenCapture() throws {
        let source = """
            import ApusFunctions
            func f(_ i: Int) {
                let j = i
                _ = #remote { [
                    k = j as Int
                ] (x: Int) in
                    let y = x + k
                    return y * j
                }
                _ = #remote { (x: Int) in x * i }
            }
            """
        #expect(
            try Compiler().errors(of: source) == [
                "8: enum declaration cannot close over value 'j' defined in outer scope",
                "10: 'i' is not known where the closure runs; write it in the capture list: '[i = i as Int]'",
            ])
        let text = try Compiler().output(of: ["-typecheck", "-swift-version", "6"], source).text
        #expect(text.contains("name what it uses from around it in the capture list, as '[x = x as <its type>]'"))
    }

    @Test("A captured value that cannot travel is one error, which says what it must be")
    func captureNotCodable() throws {
        let source = """
            import ApusFunctions
            struct Plain: Sendable {}
            func f(_ plain: Plain) {
                _ = #remote { [plain = plain as Plain] in 1 }
                _ = #remote { [plain = plain as Plain] (x: Int) async in print(x, plain) }
            }
            """
        let sentence =
            "'init(__closure:make:capturing:)' is unavailable: what a remote closure captures must be Codable and Sendable"
        #expect(try Compiler().errors(of: source) == ["4: \(sentence)", "5: \(sentence)"])
    }

    @Test("Two remote functions of one name in one place are refused, and the compiler shows why")
    func overloads() throws {
        let source = """
            import ApusFunctions
            @Remote func f(_ x: Int) {}
            @Remote func f(_ x: Double) {}
            """
        #expect(try Compiler().errors(of: source) == ["3: invalid redeclaration of '$f'"])
        let text = try Compiler().output(of: ["-typecheck", "-swift-version", "6"], source).text
        #expect(text.contains("engines find it by its name, which no overload can share"))
    }

    @Test("An error elsewhere in the file, however late it is found, brings none for the remote functions and closures")
    func unrelatedError() throws {
        let source = """
            import ApusFunctions
            @Remote func square(_ x: Double) -> Double { x * x }
            struct Sums { @Remote static func one() -> Int { 1 } }
            let closure = #remote { (x: Int) in x + 1 }
            func noResult() -> Int {}
            func notSet() { let x: Int; print(x) }
            """
        #expect(
            try Compiler().errors(of: source).sorted() == [
                "5: missing return in global function expected to return 'Int'",
                "6: constant 'x' used before being initialized",
            ])
    }

    /// The first argument of a view's call, and how the compiler's sentence about it ends.
    private static let misuses: [(call: String, sentence: String)] = {
        let function =
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
        let closure =
            "a remote function comes first: 'map($name, elements)' or 'map(#remote { (x: <type>) in … }, elements)'"
        let result = "say what the function gives: 'let x: Double = …' or 'returning: Double.self'; PickleValue is anything"
        let text = "a String is no function: write 'PythonFunction(name)', or the name itself in quotes"
        return [
            ("try await balanced.map(isPrime, 1..<10)", function),
            ("try await balanced.map({ $0 * 2 }, 1..<10)", function),
            ("try await balanced.map(1..<10) { $0 * 2 }", closure),
            ("try balanced.mapAsync(isPrime, [1, 2], chunkSize: 2)", function),
            ("try balanced.mapAsync([1, 2]) { $0 + 1 }", closure),
            ("try balanced.lazyMap(isPrime, 1..<10)", function),
            ("try await balanced.apply(isPrime, 3)", function),
            ("try await balanced.apply { 3 }", function),
            ("try balanced.applyAsync(both, 3, 2.5)", function),
            ("try await balanced.apply(overloaded, 2.5)", function),
            ("balanced.remote(isPrime)", function),
            ("try balanced.executor.submit(isPrime, 3)", function),
            ("try await view.map(isPrime, 1..<10)", function),
            ("try await view.apply(isPrime, 3)", function),
            ("try view.applyAsync(isPrime, 3)", function),
            ("try await view[0].apply(isPrime, 3)", function),
            ("try await view.client.broadcastView().apply(isPrime, 3)", function),
            (#"try await balanced.apply("math.sqrt", 2.0)"#, result),
            (#"try await balanced.map("math.sqrt", [2.0])"#, result),
            (#"try await view.apply("math.sqrt", 2.0)"#, result),
            ("try await balanced.apply(name, 2.0) as Double", text),
            ("try await balanced.map(name, [2.0]) as [Double]", text),
        ].map { ($0.0.replacing("view[0]", with: "view.client[0]"), $0.1) }
    }()

    @Test("A view that is given what is no remote function says what to write, in one sentence")
    func views() throws {
        let head = """
            import ApusClient
            import ApusFunctions
            func isPrime(_ n: Int) -> Bool { n > 1 }
            func both(_ n: Int, _ x: Double) async throws -> Double { x }
            func overloaded(_ n: Int) -> Int { n }
            func overloaded(_ x: Double) -> Double { x }
            func f(_ balanced: LoadBalancedView, _ view: DirectView, _ name: String) async throws {

            """
        let firstLine = head.count { $0 == "\n" } + 1
        let source = head + Self.misuses.map { "    _ = \($0.call)\n" }.joined() + "}\n"
        let errors = try Compiler().errors(of: source)
        #expect(errors.map(\.lineNumber) == Array(firstLine..<firstLine + Self.misuses.count))
        for (misuse, error) in zip(Self.misuses, errors) {
            #expect(error.hasSuffix(" is unavailable: \(misuse.sentence)"), "\(misuse.call)")
        }
    }

    @Test("A name that is nowhere is one error, in a closure and out of it")
    func unknownNames() throws {
        let source = """
            import ApusClient
            import ApusFunctions
            func g<Result>(_ body: (LoadBalancedView) async throws -> Result) {}
            func f(_ balanced: LoadBalancedView) async throws {
                let a = try await balanced.apply($isPrime, 3)
                let b = try await balanced.map($isPrime, 1..<10)
                g { try await $0.map($isPrime, 1..<10) }
                print(a, b)
            }
            """
        #expect(try Compiler().errors(of: source) == [5, 6, 7].map { "\($0): cannot find '$isPrime' in scope" })
    }
}
