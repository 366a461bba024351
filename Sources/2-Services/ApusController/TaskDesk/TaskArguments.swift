import ApusCore
import ApusFunctions
import ApusStore
import ApusWire
import NIOCore
import Pickle

/// The arguments of a task that are results of other tasks (`apus_results`). Results go unchanged from engine to engine by way of
/// the controller, and never through a client.
final class TaskArguments: Sendable {
    private let call: IncompleteCall
    /// The tasks whose results are arguments, by the index of the buffer that each result replaces.
    private let places: [Int: TaskID]

    /// Reads from a request which results are its arguments.
    ///
    /// - Throws: When the metadata or the buffers are wrong.
    init(of request: Message) throws {
        self.places = try ResultPlaces(scanning: request.metadata).results
        self.call = try IncompleteCall(request.buffers, places: Array(self.places.keys))
    }

    /// The tasks whose results are arguments.
    var tasks: [TaskID] { Array(self.places.values) }

    /// The request with the results in their places. Buffers are not signed, so its signature stays.
    func completing(_ request: Message, with inputs: TaskInputs) -> Message {
        // If an engine replies ok without a result, the call lacks an argument, and the engine that runs it answers with an
        // error.
        let results = self.places.mapValues { inputs.result(of: $0) }
        return Message(
            identities: Array(request.identities), signature: request.signature, parts: request.parts,
            buffers: self.call.completed(with: results))
    }
}

extension TaskInputs.Outcome {
    /// The result in a reply; nil for a task that ended without a reply.
    init(_ reply: Message?) {
        guard let reply, reply.content.textMember("status") == "ok" else {
            let reason = reply.flatMap { RecentFailures.reason(in: $0) }
            self = .none(why: reason.map { "it failed: \($0)" } ?? "it failed")
            return
        }
        let kept = reply.forKeeping()
        self = kept.buffers.isEmpty ? .none(why: "it was no call, and has no result") : .result(Array(kept.buffers))
    }

    /// Of a task without a record.
    static let unknown = Self.none(
        why: "the hub has no record of it: it was purged, newer ones took its place, or this cluster never had it")

    /// The result of a task in the store, or why there is none; nil for a task without a record.
    nonisolated(nonsending) init?(of task: TaskID, in store: any TaskStore) async {
        let records: [TaskRecord]
        do {
            records = try await store.recordsRetrying(
                of: [task], fields: [.id, .header, .resultHeader, .resultContent, .resultBuffers])
        } catch {
            self = .none(why: error.message)
            return
        }
        guard let record = records.first, !record.isStub else { return nil }
        self = record.isFinished ? Self(record.reply) : .none(why: "it never ended, and nobody is running it")
    }
}
