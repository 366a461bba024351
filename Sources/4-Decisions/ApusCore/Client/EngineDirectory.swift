package import ApusWire

/// The engines that a client knows of, and the abilities of each that ipyparallel's engines do not have.
///
/// Two sources fill the directory independently: notifications, and the hub's answers to questions for all engines. A
/// notification that comes while a question is open may be newer than the answer, so it is applied again after the answer.
package struct EngineDirectory: Sendable {
    /// A notification that an engine has come or gone.
    package enum News: Sendable, Equatable {
        /// With the content of the notification.
        case added(EngineID, EngineUUID, JSONValue)
        case removed(EngineID, EngineUUID)
    }

    /// A question for all engines that is open.
    package struct Question: Sendable, Equatable {
        fileprivate let newsBefore: Int
    }

    package private(set) var engines: [EngineID: EngineUUID] = [:]
    /// The place whose processes' memory an engine can map, for engines that say so.
    private var memoryPlaces: [EngineUUID: String] = [:]
    /// Whether an engine stops a task at its run limit; an engine of which that is unknown is missing.
    private var limits: [EngineUUID: Bool] = [:]
    /// Engines of an earlier controller that tell the present one what they hold of it, whether they have come back or not.
    private var reporting: Set<EngineUUID> = []
    /// Notifications that came since the first of the open questions was asked, in order.
    private var news: [News] = []
    /// How many questions are open.
    private(set) var openQuestions = 0

    package init() {}

    // MARK: Questions

    package mutating func ask() -> Question {
        self.openQuestions += 1
        return Question(newsBefore: self.news.count)
    }

    /// Closes a question that has its answer, or will have none.
    package mutating func close(_ question: Question) {
        precondition(self.openQuestions > 0, "a question is closed that is not open")
        self.openQuestions -= 1
        if self.openQuestions == 0 { self.news = [] }
    }

    /// Takes the answer to an open question: the content of a `connection_reply`. False when it lists no engines.
    package mutating func take(_ answer: JSONValue, to question: Question) -> Bool {
        guard let engines = answer["engines"]?.object else { return false }
        let apus = answer["apus"]
        self.reporting = Set((apus?["reports"]?.array ?? []).compactMap { $0.string.map { EngineUUID($0) } })
        let limiting = apus?["limits"]?.array.map { Set($0.compactMap { $0.int }) }
        // Answers of engines that were asked about their limits are kept.
        let knownLimits = self.limits
        (self.engines, self.memoryPlaces, self.limits) = ([:], [:], [:])
        for (id, uuid) in engines {
            guard let number = Int(id), let uuid = uuid.string.map({ EngineUUID($0) }) else { continue }
            self.engines[EngineID(number)] = uuid
            self.memoryPlaces[uuid] = apus?["memory"]?[id]?.string
            self.limits[uuid] = limiting?.contains(number) ?? knownLimits[uuid]
        }
        for news in self.news[question.newsBefore...] { self.note(news) }
        return true
    }

    // MARK: Notifications

    package mutating func take(_ news: News) {
        if self.openQuestions > 0 { self.news.append(news) }
        self.note(news)
    }

    private mutating func note(_ news: News) {
        switch news {
        case .added(let id, let uuid, let notification):
            self.engines[id] = uuid
            self.memoryPlaces[uuid] = notification["apus"]?["memory"]?.string
            self.limits[uuid] = notification["apus"]?["limits"]?.bool
        case .removed(let id, let uuid):
            // The id may be another engine's by now.
            if self.engines[id] == uuid { self.engines.removeValue(forKey: id) }
            self.memoryPlaces.removeValue(forKey: uuid)
            self.limits.removeValue(forKey: uuid)
        }
    }

    /// Removes all engines, because the controller has ended.
    mutating func removeAll() { (self.engines, self.memoryPlaces, self.limits) = ([:], [:], [:]) }

    // MARK: What is known

    package func id(of uuid: EngineUUID) -> EngineID? { self.engines.first { $0.value == uuid }?.key }

    /// Whether all these engines can map the memory of processes at the place.
    package func shareMemory(_ engines: [EngineUUID], of place: String) -> Bool {
        engines.allSatisfy { self.memoryPlaces[$0] == place }
    }

    /// Whether the controller learns from the engine what an earlier controller gave it, so that a request that is sent to the engine
    /// again does not run twice.
    func reports(_ engine: EngineUUID) -> Bool { self.reporting.contains(engine) }

    /// Whether the engine stops a task at its run limit; nil while that is unknown.
    package func keepsLimits(_ engine: EngineUUID) -> Bool? { self.limits[engine] }

    mutating func note(_ engine: EngineUUID, keepsLimits: Bool) {
        if self.engines.values.contains(engine) { self.limits[engine] = keepsLimits }
    }
}
