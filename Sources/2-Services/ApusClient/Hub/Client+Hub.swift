import ApusCore
public import ApusWire
import NIOCore

/// The work of engines, and the tasks that no engine has yet, as the hub counts them.
public struct QueueStatus: Sendable {
    /// One engine's work.
    public struct Engine: Sendable {
        /// How many direct messages the engine has not answered.
        public let queue: Int
        /// How many load-balanced tasks the engine has not answered.
        public let tasks: Int
        /// How many requests of either kind the engine has answered since it registered.
        public let completed: Int
    }

    /// Each target's work, by the engine's id.
    public let engines: [EngineID: Engine]
    /// How many tasks no engine has yet.
    public let unassigned: Int
    /// Why tasks wait, by task id; empty where the controller cannot say (Apus's own can).
    public let waiting: [TaskID: String]
}

/// How long a controller has run, and its version.
public struct ControllerUptime: Sendable, Hashable {
    /// The time since the controller began.
    public let time: Duration
    /// The controller's version of Apus.
    public let version: String
}

extension Client {
    /// How long the controller has run, and its version.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` when the controller cannot say; Apus's own can.
    public func uptime() async throws -> ControllerUptime {
        try self.connection.require(.uptime)
        let reply = try await self.hubRequest(.uptimeRequest, [:])
        guard let seconds = reply["uptime"]?.double, seconds >= 0, seconds < 1e12, let version = reply["version"]?.string else {
            throw ApusError(.hubError, "the controller's answer about its uptime makes no sense: \(reply)")
        }
        return ControllerUptime(time: .seconds(seconds), version: version)
    }

    /// Asks the hub how much work each engine has, and how many tasks no engine has yet.
    public func queueStatus(_ targets: Targets = .all) async throws -> QueueStatus {
        let reply = try await self.queueReply(targets, verbose: false)
        var engines: [EngineID: QueueStatus.Engine] = [:]
        for (key, value) in reply.object ?? [:] {
            guard let id = Int(key), let counts = value.object else { continue }
            engines[EngineID(id)] = QueueStatus.Engine(
                queue: counts["queue"]?.int ?? 0, tasks: counts["tasks"]?.int ?? 0, completed: counts["completed"]?.int ?? 0)
        }
        return QueueStatus(
            engines: engines, unassigned: reply["unassigned"]?.int ?? 0, waiting: Self.reasons(reply[ApusMember.waiting]))
    }

    /// Why the task waits, in a sentence; nil when an engine has it, when it has ended, and when the controller never had it.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` when the controller cannot say; Apus's own can.
    public func whyWaiting(_ task: TaskID) async throws -> String? { try await self.whyWaiting([task])[task] }

    /// Why those of the tasks wait that no engine has yet, by task id.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` when the controller cannot say; Apus's own can.
    public func whyWaiting(_ tasks: [TaskID]) async throws -> [TaskID: String] {
        try self.connection.require(.reasons)
        if tasks.isEmpty { return [:] }
        let content: JSONObject = [
            "targets": .null, "verbose": false, ApusMember.tasks.description: .array(tasks.map { .string($0.text) }),
        ]
        return Self.reasons(try await self.connection.request(.queueRequest, content: content, on: .query)[ApusMember.waiting])
    }

    private static func reasons(_ value: JSONValue?) -> [TaskID: String] {
        var reasons: [TaskID: String] = [:]
        for (id, reason) in value?.object ?? [:] { reasons[TaskID(id)] = reason.string }
        return reasons
    }

    /// The ids of all tasks that the hub keeps, in order of submission.
    public func hubHistory() async throws -> [TaskID] {
        let reply = try await self.connection.request(.historyRequest, content: [:], on: .query)
        return (reply["history"]?.array ?? []).compactMap { $0.string.map { TaskID($0) } }
    }

    /// Asks the hub which of the tasks are pending, and which have completed.
    ///
    /// - Throws: ``ApusError`` with code `resultNotFound` when the hub does not know one of them.
    public func resultStatus(_ tasks: [TaskID]) async throws -> (pending: [TaskID], completed: [TaskID]) {
        let reply = try await self.hubRequest(
            .resultRequest, ["msg_ids": .array(tasks.map { .string($0.text) }), "status_only": true])
        return (Self.ids(reply["pending"]), Self.ids(reply["completed"]))
    }

    private static func ids(_ value: JSONValue?) -> [TaskID] { (value?.array ?? []).compactMap { $0.string.map { TaskID($0) } } }

    /// The ids of the tasks that engines have or had, and of those that no engine has yet.
    public func queuedTasks(_ targets: Targets = .all) async throws -> QueuedTasks {
        let reply = try await self.queueReply(targets, verbose: true)
        var engines: [EngineID: QueuedTasks.Engine] = [:]
        for (key, value) in reply.object ?? [:] {
            guard let id = Int(key), value.object != nil else { continue }
            engines[EngineID(id)] = QueuedTasks.Engine(
                queue: Self.ids(value["queue"]), tasks: Self.ids(value["tasks"]), completed: Self.ids(value["completed"]))
        }
        return QueuedTasks(engines: engines, unassigned: Self.ids(reply["unassigned"]))
    }

    private func queueReply(_ targets: Targets, verbose: Bool) async throws -> JSONValue {
        let wanted: JSONValue
        switch targets {
        case .all: wanted = .null
        case .engines: wanted = .array(try self.connection.resolve(targets).map { .int($0.id.number) })
        }
        return try await self.connection.request(
            .queueRequest, content: ["targets": wanted, "verbose": .bool(verbose)], on: .query)
    }

    // MARK: Forgetting

    /// Deletes the hub's records of finished tasks: of these tasks, and of all tasks of these engines; of all tasks when neither
    /// is named.
    ///
    /// - Throws: ``ApusError`` with code `badArgument` when one of the tasks has not ended; nothing is deleted then.
    public func purgeHubResults(_ tasks: [TaskID]? = nil, of engines: [EngineID] = []) async throws {
        let ids: JSONValue
        if let tasks { ids = .array(tasks.map { .string($0.text) }) } else { ids = engines.isEmpty ? "all" : [] }
        _ = try await self.hubRequest(
            .purgeRequest, ["msg_ids": ids, "engine_ids": .array(engines.map { .int($0.number) })])
    }

    /// Forgets finished tasks at this client: these tasks, or all.
    ///
    /// The tasks are no longer in ``history``, and `getResult` asks the hub for them. Results that are still held keep their
    /// values.
    ///
    /// - Throws: ``ApusError`` with code `badArgument` when one of the tasks (nil: any task of this client) has not ended;
    ///   nothing is forgotten then.
    public func purgeLocalResults(_ tasks: [TaskID]? = nil) throws {
        let outstanding = self.outstanding
        let pending = tasks.map { $0.filter(outstanding.contains) } ?? Array(outstanding)
        if let first = pending.first {
            throw ApusError(.badArgument, "task '\(first)' has not ended, and cannot be forgotten before")
        }
        self.connection.withHistory { $0.forget(tasks.map { Set($0) }) }
    }

    /// Forgets finished tasks at this client, and deletes the hub's records of them.
    public func purgeResults(_ tasks: [TaskID]? = nil) async throws {
        try self.purgeLocalResults(tasks)
        try await self.purgeHubResults(tasks)
    }

    /// Forgets all finished tasks at this client, and deletes all the hub's records of finished tasks.
    public func purgeEverything() async throws { try await self.purgeResults() }
}

/// The ids of the tasks that each engine has or had, and of the tasks that no engine has yet.
public struct QueuedTasks: Sendable {
    /// One engine's tasks.
    public struct Engine: Sendable {
        /// Direct messages that the engine has not answered.
        public let queue: [TaskID]
        /// Load-balanced tasks that the engine has not answered.
        public let tasks: [TaskID]
        /// Requests that the engine has answered; Apus's controller gives the last 1,024.
        public let completed: [TaskID]
    }

    /// Each target's tasks, by the engine's id.
    public let engines: [EngineID: Engine]
    /// Tasks that no engine has yet.
    public let unassigned: [TaskID]
}
