public import ApusWire

/// Which engines a view addresses.
public enum Targets: Sendable, Hashable, CustomStringConvertible {
    /// These engines, in this order.
    case engines([EngineID])
    /// Every engine that is registered at the moment of each call, engines that register later included.
    case all

    public var description: String {
        switch self {
        case .engines(let ids): "[" + ids.map { "\($0)" }.joined(separator: ", ") + "]"
        case .all: "all"
        }
    }
}

extension Targets: ExpressibleByIntegerLiteral, ExpressibleByArrayLiteral {
    public init(integerLiteral value: Int) { self = .engines([EngineID(value)]) }
    public init(arrayLiteral elements: Int...) { self = .engines(elements.map { EngineID($0) }) }
}

extension ClientConnection {
    /// The engines that the targets mean now.
    ///
    /// - Throws: ``ApusError`` with code `noEnginesRegistered` or `noSuchEngine`.
    func resolve(_ targets: Targets) throws -> [(id: EngineID, uuid: EngineUUID)] {
        if let ended = self.ended { throw ended }
        let engines = self.engines
        switch targets {
        case .all:
            guard !engines.isEmpty else { throw Self.noEngines }
            return engines.sorted { $0.key < $1.key }.map { (id: $0.key, uuid: $0.value) }
        case .engines(let ids):
            guard !ids.isEmpty else { throw Self.noEngines }
            return try ids.map { id in
                guard let uuid = engines[id] else {
                    if engines.isEmpty { throw Self.noEngines }
                    throw ApusError(
                        .noSuchEngine,
                        "there is no engine \(id); registered are \(engines.keys.sorted().map { "\($0)" }.joined(separator: ", "))"
                    )
                }
                return (id: id, uuid: uuid)
            }
        }
    }

    private static let noEngines = ApusError(.noEnginesRegistered, "\(NoEngineText.isRegistered); \(NoEngineText.remedy)")
}
