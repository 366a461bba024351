import ApusCore
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
        /// How many requests of either kind it has answered since it registered.
        public let completed: Int
    }

    /// Each target's work, by its id.
    public let engines: [EngineID: Engine]
    /// Tasks that no engine has yet.
    public let unassigned: Int
    /// Why tasks wait, by id, where the controller can say (ours can).
    public let waiting: [TaskID: String]
}

/// How long a controller has run, and which one it is.
public struct ControllerUptime: Sendable, Hashable {
    /// The time since the controller began.
    public let time: Duration
    /// The version of Apus that the controller is of.
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

    /// How busy the engines are, as the hub knows.
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

    /// Why those of the tasks wait that no engine has.
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

    /// The ids of all tasks that the hub keeps, by the time of their submission.
    public func hubHistory() async throws -> [TaskID] {
        let reply = try await self.connection.request(.historyRequest, content: [:], on: .query)
        return (reply["history"]?.array ?? []).compactMap { $0.string.map { TaskID($0) } }
    }

    /// Which of the tasks the hub knows to be pending, and which completed.
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

    /// Forgets finished tasks at the hub: these, and all of these engines; all that there are when neither is named.
    ///
    /// - Throws: ``ApusError`` with code `badArgument` when one of the tasks has not ended; nothing is forgotten then.
    public func purgeHubResults(_ tasks: [TaskID]? = nil, of engines: [EngineID] = []) async throws {
        let ids: JSONValue
        if let tasks { ids = .array(tasks.map { .string($0.text) }) } else { ids = engines.isEmpty ? "all" : [] }
        _ = try await self.hubRequest(
            .purgeRequest, ["msg_ids": ids, "engine_ids": .array(engines.map { .int($0.number) })])
    }

    /// Forgets finished tasks here: they are no longer in ``history``, and `getResult` asks the hub for them. Results that
    /// somebody holds stay what they are.
    ///
    /// - Throws: ``ApusError`` with code `badArgument` when one of the tasks has not ended; nothing is forgotten then.
    public func purgeLocalResults(_ tasks: [TaskID]? = nil) throws {
        let outstanding = self.outstanding
        let pending = tasks.map { $0.filter(outstanding.contains) } ?? Array(outstanding)
        if let first = pending.first {
            throw ApusError(.badArgument, "task '\(first)' has not ended, and cannot be forgotten before")
        }
        self.connection.withHistory { $0.forget(tasks.map { Set($0) }) }
    }

    /// Forgets finished tasks here and at the hub.
    public func purgeResults(_ tasks: [TaskID]? = nil) async throws {
        try self.purgeLocalResults(tasks)
        try await self.purgeHubResults(tasks)
    }

    /// Forgets everything that has ended, here and at the hub.
    public func purgeEverything() async throws { try await self.purgeResults() }
}

/// The tasks that each engine has or had, by id.
public struct QueuedTasks: Sendable {
    /// One engine's tasks.
    public struct Engine: Sendable {
        /// Direct messages that it has not answered.
        public let queue: [TaskID]
        /// Tasks of the load-balanced kind that it has not answered.
        public let tasks: [TaskID]
        /// What it has answered; our controller gives the last 1,024.
        public let completed: [TaskID]
    }

    /// Each target's tasks, by its id.
    public let engines: [EngineID: Engine]
    /// Tasks that no engine has yet.
    public let unassigned: [TaskID]
}
