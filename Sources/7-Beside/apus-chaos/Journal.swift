import Apus
import ApusWire
import Foundation

/// What a client has done, a line for each thing, for the verdict and for the client that takes its place.
struct Journal: Sendable {
    /// The lines of the clients before this one.
    let earlier: [JSONObject]
    private let path: String

    init(path: String) throws {
        self.path = path
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        // A line that the client before was killed in cannot be read, and is ended here.
        self.earlier = text.split(separator: "\n").compactMap { (try? JSONValue(parsing: String($0)))?.object }
        try append("\n", to: path)
    }

    func note(_ what: String, _ task: String, _ more: JSONObject = [:]) {
        let at = JSONValue.double((Date().timeIntervalSince1970 * 1000).rounded() / 1000)
        let line: JSONObject = ["at": at, "do": .string(what), "task": .string(task)]
        do { try append("\(JSONValue.object(line.merging(more) { $1 }))\n", to: self.path) } catch {
            fatalError("the journal \(self.path) cannot be written: \(error)")
        }
    }
}

extension JSONObject {
    /// An error as members of a journal's line, with the name that it has on the wire and in the records.
    init(failure error: any Error) {
        switch error {
        case let error as RemoteError: self = ["error": .string(error.name), "text": .string(error.value)]
        case let error as ApusError:
            let name = Self.namesOnTheWire[error.code]?.rawValue ?? error.code.description
            self = ["error": .string(name), "text": .string("\(error)")]
        default: self = ["error": .string("\(type(of: error))"), "text": .string("\(error)")]
        }
    }

    private static var namesOnTheWire: [ApusError.Code: ErrorName] {
        [
            .engineDied: .engineError, .taskAborted: .taskAborted, .taskTimeout: .taskTimeout,
            .impossibleDependency: .impossibleDependency, .invalidDependency: .invalidDependency,
            .noEnginesRegistered: .noEnginesRegistered, .unmetDependency: .unmetDependency,
        ]
    }
}
