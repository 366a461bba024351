import Apus
import Foundation
import TestPython
import Testing

/// `SampleModule` is compiled with the tests and not linked into them; here it becomes a library that engines load.
@Suite("Compiled modules that engines load", .serialized, .timeLimit(.minutes(2)))
struct ModuleTests {
    @Test("A module's functions run on the engines that loaded it, which the scheduler knows, and know their engine")
    func loading() async throws {
        try await withTemporaryFolder { folder in
            let library = try await Self.link(["SampleModule"], to: folder + "/libSample.so")
            try await withCluster(engines: 2) { client in
                let balanced = client.loadBalancedView()
                await #expect(throws: RemoteError.self) {
                    try await balanced.apply(.named("SampleModule.sampledEngine"), 1, returning: [Int].self)
                }
                let added = try await client.directView([1]).loadModule(library)
                #expect(added == ["SampleModule.failSample", "SampleModule.sampledEngine", "SampleModule.triple"])
                let results = try await balanced.map(.named("SampleModule.sampledEngine"), 0..<20, returning: [Int].self)
                #expect(results == (0..<20).map { [1, $0] })
                // Loading it again is no mistake; the other engine is another process.
                #expect(try await client.directView([1]).loadModule(library) == [])
                #expect(try await client.directView().loadModule(library) == added)
                #expect(try await client[0].apply(.named("sampledEngine"), 2) == [0, 2])
                let error = await #expect(throws: RemoteError.self) {
                    try await client[0].apply(.named("failSample"), returning: String?.self)
                }
                #expect(error?.name == "SampleError")
            }
        }
    }

    @Test("A library that is not there, is none, or brings its own Apus is refused with a reason")
    func refusals() async throws {
        try await withTemporaryFolder { folder in
            let foreign = try await Self.link(["SampleModule", "CFunctionSection"], to: folder + "/libForeign.so")
            let library = try await Self.link(["SampleModule"], to: folder + "/libSample.so")
            let text = folder + "/text.so"
            try Data("no library".utf8).write(to: URL(fileURLWithPath: text))
            try await withCluster(engines: 1) { client in
                let view = client.directView()
                for (path, reason) in [
                    (folder + "/none.so", "No such file"), (text, "file too short"), (foreign, "a copy of Apus of its own"),
                    // A second try finds it loaded already, and refuses it again.
                    (foreign, "a copy of Apus of its own"),
                ] {
                    let error = await #expect(throws: CompositeError.self) { try await view.loadModule(path) }
                    #expect("\(error as Any)".contains(reason))
                }
                // A refused library does not hinder a good one.
                let added = try await view.loadModule(library)
                #expect(added.count == 3)
                let result: [Int] = try await client[0].apply(.named("sampledEngine"), 2)
                #expect(result == [0, 2])
            }
        }
    }

    /// Makes a library of modules that were compiled beside the tests. Symbols of Apus are left to the program that loads it.
    static func link(_ modules: [String], to library: String) async throws -> String {
        let folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        let objects = try modules.flatMap { module in
            let folder = folder.appending(path: module + ".build")
            return try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".o") }
                .map { folder.appending(path: $0).path }
        }
        try #require(!objects.isEmpty)
        let linker = try ProgramProcess("/usr/bin/env", ["swiftc", "-emit-library", "-o", library] + objects)
        let (status, output) = await linker.result()
        try #require(status == 0, "\(output)")
        return library
    }
}
