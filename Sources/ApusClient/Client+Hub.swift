public import ApusWire
import NIOCore

/// What an engine has to do, as the hub counts it.
public struct QueueStatus: Sendable {
    /// One engine's work.
    public struct Engine: Sendable {
        /// Direct messages that it has not answered.
        public let queue: Int
        /// Tasks of the load-balanced kind that it has not answered.
        public let tasks: Int
        public let completed: Int
    }

    public let engines: [EngineID: Engine]
    /// Tasks that no engine has yet.
    public let unassigned: Int
    /// Why tasks wait, by id, where the controller can say (ours can).
    public let waiting: [TaskID: String]
}

extension Client {
    /// How busy the engines are, as the hub knows.
    public func queueStatus(_ targets: Targets = .all) async throws -> QueueStatus {
        let wanted: JSONValue
        switch targets {
        case .all: wanted = .null
        case .engines: wanted = .array(try self.connection.resolve(targets).map { .int($0.id.number) })
        }
        let reply = try await self.connection.request(.queueRequest, content: ["targets": wanted, "verbose": false], on: .query)
        var engines: [EngineID: QueueStatus.Engine] = [:]
        for (key, value) in reply.object ?? [:] {
            guard let id = Int(key), let counts = value.object else { continue }
            engines[EngineID(id)] = QueueStatus.Engine(
                queue: counts["queue"]?.int ?? 0, tasks: counts["tasks"]?.int ?? 0, completed: counts["completed"]?.int ?? 0)
        }
        var waiting: [TaskID: String] = [:]
        for (id, reason) in reply["apus_waiting"]?.object ?? [:] { waiting[TaskID(id)] = reason.string }
        return QueueStatus(engines: engines, unassigned: reply["unassigned"]?.int ?? 0, waiting: waiting)
    }

    /// The ids of all tasks that the hub keeps, by the time of their submission.
    public func hubHistory() async throws -> [TaskID] {
        let reply = try await self.connection.request(.historyRequest, content: [:], on: .query)
        return (reply["history"]?.array ?? []).compactMap { $0.string.map { TaskID($0) } }
    }

    /// Which of the tasks the hub knows to be pending, and which completed.
    public func resultStatus(_ tasks: [TaskID]) async throws -> (pending: [TaskID], completed: [TaskID]) {
        let reply = try await self.connection.request(
            .resultRequest, content: ["msg_ids": .array(tasks.map { .string($0.text) }), "status_only": true], on: .query)
        func ids(_ key: String) -> [TaskID] { (reply[key]?.array ?? []).compactMap { $0.string.map { TaskID($0) } } }
        return (ids("pending"), ids("completed"))
    }

    /// Forgets finished tasks at the hub: these, or all.
    public func purgeHubResults(_ tasks: [TaskID]? = nil) async throws {
        let ids: JSONValue = tasks.map { .array($0.map { .string($0.text) }) } ?? "all"
        _ = try await self.connection.request(.purgeRequest, content: ["msg_ids": ids, "engine_ids": []], on: .query)
    }
}
