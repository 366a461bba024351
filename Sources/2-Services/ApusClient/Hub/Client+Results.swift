import ApusCore
public import ApusWire
import ApusFunctions
import Pickle

extension Client {
    /// Gets the results of tasks that this or any other client has sent.
    ///
    /// A result that this client still holds is used; every other comes from the hub's database, once it is there.
    ///
    /// - Parameter type: The type of the tasks' results; a task that is a map's chunk has an array.
    /// - Throws: ``ApusError`` with code `resultNotFound` when the hub does not know one of them.
    public func getResult<Output: Decodable & Sendable>(_ tasks: [TaskID], as type: Output.Type = Output.self) async throws
        -> AsyncResult<[Output]>
    {
        AsyncResult(try await self.tasks(tasks), client: self, isSingle: false) {
            try $0.map { try decodeResult(type, from: $0) }
        }
    }

    /// Gets the result of a task that this or any other client has sent.
    public func getResult<Output: Decodable & Sendable>(_ task: TaskID, as type: Output.Type = Output.self) async throws
        -> AsyncResult<Output>
    {
        AsyncResult(try await self.tasks([task]), client: self, isSingle: true) { try decodeResult(type, from: $0[0]) }
    }

    /// Runs finished tasks again, under new ids, on any engine.
    ///
    /// - Throws: ``ApusError`` with code `resultNotFound` when the hub does not know one of them.
    public func resubmit<Output: Decodable & Sendable>(_ tasks: [TaskID], as type: Output.Type = Output.self) async throws
        -> AsyncResult<[Output]>
    {
        let reply = try await self.hubRequest(.resubmitRequest, ["msg_ids": .array(tasks.map { .string($0.text) })])
        let ids = try tasks.map { task in
            guard let id = reply["resubmitted"]?[task.text]?.string else {
                throw ApusError(.hubError, "the hub does not say under which id task '\(task)' runs again")
            }
            return TaskID(id)
        }
        let pending = await self.tasks(fromHub: ids)
        return AsyncResult(pending, client: self, isSingle: false) { try $0.map { try decodeResult(type, from: $0) } }
    }

    private func tasks(_ ids: [TaskID]) async throws -> [PendingTask] {
        let held = self.connection.tasks(Set(ids))
        let missing = ids.filter { held[$0] == nil }
        if missing.isEmpty { return ids.compactMap { held[$0] } }
        // The hub is asked for the status first, so that an unknown id is an error now and not a wait for ever.
        _ = try await self.resultStatus(missing)
        let fetched = Dictionary(zip(missing, await self.tasks(fromHub: missing))) { first, _ in first }
        return ids.compactMap { held[$0] ?? fetched[$0] }
    }

    /// Tasks whose results are fetched from the hub once they are there.
    private func tasks(fromHub ids: [TaskID]) async -> [PendingTask] {
        let tasks = ids.map { PendingTask(id: $0, targets: [], submitted: .now, ignoresOutput: true) }
        let polling = HubPolling(connection: self.connection, tasks: tasks)
        // Results that the hub has already are given at once.
        await polling.ask()
        Task { await polling.run() }
        return tasks
    }

    /// Sends a request to the hub and gives the answer's content; an error of the hub is thrown as ``ApusError``.
    func hubRequest(_ type: MessageType, _ content: JSONObject) async throws -> JSONValue {
        do { return try await self.connection.request(type, content: content, on: .query) } catch let error as RemoteError {
            throw ApusError(hub: error)
        }
    }
}

extension ApusError {
    /// Makes the error that the hub's error stands for.
    init(hub error: RemoteError) {
        switch ErrorName(rawValue: error.name) {
        case .keyError: self.init(.resultNotFound, "the hub has no such task: \(error.value)", cause: error)
        case .indexError: self.init(.badArgument, "the hub refuses: \(error.value)", cause: error)
        case .notImplementedError: self.init(.notSupported, error.value, cause: error)
        default: self.init(.hubError, "the hub answered with an error: \(error.summary)", cause: error)
        }
    }
}
