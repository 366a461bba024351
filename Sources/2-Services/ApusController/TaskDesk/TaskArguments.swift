import ApusCore
import ApusFunctions
import ApusStore
import ApusWire
import NIOCore
import Pickle

/// The arguments of a task that are other tasks' results (`apus_results`): these go from the engine that gave them to the one that
/// takes them by way of the controller, as they are, and never through a client.
final class TaskArguments: Sendable {
    private let call: IncompleteCall
    /// By the buffer that each takes the place of.
    private let places: [Int: TaskID]

    /// What a request says of results that are its arguments.
    ///
    /// - Throws: When it is not so.
    init(of request: Message) throws {
        self.places = try ResultPlaces(scanning: request.metadata).results
        self.call = try IncompleteCall(request.buffers, places: Array(self.places.keys))
    }

    /// The tasks whose results they are.
    var tasks: [TaskID] { Array(self.places.values) }

    /// The request with the results in their places. Buffers are not signed, so its signature stays.
    func completing(_ request: Message, with inputs: TaskInputs) -> Message {
        // An engine that says ok and sends no result leaves the call short of an argument; whoever runs it will say so.
        let results = self.places.mapValues { inputs.result(of: $0) }
        return Message(
            identities: Array(request.identities), signature: request.signature, parts: request.parts,
            buffers: self.call.completed(with: results))
    }
}

extension TaskInputs.Outcome {
    /// What a task gave, by its reply; nil for a task that ended without one.
    init(_ reply: Message?) {
        guard let reply, reply.content.textMember("status") == "ok" else {
            self = .none(why: "it failed")
            return
        }
        let kept = reply.forKeeping()
        self = kept.buffers.isEmpty ? .none(why: "it was no call, and has no result") : .result(Array(kept.buffers))
    }

    /// What the store knows of a task's result.
    nonisolated(nonsending) init(of task: TaskID, in store: any TaskStore) async {
        let records: [TaskRecord]
        do {
            records = try await store.records(
                of: [task], fields: [.id, .header, .resultHeader, .resultContent, .resultBuffers])
        } catch {
            self = .none(why: error.message)
            return
        }
        guard let record = records.first, !record.isStub else {
            self = .none(
                why: "the hub has no record of it: it was purged, newer ones took its place, or this cluster never had it")
            return
        }
        self = record.isFinished ? Self(record.reply) : .none(why: "it never ended, and nobody is running it")
    }
}
