import ApusFunctions
import ApusWire
import Foundation
import NIOCore
import Pickle

/// A called function and its arguments, for error reports.
struct CalledFunction {
    let function: FunctionRecord
    let arguments: [PickleValue]
}

/// The calls of one request that maps a function, and their results so far.
struct MapCalls {
    private let count: Int
    private let keepsOutcomes: Bool
    /// The time after which no further call begins; nil: all calls are made.
    private let endsAt: NIODeadline?
    private var results: [PickleValue] = []
    private var failures: [FailedCalls.Failure] = []

    init(count: Int, keepsOutcomes: Bool, endsAt: NIODeadline?) {
        self.count = count
        // With a single call, its outcome is the request's outcome.
        self.keepsOutcomes = keepsOutcomes && count > 1
        self.endsAt = endsAt
        self.results.reserveCapacity(count)
    }

    /// The place of the next call; nil when all were made, or the time is over. The first call is made in any case, so that a map
    /// makes progress.
    var next: Int? {
        guard self.results.count < self.count else { return nil }
        if let endsAt, !self.results.isEmpty, NIODeadline.now() >= endsAt { return nil }
        return self.results.count
    }

    mutating func take(_ result: PickleValue) { self.results.append(result) }

    /// Notes that a call failed. An error that concerns the whole request is thrown again: an unmet dependency, or an error of a
    /// request that was cancelled.
    mutating func take(_ error: any Error, of called: CalledFunction?) throws {
        guard self.keepsOutcomes, (error as? any PythonNamedError)?.pythonName != ErrorName.unmetDependency.rawValue,
            !Task.isCancelled
        else { throw error }
        self.failures.append(FailedCalls.Failure(place: self.results.count, error: error, called: called))
        self.results.append(.none)
    }

    /// The list of results.
    ///
    /// - Throws: ``FailedCalls`` if some calls failed.
    func result() throws -> PickleValue {
        if self.failures.isEmpty { return .list(self.results) }
        throw FailedCalls(results: self.results, failures: self.failures)
    }
}

/// The error of a map of which some calls failed, with the results of the other calls.
struct FailedCalls: Error {
    struct Failure {
        let place: Int
        let error: any Error
        let called: CalledFunction?
    }

    /// The results in their order, `None` for calls that failed.
    let results: [PickleValue]
    let failures: [Failure]

    /// The reply's content: the first error, as if the map had ended there, and beside it all errors and results (protocol
    /// article, "Maps").
    func content(by messages: EngineMessages) -> ErrorContent {
        let contents = self.failures.map { failure in
            ErrorContent(
                failure.error, method: "apply", function: failure.called?.function, arguments: failure.called?.arguments ?? [],
                by: messages)
        }
        var content = contents[0]
        let listed = zip(self.failures, contents).map { failure, content -> JSONValue in
            var members = content.json
            // The same for all failures, and in the reply already.
            members[MetadataMember.engineInfo] = nil
            members["status"] = nil
            return [.int(failure.place), .object(members)]
        }
        // Not in the reply's buffers: a client that reads several results from the hub expects buffers of successful tasks only.
        let buffers = ObjectBuffers.serialize(.list(self.results)).map { buffer -> JSONValue in
            .string(Data(buffer.readableBytesView).base64EncodedString())
        }
        content.extras[ApusMember.map] = ["failures": .array(listed), "results": .array(buffers)]
        return content
    }
}
