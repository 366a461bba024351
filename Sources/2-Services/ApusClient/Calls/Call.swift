import ApusCore
import ApusFunctions
import ApusWire
import NIOCore
import Pickle

/// A function to be called on engines, of Swift or of Python.
struct Call: Sendable {
    /// How the engine finds the function.
    let function: PickleValue
    /// Values that a closure captured, sent before the arguments.
    let captures: [PickleValue]
    /// The build that an engine must run, for a closure; nil for other functions.
    let build: String?
    private let language: Language

    private enum Language {
        case swift
        /// A function that only Python knows.
        case python
        /// A name that the engine looks up, of a Swift or a Python function.
        case either
    }

    /// Whether a request can make many calls, each with an outcome of its own.
    var keepsOutcomes: Bool { self.language != .either }

    /// - Throws: ``ApusError`` with code `badArgument` when what a closure captured cannot be sent.
    init<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>) throws {
        self.function = function.pickled
        do { self.captures = try function.capturedValues() } catch {
            throw ApusError(.badArgument, "what \(function.declaration.signature) captured cannot be sent", cause: error)
        }
        self.build = function.declaration.closureID == nil ? nil : BuildFingerprint.current
        self.language = .swift
    }

    init(_ function: PythonFunction) {
        self.function = function.pickled
        self.captures = []
        self.build = nil
        self.language = function.isPython ? .python : .either
    }

    /// The buffers of a request that calls the function once.
    func buffers(_ arguments: [PickleValue], keywords: [(String, PickleValue)] = []) -> [ByteBuffer] {
        ApplyPayload(
            function: self.function, arguments: self.captures.isEmpty ? arguments : self.captures + arguments, keywords: keywords
        ).encode()
    }

    /// The buffers of a request some of whose arguments are results of other tasks, and which buffer stands for which task's
    /// result.
    func buffers(_ arguments: [SentArgument]) -> (buffers: [ByteBuffer], results: [(place: Int, task: TaskID)]) {
        let values = arguments.map { argument -> PickleValue in
            if case .value(let value) = argument { value } else { .none }
        }
        var results: [(place: Int, task: TaskID)] = []
        let payload = ApplyPayload(function: self.function, arguments: self.captures + values)
        let buffers = payload.encode { argument, buffer in
            guard argument >= self.captures.count, case .result(let task) = arguments[argument - self.captures.count] else {
                return
            }
            results.append((buffer, task))
        }
        return (buffers, results)
    }

    /// The buffers of a request that calls the function for each place of the sequences and gives the list of results.
    ///
    /// - Parameter manner: As in the request's metadata; `once` where the calls are to end at the first that fails.
    func mapBuffers(_ sequences: [PickleValue], _ manner: Manner) -> [ByteBuffer] {
        // A Swift engine maps when the metadata asks for it; a Python engine needs a mapping function before the called one.
        if self.language == .swift { return self.buffers(sequences) }
        if self.language == .python, manner != .once {
            let seconds = manner == .slice ? Double(Self.slice) / 1_000_000 : 0
            return ApplyPayload(
                function: PythonCall.outcomesMapFunction, arguments: [self.function, .float(seconds)] + sequences
            ).encode()
        }
        return ApplyPayload(function: PythonCall.mapFunction, arguments: [self.function] + sequences, keywords: []).encode()
    }

    /// Microseconds after which an engine gives back the rest of a task whose calls take longer than expected, so that other
    /// engines can take a part of it.
    static let slice = Int(5 * MapScheduler.taskMicroseconds)

    /// How often a request calls the function.
    enum Manner {
        /// Once, with the arguments.
        case once
        /// For each element, each call with an outcome of its own.
        case map
        /// For each element until a slice of time is over; the engine gives the rest back.
        case slice
    }

    /// The members of the request's metadata for Apus's engines; other engines ignore them.
    func metadata(_ manner: Manner, limit: Duration?) -> RequestMetadata.ForEngine {
        var metadata = RequestMetadata.ForEngine()
        metadata.isQuiet = true
        metadata.limit = limit.map { $0 / .seconds(1) }
        if manner != .once, self.language == .swift {
            metadata.maps = true
            metadata.keepsOutcomes = true
            if manner == .slice { metadata.slice = Self.slice }
        }
        metadata.captureCount = self.captures.count
        metadata.build = self.build
        return metadata
    }
}

/// Encodes a function's arguments; the error for an argument that cannot be encoded names the function.
func encode<Output, each Input>(_ arguments: repeat each Input, for function: RemoteFunction<Output, repeat each Input>) throws
    -> [PickleValue]
{
    do { return try function.encodeArguments(repeat each arguments) } catch {
        throw ApusError(.badArgument, "an argument of \(function.declaration.signature) cannot be sent", cause: error)
    }
}

func encode(list arguments: [any Encodable & Sendable]) throws -> [PickleValue] {
    try arguments.enumerated().map { try encode($1, at: $0) }
}

func encode(_ argument: any Encodable & Sendable, at index: Int) throws -> PickleValue {
    do { return try PickleEncoder().encode(argument) } catch {
        throw ApusError(.badArgument, "argument \(index + 1), a \(type(of: argument)), cannot be sent", cause: error)
    }
}

/// The result in an `apply` reply.
func decodeResult<Output: Decodable>(_ type: Output.Type, from message: Message) throws -> Output {
    try decodeResult(from: message) { try PickleDecoder().decode(Output.self, from: $0) }
}

/// Decodes the result in an `apply` reply with a closure.
func decodeResult<Output>(from message: Message, _ decode: (PickleValue) throws -> Output) throws -> Output {
    do {
        var buffers = message.buffers
        return try decode(try ObjectBuffers.deserialize(&buffers))
    } catch {
        throw ApusError(
            .badResult,
            "the result of task '\(MessageHeader.messageID(scanning: message.parent)?.text ?? "?")' is no \(Output.self)",
            cause: error)
    }
}
