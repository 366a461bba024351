internal import ApusController
internal import ApusCore
internal import ApusWire
internal import Foundation
internal import Logging

/// A message between a cluster and its controller in a process of its own: a line of JSON. Both are the same program, so both know
/// the same lines.
protocol ControllerLine: Codable, Sendable {}

extension ControllerLine {
    /// The value as a line.
    var line: String {
        do { return String(decoding: try JSONEncoder().encode(self), as: UTF8.self) } catch {
            preconditionFailure("\(self) cannot be written as JSON: \(error)")
        }
    }

    /// Reads a line; nil if it is none of this kind.
    init?(line: String) {
        guard let value = try? JSONDecoder().decode(Self.self, from: Data(line.utf8)) else { return nil }
        self = value
    }
}

/// What a controller that is a process of its own is to be; the first line that its cluster sends it.
struct ControllerOrder: ControllerLine {
    let options: ControllerOptions
    let profile: String
    let clusterID: String
    let clientFile: String
    let engineFile: String
    let reuse: Bool
    /// Whether the controller takes up the engines and tasks of the one before it.
    let restore: Bool
    /// The serial number of the last record of an earlier cluster, whose tasks are left alone.
    let mark: Int64
    let logLevel: String

    init(_ options: ControllerOptions, _ files: ControllerHost.Files, mark: Int64, logLevel: Logger.Level) {
        self.options = options
        self.profile = files.profile.path
        self.clusterID = files.clusterID
        (self.clientFile, self.engineFile) = (files.clientFile, files.engineFile)
        (self.reuse, self.restore) = (files.reuse, files.restore)
        self.mark = mark
        self.logLevel = logLevel.rawValue
    }

    var files: ControllerHost.Files {
        var files = ControllerHost.Files(
            profile: ProfileDirectory(path: self.profile), clusterID: self.clusterID, reuse: self.reuse)
        files.restore = self.restore
        (files.clientFile, files.engineFile) = (self.clientFile, self.engineFile)
        return files
    }
}

/// A line from a cluster to its controller, after the order.
enum ControllerInstruction: ControllerLine {
    /// No engine is coming any more, for this reason; nil: one may come again.
    case expectNoEngine(String?)
    /// The process of this engine has ended. The end is the content of a message.
    case engineProcessEnded(uuid: String, end: String)

    static func engineProcessEnded(_ uuid: EngineUUID, _ end: EngineEnd) -> ControllerInstruction {
        .engineProcessEnded(uuid: uuid.text, end: JSONValue.object(end.json).description)
    }
}

/// A line from a controller to its cluster.
enum ControllerNews: ControllerLine {
    /// The controller cannot start, and why.
    case failed(String)
    /// The controller can be reached. Both connections are the contents of connection files.
    ///
    /// - taken: How many tasks of the controller before this one were taken up.
    /// - mark: The order's mark or, where the controller takes up nothing, the serial number of the last record without an outcome.
    case listening(client: String, engine: String, taken: Int, mark: Int64)
    case joined(uuid: String, id: Int)
    case left(uuid: String, departure: Departure, hadWork: Bool)

    /// How the hub lost an engine.
    enum Departure: Codable, Sendable {
        case unregistered, shutDown, heartStopped, disconnected, replaced
        /// The end is the content of a message.
        case ended(String)
    }

    init(_ presence: EnginePresence) {
        switch presence {
        case .joined(let uuid, let id): self = .joined(uuid: uuid.text, id: id.number)
        case .left(let uuid, let cause, let hadWork): self = .left(uuid: uuid.text, departure: Departure(cause), hadWork: hadWork)
        }
    }

    /// The news that an engine has come or gone; nil for other news.
    var presence: EnginePresence? {
        switch self {
        case .failed, .listening: nil
        case .joined(let uuid, let id): .joined(EngineUUID(uuid), EngineID(id))
        case .left(let uuid, let departure, let hadWork): .left(EngineUUID(uuid), departure.cause, hadWork: hadWork)
        }
    }
}

extension ControllerNews.Departure {
    fileprivate init(_ cause: EngineRegistry.Departure) {
        switch cause {
        case .unregistered: self = .unregistered
        case .shutDown: self = .shutDown
        case .heartStopped: self = .heartStopped
        case .disconnected: self = .disconnected
        case .replaced: self = .replaced
        case .ended(let end): self = .ended(JSONValue.object(end.json).description)
        }
    }

    fileprivate var cause: EngineRegistry.Departure {
        switch self {
        case .unregistered: .unregistered
        case .shutDown: .shutDown
        case .heartStopped: .heartStopped
        case .disconnected: .disconnected
        case .replaced: .replaced
        case .ended(let text): .ended(EngineEnd((try? JSONValue(parsing: text)) ?? [:]))
        }
    }
}
