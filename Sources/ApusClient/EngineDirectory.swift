import ApusWire

/// What a client knows of the engines: who is there, and what each can do that ipyparallel's cannot.
struct EngineDirectory: Sendable {
    private(set) var engines: [EngineID: EngineUUID] = [:]
    /// Whose memory an engine can map, of those that say so.
    private var memoryPlaces: [EngineUUID: String] = [:]
    /// Whether an engine stops a task at its run limit, of those of which it is known.
    private var limits: [EngineUUID: Bool] = [:]

    init() {}

    /// - Parameter reply: The answer to a `connection_request`; nil when it lists no engines.
    init?(_ reply: JSONValue) {
        guard let engines = reply["engines"]?.object else { return nil }
        let apus = reply["apus"]
        let limiting = apus?["limits"]?.array.map { Set($0.compactMap { $0.int }) }
        for (id, uuid) in engines {
            guard let number = Int(id), let uuid = uuid.string.map({ EngineUUID($0) }) else { continue }
            self.engines[EngineID(number)] = uuid
            self.memoryPlaces[uuid] = apus?["memory"]?[id]?.string
            self.limits[uuid] = limiting?.contains(number)
        }
    }

    /// - Parameter notification: The content of a `registration_notification`.
    mutating func add(_ id: EngineID, _ uuid: EngineUUID, _ notification: JSONValue) {
        self.engines[id] = uuid
        self.memoryPlaces[uuid] = notification["apus"]?["memory"]?.string
        self.limits[uuid] = notification["apus"]?["limits"]?.bool
    }

    mutating func remove(_ id: EngineID, _ uuid: EngineUUID) {
        self.engines.removeValue(forKey: id)
        self.memoryPlaces.removeValue(forKey: uuid)
        self.limits.removeValue(forKey: uuid)
    }

    /// What is found out of engines stays known when the list of them is fetched again.
    mutating func replace(with other: EngineDirectory) {
        let known = self.limits
        self = other
        for uuid in self.engines.values where self.limits[uuid] == nil { self.limits[uuid] = known[uuid] }
    }

    func id(of uuid: EngineUUID) -> EngineID? { self.engines.first { $0.value == uuid }?.key }

    /// Whether all these engines can map the memory of processes there.
    func shareMemory(_ engines: [EngineUUID], of place: String) -> Bool {
        engines.allSatisfy { self.memoryPlaces[$0] == place }
    }

    /// Whether the engine stops a task at its run limit; nil while nobody knows.
    func keepsLimits(_ engine: EngineUUID) -> Bool? { self.limits[engine] }

    mutating func note(_ engine: EngineUUID, keepsLimits: Bool) {
        if self.engines.values.contains(engine) { self.limits[engine] = keepsLimits }
    }
}
