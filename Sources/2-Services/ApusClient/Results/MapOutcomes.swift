import ApusFunctions
import ApusWire
import NIOCore
import Pickle

#if canImport(FoundationEssentials)
    private import FoundationEssentials
#else
    private import Foundation
#endif

/// The outcomes of the calls of one task of a map.
struct MapOutcomes<Element> {
    /// The results of the calls that went well, in their order.
    var values: [Element] = []
    /// The failures of the calls that failed, each with the call's place in the task, in order.
    var failures: [(place: Int, failure: TaskFailure)] = []
}

extension ClientConnection {
    /// The outcomes of the calls of an ended task.
    func outcomes<Element>(of chunk: MapRun.Chunk, _ decode: (PickleValue) throws -> Element) -> MapOutcomes<Element> {
        self.outcomes(of: chunk.task, calls: chunk.elements.count, decode)
    }

    /// The outcomes of an ended task that was to make this many calls.
    func outcomes<Element>(of task: PendingTask, calls: Int, _ decode: (PickleValue) throws -> Element) -> MapOutcomes<Element> {
        var outcomes = MapOutcomes<Element>()
        let results: [PickleValue]
        var failures: [(place: Int, failure: TaskFailure)] = []
        do {
            let message = try self.reply(of: task)
            var buffers = message.buffers
            do {
                let value = try ObjectBuffers.deserialize(&buffers)
                if let python = PythonOutcomes(value) {
                    results = python.results
                    failures = python.failures.filter { $0.place < calls }.map { place, error in
                        (place, self.failure(error, of: task, message))
                    }
                } else {
                    results = try value.elements()
                }
            } catch {
                outcomes.failures = Self.repeated(Self.badResult(of: task, Element.self, error), calls)
                return outcomes
            }
        } catch {
            guard let partial = self.partialMap(of: task, calls: calls) else {
                // The task failed as a whole, and so did every call in it.
                outcomes.failures = Self.repeated(error, calls)
                return outcomes
            }
            (results, failures) = partial
        }
        outcomes.values.reserveCapacity(results.count)
        var nextFailure = 0
        for place in 0..<calls {
            if nextFailure < failures.count, failures[nextFailure].place == place {
                outcomes.failures.append(failures[nextFailure])
                nextFailure += 1
                continue
            }
            do {
                guard place < results.count else {
                    throw PickleError(.outOfRange, "the reply has \(results.count) results of \(calls) calls")
                }
                outcomes.values.append(try decode(results[place]))
            } catch { outcomes.failures.append((place, Self.badResult(of: task, Element.self, error))) }
        }
        return outcomes
    }

    private static func repeated(_ failure: TaskFailure, _ calls: Int) -> [(place: Int, failure: TaskFailure)] {
        (0..<calls).map { ($0, failure) }
    }

    private static func badResult<Element>(of task: PendingTask, _ type: Element.Type, _ error: any Error) -> TaskFailure {
        TaskFailure(ApusError(.badResult, "a result of task '\(task.id)' is no \(type)", cause: error))
    }

    /// How many calls of an ended task failed.
    func failureCount(of chunk: MapRun.Chunk) -> Int {
        if let message = try? self.reply(of: chunk.task) {
            var buffers = message.buffers
            return (try? ObjectBuffers.deserialize(&buffers)).flatMap { PythonOutcomes($0)?.failures.count } ?? 0
        }
        return self.partialMap(of: chunk.task, calls: chunk.elements.count)?.failures.count ?? chunk.elements.count
    }

    /// The outcomes that an error reply lists for each call (protocol article, "Maps"); nil for a reply about the task as a
    /// whole.
    private func partialMap(
        of task: PendingTask, calls: Int
    ) -> (results: [PickleValue], failures: [(place: Int, failure: TaskFailure)])? {
        guard case .reply(let message, _) = task.outcome, let content = try? JSONValue(parsing: message.content),
            let map = content[ApusMember.map], let listed = map["failures"]?.array, let packed = map["results"]?.array
        else { return nil }
        var buffers = packed.compactMap { $0.string.flatMap { Data(base64Encoded: $0) }.map { ByteBuffer(bytes: $0) } }[...]
        guard buffers.count == packed.count, let results = try? ObjectBuffers.deserialize(&buffers).elements() else { return nil }
        var failures: [(place: Int, failure: TaskFailure)] = []
        for each in listed {
            guard let pair = each.array, pair.count == 2, let place = pair[0].int, (0..<calls).contains(place),
                failures.last.map({ $0.place < place }) ?? true
            else { return nil }
            var error = ErrorContent(pair[1])
            error.engineInfo = content[MetadataMember.engineInfo]?.object ?? [:]
            failures.append((place, self.failure(error, of: task, message)))
        }
        return (results, failures)
    }
}

/// The outcomes of a Python engine's calls, some of which failed; see ``PythonCall/outcomesMapFunction``.
private struct PythonOutcomes {
    let results: [PickleValue]
    /// In the order of the places.
    private(set) var failures: [(place: Int, error: ErrorContent)] = []

    init?(_ value: PickleValue) {
        guard case .dictionary(let parts) = value, let listed = try? parts["apus_outcomes"]?.elements(),
            let results = try? parts["results"]?.elements()
        else { return nil }
        self.results = results
        for each in listed {
            guard let parts = try? each.elements(), parts.count == 4, case .int(let place) = parts[0],
                results.indices.contains(place),
                self.failures.last.map({ $0.place < place }) ?? true, case .string(let name) = parts[1],
                case .string(let text) = parts[2], let lines = try? parts[3].elements()
            else { return nil }
            let traceback = lines.compactMap { line -> String? in
                guard case .string(let text) = line else { return nil }
                return text.hasSuffix("\n") ? String(text.dropLast()) : text
            }
            self.failures.append(
                (place, ErrorContent(name: name, value: text, traceback: traceback, engineInfo: ["method": "apply"])))
        }
    }
}

extension Message {
    /// How many calls a Python engine made for a map; nil where the reply cannot be read.
    var pythonCalls: Int? {
        var buffers = self.buffers
        guard let value = try? ObjectBuffers.deserialize(&buffers) else { return nil }
        return PythonOutcomes(value)?.results.count ?? (try? value.elements())?.count
    }
}
