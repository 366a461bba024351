import ApusCore
import ApusFunctions
import ApusWire
import Locks
import NIOCore

// Results from the hub's database.
extension ClientConnection {
    /// Asks the hub for these tasks' results, and gives the results that are there.
    ///
    /// - Throws: The error in the hub's answer; the hub refuses the request as a whole when it does not know one of the tasks.
    func fetchResults(of tasks: [TaskID]) async throws -> [TaskID: RecordedResult] {
        if tasks.isEmpty { return [:] }
        let reply = try await self.requestWithBuffers(
            .resultRequest, content: ["msg_ids": .array(tasks.map { .string($0.text) }), "status_only": false], on: .query)
        var results: [TaskID: RecordedResult] = [:]
        // The buffers of all results follow each other in the order of the sorted ids.
        var buffers = reply.buffers[...]
        for task in tasks.sorted(by: { $0.text.utf8.lexicographicallyPrecedes($1.text.utf8) }) {
            guard let record = reply.content[task.text] else { continue }
            let before = buffers
            if record["result_content"]?["status"] == "ok", record["result_header"]?["msg_type"] == "apply_reply" {
                _ = try ObjectBuffers.deserialize(&buffers)
            }
            results[task] = RecordedResult(record, buffers: Array(before.prefix(before.count - buffers.count)))
        }
        return results
    }

    /// Asks the hub for the results of pending tasks. A broadcast with one answer for all has no record of its own; its result is made
    /// of those of its copies, once all of them are there.
    func fetchResults(ofPending tasks: [TaskID]) async throws -> [TaskID: RecordedResult] {
        let copies = self.state.withLock { state in
            tasks.compactMap { id -> (id: TaskID, targets: [EngineUUID])? in
                guard let slot = state.core.slot(of: id), case let task = state.task(slot), task.isCoalescing else { return nil }
                return (id, task.targets)
            }
        }
        if copies.isEmpty { return try await self.fetchResults(of: tasks) }
        let ids = tasks.filter { id in !copies.contains { $0.id == id } }
        var results = try await self.fetchResults(
            of: ids + copies.flatMap { copy in copy.targets.map { Self.copy(of: copy.id, for: $0) } })
        for (id, targets) in copies {
            let parts = targets.compactMap { results.removeValue(forKey: Self.copy(of: id, for: $0)) }
            if parts.count == targets.count { results[id] = RecordedResult(gathering: parts, of: targets) }
        }
        return results
    }

    /// The id of a broadcast's copy for an engine.
    static func copy(of broadcast: TaskID, for engine: EngineUUID) -> TaskID { TaskID("\(broadcast.text)_\(engine.text)") }
}

/// A task's reply and output, as the hub's database has them.
struct RecordedResult: Sendable {
    let reply: Message
    let output: TaskOutput

    fileprivate init(_ record: JSONValue, buffers: [ByteBuffer]) {
        func part(_ key: String) -> ByteBuffer { (record[key] ?? [:]).packed }
        self.reply = Message(
            identities: [], signature: ByteBuffer(),
            parts: MessageParts(
                header: part("result_header"), parent: part("header"), metadata: part("result_metadata"),
                content: part("result_content")), buffers: buffers)
        self.output = TaskOutput(hub: record["io"] ?? [:])
    }

    /// Makes one result of those of a broadcast's copies, in the order of their engines. If any has failed, the first failure is the
    /// result.
    fileprivate init(gathering parts: [RecordedResult], of engines: [EngineUUID]) {
        let failed = parts.first { $0.reply.content.textMember("status") != "ok" }
        guard let last = failed ?? parts.last else { preconditionFailure("a broadcast without engines has no result") }
        var metadata = (try? JSONValue(parsing: last.reply.metadata))?.object ?? [:]
        metadata[MetadataMember.broadcastTargets] = .array(engines.map { .string($0.text) })
        var message = last.reply.parts
        message.metadata = JSONValue.object(metadata).packed
        self.reply = Message(
            identities: [], signature: ByteBuffer(), parts: message,
            buffers: failed == nil ? parts.flatMap { Array($0.reply.buffers) } : [])
        self.output = TaskOutput()
    }
}

/// Asks the hub for results until all are there, or the tasks are no longer held.
final class HubPolling: Sendable {
    private struct Wanted: Sendable {
        let id: TaskID
        weak var task: PendingTask?
    }

    private let connection: ClientConnection
    private let wanted: [Wanted]

    init(connection: ClientConnection, tasks: [PendingTask]) {
        self.connection = connection
        self.wanted = tasks.map { Wanted(id: $0.id, task: $0) }
    }

    private var waiting: [PendingTask] { self.wanted.compactMap { $0.task }.filter { !$0.isDone } }

    func run() async {
        var pause = PollingPause()
        while !self.waiting.isEmpty {
            do { try await pause.wait() } catch { return }
            await self.ask()
        }
    }

    func ask() async {
        let waiting = self.waiting
        do {
            let results = try await self.connection.fetchResults(of: waiting.map { $0.id })
            for task in waiting {
                guard let result = results[task.id] else { continue }
                task.keep(result)
                task.finish()
            }
        } catch {
            let reason = (error as? RemoteError).map { ApusError(hub: $0) } ?? error as? ApusError
            for task in waiting {
                task.fail(reason ?? ApusError(.badResult, "a result from the hub cannot be read", cause: error))
            }
        }
    }
}

/// The growing pause between two questions to the hub.
struct PollingPause {
    private var next = Duration.milliseconds(20)

    mutating func wait() async throws {
        try await Task.sleep(for: self.next)
        self.next = min(self.next * 2, .seconds(1))
    }
}

extension TaskOutput {
    /// The output in a record of the hub's database.
    fileprivate init(hub io: JSONValue) {
        self.init()
        self.stdout = io["stdout"]?.string ?? ""
        self.stderr = io["stderr"]?.string ?? ""
        self.outputs = (io["outputs"]?.array ?? []).map { DisplayedOutput($0) }
        self.input = io["execute_input"]?.string ?? io["execute_input"]?["code"]?.string
        if let result = io["execute_result"], !result.isNull { self.result = DisplayedOutput(result) }
    }
}
