/// The small integer by which users name an engine: 0, 1, 2 and so on, given by the hub and never given twice.
public struct EngineID: Hashable, Comparable, Sendable, Codable, CustomStringConvertible, ExpressibleByIntegerLiteral {
    /// The id as a plain number.
    public let number: Int

    /// The id of this number, whether or not there is such an engine.
    public init(_ number: Int) { self.number = number }
    public init(integerLiteral value: Int) { self.number = value }
    public init(from decoder: any Decoder) throws {
        self.number = try decoder.singleValueContainer().decode(Int.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(self.number)
    }

    public var description: String { String(self.number) }

    public static func < (left: EngineID, right: EngineID) -> Bool { left.number < right.number }
}

/// The text by which the wire names an engine: its session id, which is also its socket identity.
///
/// New at every engine start, but for an engine whose launcher keeps its place: that one is started again under its old uuid, by which
/// the hub gives it its old id. Peers written in Python paste it into variable names, so it holds only letters, digits, underscores and
/// dashes.
public struct EngineUUID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The id as messages carry it.
    public let text: String

    /// The id of this text, whether or not there is such an engine.
    public init(_ text: String) { self.text = text }

    public var description: String { self.text }

    public static func < (left: EngineUUID, right: EngineUUID) -> Bool { left.text < right.text }
}

/// The id of a request message, and so of the task that it asks for (`msg_id` on the wire).
public struct MessageID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The id as messages carry it.
    public let text: String

    /// The id of this text, for instance one from another client.
    public init(_ text: String) { self.text = text }

    public var description: String { self.text }

    public static func < (left: MessageID, right: MessageID) -> Bool { left.text < right.text }
}

/// A task is named by the message that asked for it.
public typealias TaskID = MessageID
