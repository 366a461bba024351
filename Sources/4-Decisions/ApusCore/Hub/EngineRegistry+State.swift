package import ApusWire

extension EngineRegistry {
    /// The content of the engines file, by which a restarted controller finds its engines again.
    package struct State: Sendable, Equatable {
        /// Uuid text by id text.
        package var engines: [String: String]
        package var nextID: Int
        /// The announcements of engines, by uuid text; ipyparallel's engines have none.
        package var announcements: [String: JSONValue]

        package init(engines: [String: String], nextID: Int, announcements: [String: JSONValue] = [:]) {
            self.engines = engines
            self.nextID = nextID
            self.announcements = announcements
        }
    }

    /// Includes engines of an earlier controller that have not come yet: if this controller is killed now, the next one has to wait for
    /// them too, because tasks may run there.
    package var state: State {
        let engines = (self.engines + self.expected).sorted { $0.id < $1.id }
        return State(
            engines: Dictionary(uniqueKeysWithValues: engines.map { (String($0.id.number), $0.uuid.text) }), nextID: self.nextID,
            announcements: Dictionary(
                uniqueKeysWithValues: engines.compactMap { engine in engine.announcement.map { (engine.uuid.text, $0) } }))
    }
}

extension EngineRegistry.State {
    /// The file as ipyparallel's controllers write it, and in `apus` the announcements of engines; equal ones are stored once.
    package var json: JSONValue {
        let kinds = Set(self.announcements.values).map { ($0, $0.indentedText) }.sorted { $0.1 < $1.1 }.map { $0.0 }
        let numbers = Dictionary(uniqueKeysWithValues: kinds.enumerated().map { ($1, $0) })
        return [
            "engines": .object(self.engines.mapValues { .string($0) }), "next_id": .int(self.nextID),
            "apus": [
                "kinds": .array(kinds),
                "kind_of": .object(self.announcements.mapValues { numbers[$0].map { .int($0) } ?? .null }),
            ],
        ]
    }

    /// Nil when the file is not one of engines.
    package init?(_ json: JSONValue) {
        guard let engines = json["engines"]?.object, let nextID = json["next_id"]?.int else { return nil }
        let kinds = json["apus"]?["kinds"]?.array ?? []
        self.init(
            engines: engines.compactMapValues { $0.string }, nextID: nextID,
            announcements: (json["apus"]?["kind_of"]?.object ?? [:]).compactMapValues { number in
                number.int.flatMap { kinds.indices.contains($0) ? kinds[$0] : nil }
            })
    }
}
