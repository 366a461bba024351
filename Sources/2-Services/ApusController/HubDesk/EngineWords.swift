import ApusCore
import ApusWire

/// What an engine says of itself, as its registration, and the file of an earlier controller's engines, have it under `apus`.
struct EngineWords {
    /// Nil from ipyparallel's engines.
    private let apus: JSONValue?
    /// What it can run by its own words.
    let abilities: EngineAbilities

    /// - Parameter known: What the engine before can run: engines of one program say the same and share one set of names.
    init(_ apus: JSONValue?, known: EngineAbilities?) {
        self.apus = apus
        let abilities = Self.abilities(in: apus)
        if let known, known == abilities { self.abilities = known } else { self.abilities = abilities }
    }

    func request(_ uuid: EngineUUID, wantedID: EngineID?) -> EngineRegistry.Request {
        // Without what differs from engine to engine: most say the same.
        let words = self.apus?.object?.filter { !["pid", "host", "replaces"].contains($0.key) }
        return EngineRegistry.Request(
            uuid, wantedID: wantedID, understandsRecall: self.apus?["recall"]?.bool ?? false, abilities: self.abilities,
            resources: ResourceAmounts.reading(self.apus?["resources"] ?? .null), memoryPlace: self.apus?["memory"]?.string,
            announcement: words.map { .object($0) })
    }

    private static func abilities(in apus: JSONValue?) -> EngineAbilities {
        guard let apus, let python = apus["python"]?.bool else { return .stock }
        var names: Set<String> = []
        for function in apus["functions"]?.array ?? [] {
            // It is found by its whole name, and by what is left of it behind each dot.
            var name = (function.string ?? "")[...]
            while !name.isEmpty {
                names.insert(String(name))
                name = name.firstIndex(of: ".").map { name[name.index(after: $0)...] } ?? ""
            }
        }
        return EngineAbilities(runsPython: python, functions: names, build: apus["build"]?.string)
    }
}
