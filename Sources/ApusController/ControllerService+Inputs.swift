import ApusCore
import ApusFunctions
import ApusStore
import ApusWire
import NIOCore
import Pickle

// Results that are arguments of other tasks (`apus_results`): they go from the engine that gave them to the one that takes them by
// way of the controller, as they are, and never through a client.

/// The arguments of a task that are other tasks' results.
final class TaskInputs: Sendable {
    let call: IncompleteCall
    /// By the buffer that each takes the place of.
    let results: [Int: TaskID]

    init(_ call: IncompleteCall, _ results: [Int: TaskID]) {
        self.call = call
        self.results = results
    }
}

/// A result that live tasks take for an argument. It is kept until the last of them has ended, whatever the store lets go of.
struct WantedResult {
    /// The live tasks that take it.
    var takers: Set<TaskID> = []
    /// As the reply carried it; nil while it is not there.
    var buffers: [ByteBuffer]?
    /// Those of the takers for which it is looked for.
    var sought: [TaskID] = []
}

extension ControllerService {
    // MARK: A task and its inputs

    /// The results that the request takes for arguments; nil for nearly all requests, which take none.
    ///
    /// - Throws: When what the request says of them is not so.
    func inputs(of message: Message, _ request: TaskRequest) throws -> TaskInputs? {
        if request.inputs.isEmpty { return nil }
        let places = try ResultPlaces(scanning: message.metadata).results
        return TaskInputs(try IncompleteCall(message.buffers, places: Array(places.keys)), places)
    }

    /// Notes who takes which results, and gives those that the scheduler must wait for.
    func want(_ inputs: TaskInputs, for task: TaskID) -> [TaskID] {
        var missing: [TaskID] = []
        for result in Set(inputs.results.values) {
            self.wanted[result, default: WantedResult()].takers.insert(task)
            if self.wanted[result]?.buffers == nil { missing.append(result) }
        }
        return missing.sorted { $0.text < $1.text }
    }

    /// The task has ended: nobody keeps results for it any more.
    func release(_ inputs: TaskInputs, of task: TaskID) {
        for result in inputs.results.values {
            self.wanted[result]?.takers.remove(task)
            if self.wanted[result]?.takers.isEmpty == true { self.wanted[result] = nil }
        }
    }

    /// The request with the results in their places. Buffers are not signed, so its signature stays.
    func completed(_ request: Message, _ inputs: TaskInputs) -> Message {
        // An engine that says ok and sends no result leaves the call short of an argument; whoever runs it will say so.
        let results = inputs.results.mapValues { self.wanted[$0]?.buffers ?? [] }
        return Message(
            identities: Array(request.identities), signature: request.signature, parts: request.parts,
            buffers: inputs.call.completed(with: results))
    }

    // MARK: Results as they come

    /// A task has ended, with this reply if an engine made one; tasks may want its result.
    func keepIfWanted(_ task: TaskID, _ reply: Message?) {
        guard !self.wanted.isEmpty, let sought = self.wanted[task]?.sought else { return }
        let outcome = Self.result(in: reply, of: task)
        if case .success(let buffers) = outcome { self.wanted[task]?.buffers = buffers }
        self.wanted[task]?.sought = []
        self.tell(sought, of: task, outcome)
    }

    /// Looks for the result of a task that the scheduler does not know, or that has ended there.
    func seekResult(of task: TaskID, for taker: TaskID) {
        let isNew = self.wanted[task]?.sought.isEmpty ?? true
        self.wanted[task]?.sought.append(taker)
        // One that an engine was given directly comes by when it ends.
        guard isNew, !self.direct.isQueued(task) else { return }
        self.flushChanges()
        Task {
            let outcome = await self.recordedResult(of: task)
            guard let sought = self.wanted[task]?.sought, !sought.isEmpty else { return }
            // Submitted after those that take its result, it comes by like others.
            if case .failure = outcome, self.live[task] != nil || self.direct.isQueued(task) { return }
            if case .success(let buffers) = outcome { self.wanted[task]?.buffers = buffers }
            self.wanted[task]?.sought = []
            self.tell(sought, of: task, outcome)
            self.performFollowUps()
            self.flushSockets()
            self.scheduleFlush()
        }
    }

    private func tell(_ takers: [TaskID], of task: TaskID, _ outcome: Result<[ByteBuffer], NoResult>) {
        for taker in takers {
            switch outcome {
            case .success: self.followUps.append(.resultFound(of: task, for: taker))
            case .failure(let reason): self.followUps.append(.resultMissing(of: task, for: taker, why: reason.description))
            }
        }
    }

    /// Why a task has no result to give.
    private struct NoResult: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    private func recordedResult(of task: TaskID) async -> Result<[ByteBuffer], NoResult> {
        let records: [TaskRecord]
        do {
            records = try await self.store.records(
                of: [task], fields: [.id, .header, .resultHeader, .resultContent, .resultBuffers])
        } catch {
            return .failure(NoResult(error.message))
        }
        guard let record = records.first, !record.isStub else {
            return .failure(
                NoResult("the hub has no record of it: it was purged, newer ones took its place, or this cluster never had it"))
        }
        guard record.isFinished else { return .failure(NoResult("it never ended, and nobody is running it")) }
        return Self.result(in: record.reply, of: task)
    }

    private static func result(in reply: Message?, of task: TaskID) -> Result<[ByteBuffer], NoResult> {
        guard let reply, reply.content.textMember("status") == "ok" else { return .failure(NoResult("it failed")) }
        let kept = reply.forKeeping()
        if kept.buffers.isEmpty { return .failure(NoResult("it was no call, and has no result")) }
        return .success(Array(kept.buffers))
    }
}

/// What a request's metadata says of results that are its arguments: `"apus_results": [[2, "<msg_id>"], …]`, each with the buffer
/// that it takes the place of.
struct ResultPlaces {
    private(set) var results: [Int: TaskID] = [:]

    init(scanning metadata: ByteBuffer) throws(WireError) {
        let found = try metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) -> JSONValue? in
            guard try cursor.find("apus_results") else { return nil }
            return try cursor.readValue()
        }
        try self.init(found ?? [])
    }

    init(_ json: JSONValue) throws(WireError) {
        for pair in json.array ?? [] {
            guard let parts = pair.array, parts.count == 2, let place = parts[0].int, let task = parts[1].string,
                self.results.updateValue(TaskID(task), forKey: place) == nil
            else { throw WireError("'apus_results' is \(json), no list of buffers and tasks") }
        }
    }
}
