import ApusCore
import ApusWire

/// What an engine says about itself: the member `apus` of its registration, or of the file of an earlier controller's engines.
struct EngineWords {
    /// Nil from ipyparallel's engines.
    private let apus: JSONValue?
    /// What the engine says that it can run.
    let abilities: EngineAbilities

    /// - Parameter known: What the engine before can run. Engines of one program say the same, and so share one set of names.
    init(_ apus: JSONValue?, known: EngineAbilities?) {
        self.apus = apus
        let abilities = Self.abilities(in: apus)
        if let known, known == abilities { self.abilities = known } else { self.abilities = abilities }
    }

    func request(_ uuid: EngineUUID, wantedID: EngineID?) -> EngineRegistry.Request {
        // Without the members that differ from engine to engine, so that engines of one program say the same.
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
            // A function is found by its whole name, and by the rest of the name behind each dot.
            var name = (function.string ?? "")[...]
            while !name.isEmpty {
                names.insert(String(name))
                name = name.firstIndex(of: ".").map { name[name.index(after: $0)...] } ?? ""
            }
        }
        return EngineAbilities(runsPython: python, functions: names, build: apus["build"]?.string)
    }
}
