import Apus
import ApusTestKit
import ApusTransport
import ApusWire
import Foundation
import Testing

enum Shipwreck: Error, Codable, Equatable {
    case onRocks(name: String, depth: Double)
    case lost
}

struct Leak<Where: Codable & Sendable & Equatable>: Error, Codable, Equatable { let place: Where }

private struct HiddenLeak: Error, Codable { let place: String }

/// Codable, and localized.
struct Storm: LocalizedError, Codable, Equatable {
    let force: Int
    var errorDescription: String? { "A storm of force \(self.force)." }
}

/// Localized, and not Codable.
private final class Mutiny: LocalizedError, CustomStringConvertible, @unchecked Sendable {
    var errorDescription: String? { "The crew will not sail." }
    var failureReason: String? { "There is no rum." }
    var recoverySuggestion: String? { "Buy rum." }
    var description: String { "mutiny!" }
}

/// Encodes a value that it cannot decode.
struct Unreadable: Error, Codable {
    init() {}
    init(from decoder: any Decoder) throws { throw Shipwreck.lost }
}

@Remote
private func sink(_ how: String) throws -> Int {
    switch how {
    case "rocks": throw Shipwreck.onRocks(name: "Scylla", depth: 2.5)
    case "lost": throw Shipwreck.lost
    case "leak": throw Leak(place: [1, 2])
    case "hidden": throw HiddenLeak(place: "keel")
    case "storm": throw Storm(force: 12)
    case "mutiny": throw Mutiny()
    case "file": throw CocoaError(.fileNoSuchFile)
    case "unreadable": throw Unreadable()
    case "large": throw Leak(place: String(repeating: "x", count: 100_000))
    default: return 1
    }
}

@Remote
private func sinkElsewhere(_ how: String) async throws -> Int {
    try await EngineContext.client().loadBalancedView().apply($sink, how)
}

/// Catches its task's error, and throws an equal one itself.
@Remote
private func sinkByItself(_ how: String) async throws -> Int {
    do { return try await EngineContext.client().loadBalancedView().apply($sink, how) } catch { throw Shipwreck.lost }
}

@Suite("Errors of functions", .timeLimit(.minutes(1)))
struct ErrorTests {
    @Test("A Codable error is thrown at the client as itself, and the client knows where it was raised")
    func typed() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            do {
                _ = try await client[1].apply($sink, "rocks")
                Issue.record("nothing was thrown")
            } catch let error as Shipwreck {
                #expect(error == .onRocks(name: "Scylla", depth: 2.5))
                let remote = client.remoteError(of: error)
                #expect(remote?.name == "Shipwreck")
                #expect(remote?.engineID == 1)
                let traceback = remote?.traceback.joined(separator: "\n") ?? ""
                #expect(traceback.contains("ErrorTests.swift"))
                #expect(traceback.contains("called with 'rocks'"))
            }
            await #expect(throws: Leak(place: [1, 2])) { try await client.loadBalancedView().apply($sink, "leak") }
            await #expect(throws: Storm(force: 12)) { try await client.loadBalancedView().apply($sink, "storm") }
            #expect(client.remoteError(of: Shipwreck.lost) == nil, "none was raised")
            #expect(client.remoteError(of: CocoaError(.fileNoSuchFile)) == nil)
            let result = try client[0].applyAsync($sink, "lost")
            _ = try await result.wait()
            #expect(result.metadata[0].error as? Shipwreck == .lost)
            #expect(result.metadata[0].remoteError?.engineID == 0)
        }
    }

    @Test("Errors of several engines are themselves in the one that has them all")
    func composite() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            for view in [client[...], client.directView()] {
                let error = await #expect(throws: CompositeError.self) { try await view.apply($sink, "lost") }
                #expect(error?.errors.map { $0 as? Shipwreck } == [.lost, .lost, .lost])
                #expect(error?.remoteErrors.map { $0?.engineID } == [0, 1, 2])
                #expect(error?.description.contains("[2:apply] Shipwreck: lost") == true)
                #expect(error?.localizedDescription == "3 of 3 calls failed")
            }
            let outcomes = try await client[...].applyAsync($sink, "lost").outcomes
            #expect(outcomes.count == 3)
            for outcome in outcomes { #expect(throws: Shipwreck.lost) { try outcome.get() } }
        }
    }

    @Test("An error whose type cannot be restored here is described", arguments: ["hidden", "unreadable", "large"])
    func described(how: String) async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let error = await #expect(throws: RemoteError.self) { try await client.loadBalancedView().apply($sink, how) }
            #expect(["HiddenLeak", "Unreadable", "Leak<String>"].contains(error?.name))
            let remote = client.remoteError(of: try #require(error))
            #expect(remote == error)
        }
    }

    @Test("The texts of a localized error arrive")
    func localized() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let view = client.loadBalancedView()
            let error = await #expect(throws: RemoteError.self) { try await view.apply($sink, "mutiny") }
            #expect(error?.name == "Mutiny")
            #expect(error?.value == "The crew will not sail.")
            #expect(error?.localizedDescription == "The crew will not sail.")
            #expect(error?.failureReason == "There is no rum.")
            #expect(error?.recoverySuggestion == "Buy rum.")
            #expect(error?.traceback.contains("  mutiny!") == true)
            let file = await #expect(throws: RemoteError.self) { try await view.apply($sink, "file") }
            #expect(file?.value == CocoaError(.fileNoSuchFile).localizedDescription)
            let storm = await #expect(throws: Storm.self) { try await view.apply($sink, "storm") }
            #expect(storm?.localizedDescription == "A storm of force 12.")
            #expect(client.remoteError(of: Storm(force: 12))?.localizedDescription == "A storm of force 12.")
        }
    }

    @Test("The description of our own errors is their message")
    func ownErrors() {
        let errors: [(any Error, String)] = [
            (ApusError(.timeout, "too late", cause: Shipwreck.lost), "too late"), (PickleError(.malformed, "torn"), "torn"),
            (WireError("a header is torn"), "a header is torn"), (TransportError("port 1 is in use"), "port 1 is in use"),
        ]
        for (error, message) in errors { #expect(error.localizedDescription == message) }
        let failed = ApusError(.badResult, "no result", cause: WireError("a header is torn"))
        #expect(failed.failureReason == "a header is torn")
    }

    @Test("Another task's error that a function passes on keeps its traceback")
    func passedOn() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let view = client.loadBalancedView()
            await #expect(throws: Shipwreck.onRocks(name: "Scylla", depth: 2.5)) { try await view.apply($sinkElsewhere, "rocks") }
            let way =
                client.remoteError(of: Shipwreck.onRocks(name: "Scylla", depth: 2.5))?.traceback.joined(separator: "\n") ?? ""
            #expect(way.contains("Shipwreck in sinkElsewhere("))
            #expect(way.contains("Shipwreck in sink("))
            #expect(way.contains("which waited for a task that failed"))

            await #expect(throws: Shipwreck.lost) { try await view.apply($sinkByItself, "rocks") }
            let own = client.remoteError(of: Shipwreck.lost)?.traceback.joined(separator: "\n") ?? ""
            #expect(own.contains("Shipwreck in sinkByItself("))
            #expect(!own.contains("which waited for a task that failed"))
            let mutiny = await #expect(throws: RemoteError.self) { try await view.apply($sinkElsewhere, "mutiny") }
            #expect(mutiny?.localizedDescription == "The crew will not sail.")
            #expect(mutiny?.recoverySuggestion == "Buy rum.")
        }
    }
}
