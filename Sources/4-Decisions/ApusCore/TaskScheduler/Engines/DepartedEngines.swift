internal import ApusWire
internal import DequeModule

/// The engines that left last, at most 10,000, and their serial numbers.
struct DepartedEngines: Sendable {
    private static let limit = 10_000
    private var serials: [EngineUUID: Int32] = [:]
    /// Engines in the order they left. An engine that came back and left again is listed twice, and may be forgotten earlier.
    private var order: Deque<EngineUUID> = []

    mutating func insert(_ engine: EngineUUID, serial: Int32) {
        self.serials[engine] = serial
        self.order.append(engine)
        if self.order.count > Self.limit { self.serials[self.order.removeFirst()] = nil }
    }

    func serial(of engine: EngineUUID) -> Int32? { self.serials[engine] }

    /// Removes the engine and gives its serial number; nil if the engine is not listed.
    mutating func remove(_ engine: EngineUUID) -> Int32? { self.serials.removeValue(forKey: engine) }
}
