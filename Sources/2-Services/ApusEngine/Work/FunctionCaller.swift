import ApusFunctions
import ApusWire
import NIOCore
import Pickle

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Finds the function that a request names, and calls it.
///
/// Swift functions are called by name. Of Python's functions only a few are known, by name, and done in Swift: ipyparallel's
/// helpers for push, pull and map, partial application, conditions. Python's code is never looked at.
struct FunctionCaller {
    let lookUp: @Sendable (String) throws(FunctionCallError) -> FunctionRecord
    let namespace: any EngineNamespace
    let context: EngineContext

    /// The function that was called last in this request, and its arguments, for error reports.
    private(set) var called: CalledFunction?
    /// Whether each call of a map has its own outcome in this request.
    private var keepsOutcomes = false
    /// The time after which a map of this request begins no further call.
    private var sliceEnd: NIODeadline?

    init(
        lookUp: @escaping @Sendable (String) throws(FunctionCallError) -> FunctionRecord, namespace: any EngineNamespace,
        context: EngineContext
    ) {
        self.lookUp = lookUp
        self.namespace = namespace
        self.context = context
    }

    /// The outcome of a call: its value or, for an asynchronous function, the rest of the call, to be awaited.
    enum Outcome {
        case value(PickleValue)
        case pending(@Sendable () async throws -> PickleValue)

        fileprivate func value() async throws -> PickleValue {
            switch self {
            case .value(let value): value
            case .pending(let rest): try await rest()
            }
        }
    }

    mutating func begin() { self.called = nil }

    /// Makes the call that the request asks for, as far as that can be done without waiting.
    mutating func run(_ payload: ApplyPayload, _ metadata: RequestMetadata.ForEngine) throws -> Outcome {
        let call = Call(
            arguments: try payload.arguments.map { try self.resolved($0) },
            keywords: try payload.keywords.map { ($0.0, try self.resolved($0.1)) },
            captureCount: metadata.captureCount)
        guard (0...call.arguments.count).contains(call.captureCount) else {
            throw EngineTaskError(
                .typeError, "the request says \(call.captureCount) of \(call.arguments.count) arguments are captured")
        }
        self.keepsOutcomes = metadata.keepsOutcomes
        self.sliceEnd = metadata.slice.map { .now() + .microseconds(Int64(min($0, Self.sliceLimit))) }
        return metadata.maps ? try self.map(payload.function, call, depth: 0) : try self.call(payload.function, call, depth: 0)
    }

    /// The longest slice, in microseconds; a longer one might overflow a clock.
    private static let sliceLimit = 1_000_000_000

    private struct Call {
        var arguments: [PickleValue] = []
        var keywords: [(String, PickleValue)] = []
        /// How many arguments from the first on are captured values.
        var captureCount = 0

        /// The call for one place of the sequences.
        func place(_ index: Int, of sequences: [[PickleValue]]) -> Call {
            var call = self
            call.arguments.removeSubrange(self.captureCount...)
            for sequence in sequences { call.arguments.append(sequence[index]) }
            return call
        }
    }

    // MARK: Calling

    /// Functions within functions (partial ones, conditions, names in the namespace) go no deeper than this.
    private static let depthLimit = 16

    private mutating func call(_ function: PickleValue, _ call: Call, depth: Int) throws -> Outcome {
        guard depth < Self.depthLimit else { throw EngineTaskError(.typeError, "a function refers to functions without end") }
        switch try self.callee(function) {
        case .swift(let record): return try self.invoke(record, self.request(record, call))
        case .named(let value): return try self.call(value, call, depth: depth + 1)
        case .helper(let helper): return try self.help(helper, call, depth: depth)
        case .partial(let partial):
            var whole = call
            whole.arguments.insert(contentsOf: partial.arguments, at: call.captureCount)
            whole.keywords = partial.keywords.filter { name, _ in !call.keywords.contains { $0.0 == name } } + call.keywords
            return try self.call(partial.function, whole, depth: depth + 1)
        case .dependent(let dependent):
            let condition = Call(
                arguments: try dependent.arguments.map { try self.resolved($0) },
                keywords: try dependent.keywords.map { ($0.0, try self.resolved($0.1)) })
            switch try self.call(dependent.condition, condition, depth: depth + 1) {
            case .value(let value):
                try self.demand(value)
                return try self.call(dependent.function, call, depth: depth + 1)
            case .pending(let rest):
                let caller = self
                return .pending {
                    var caller = caller
                    try caller.demand(try await rest())
                    return try await caller.call(dependent.function, call, depth: depth + 1).value()
                }
            }
        case .processID: return .value(.int(Int(getpid())))
        }
    }

    /// Throws `UnmetDependency` where a condition gave false.
    private func demand(_ condition: PickleValue) throws {
        guard case .bool(false) = condition else { return }
        throw EngineTaskError(.unmetDependency, "the function's condition does not hold on engine \(self.context.engineID)")
    }

    private func request(_ record: FunctionRecord, _ call: Call) -> FunctionCall {
        var request = FunctionCall(arguments: call.arguments)
        if call.captureCount > 0 {
            request.captured = Array(call.arguments.prefix(call.captureCount))
            request.arguments.removeFirst(call.captureCount)
        }
        for (name, value) in call.keywords { request.keywords[name] = value }
        return request
    }

    private mutating func invoke(_ record: FunctionRecord, _ request: FunctionCall) throws -> Outcome {
        self.called = CalledFunction(function: record, arguments: request.arguments)
        guard record.isAsynchronous else { return .value(try record.invokeSynchronously(request)) }
        return .pending { try await record.invoke(request) }
    }

    // MARK: Mapping

    /// Calls the function for each place of the sequences, as far as the shortest goes.
    private mutating func map(_ function: PickleValue, _ call: Call, depth: Int) throws -> Outcome {
        let sequences = try call.arguments.dropFirst(call.captureCount).map { try $0.elements() }
        guard let count = sequences.map({ $0.count }).min() else {
            throw EngineTaskError(.typeError, "a map needs a sequence")
        }
        let calls = MapCalls(count: count, keepsOutcomes: self.keepsOutcomes, endsAt: self.sliceEnd)
        // A function is looked up once and not for each place; an asynchronous one runs in one task.
        guard case .swift(let record) = try self.callee(function) else {
            return try self.map(calls) { caller, index in
                try caller.call(function, call.place(index, of: sequences), depth: depth + 1)
            }
        }
        return try self.map(calls) { caller, index in
            try caller.invoke(record, caller.request(record, call.place(index, of: sequences)))
        }
    }

    /// Makes the calls one after the other. From the first asynchronous call on, the rest is given back, to run in one task.
    private mutating func map(
        _ calls: MapCalls, _ place: @escaping @Sendable (inout FunctionCaller, Int) throws -> Outcome
    ) throws -> Outcome {
        var calls = calls
        while let index = calls.next {
            do {
                switch try place(&self, index) {
                case .value(let value): calls.take(value)
                case .pending(let rest):
                    let (caller, begun) = (self, calls)
                    return .pending { try await caller.goOn(with: begun, rest, place) }
                }
            } catch { try calls.take(error, of: self.called) }
        }
        return .value(try calls.result())
    }

    private func goOn(
        with begun: MapCalls, _ first: @Sendable () async throws -> PickleValue,
        _ place: @Sendable (inout FunctionCaller, Int) throws -> Outcome
    ) async throws -> PickleValue {
        var (caller, calls) = (self, begun)
        do { calls.take(try await first()) } catch { try calls.take(error, of: caller.called) }
        while let index = calls.next {
            // An interrupt or the run limit ends all calls, also where the function does not heed cancellation.
            try Task.checkCancellation()
            do { calls.take(try await place(&caller, index).value()) } catch { try calls.take(error, of: caller.called) }
        }
        return try calls.result()
    }

    // MARK: Finding

    private enum Callee {
        case swift(FunctionRecord)
        /// A function's description that the namespace holds.
        case named(PickleValue)
        case helper(PythonHelper)
        case partial(PartialCall)
        case dependent(DependentCall)
        /// Python's `os.getpid`, which many first examples call.
        case processID
    }

    private func callee(_ function: PickleValue) throws -> Callee {
        if let name = function.referenceName {
            // One helper comes as an expression, which is longer than the name of any function.
            if name.utf8.count > 255, let helper = PythonHelper(function) { return .helper(helper) }
            do { return .swift(try self.lookUp(name)) } catch {
                guard error.code == .notFound, let value = self.namespace.pickled(name) else { throw error }
                return .named(value)
            }
        }
        if let helper = PythonHelper(function) { return .helper(helper) }
        if let partial = function.partialCall { return .partial(partial) }
        if let dependent = function.dependentCall { return .dependent(dependent) }
        if case .global(let global) = function, ["posix", "nt", "os"].contains(global.module), global.name == "getpid" {
            return .processID
        }
        if let name = function.pythonFunctionName {
            throw EngineTaskError(
                .typeError,
                "engine \(self.context.engineID) runs Swift functions, and '\(name.name)' of '\(name.module)' is Python's. "
                    + "Name a function of the engine's program (in Python: ipyparallel.Reference(\"square\")), or call a Python engine"
            )
        }
        throw EngineTaskError(
            .typeError,
            "what the request calls is no function. Swift engines take the name of one, as ipyparallel.Reference(\"square\")")
    }

    /// Puts values in place of references: of an argument that is one, or of those in a list, tuple or dictionary.
    private func resolved(_ value: PickleValue) throws -> PickleValue {
        switch value {
        case .object: return try value.referenceName.map { try self.evaluate($0) } ?? value
        case .list(let elements) where elements.containsObject: return .list(try elements.map { try self.referenced($0) })
        case .tuple(let elements) where elements.containsObject: return .tuple(try elements.map { try self.referenced($0) })
        case .dictionary(let entries) where entries.values.containsObject:
            return .dictionary(PickleDictionary(try entries.map { ($0.key, try self.referenced($0.value)) }))
        default: return value
        }
    }

    private func referenced(_ value: PickleValue) throws -> PickleValue {
        try value.referenceName.map { try self.evaluate($0) } ?? value
    }

    /// The value of an expression, which must be a name here. A function's name gives a reference to the function.
    private func evaluate(_ expression: String) throws -> PickleValue {
        if let value = self.namespace.pickled(expression) { return value }
        if (try? self.lookUp(expression)) != nil { return .reference(expression) }
        guard expression.isIdentifier else {
            throw EngineTaskError(
                .nameError,
                "'\(expression)' cannot be evaluated on engine \(self.context.engineID): Swift engines know names, not expressions"
            )
        }
        throw EngineTaskError(.nameError, "name '\(expression)' is not defined")
    }

    // MARK: Helpers

    private mutating func help(_ helper: PythonHelper, _ call: Call, depth: Int) throws -> Outcome {
        switch helper {
        case .push:
            for (name, _) in call.keywords where !name.isIdentifier {
                throw EngineTaskError(.valueError, "'\(name)' is no name; Swift engines bind names, not expressions")
            }
            for (name, value) in call.keywords { self.namespace.setPickled(name, to: value) }
            return .value(.none)
        case .pull:
            guard let keys = call.arguments.first ?? call.keywords.first?.1 else {
                throw EngineTaskError(.typeError, "a pull needs a name")
            }
            if case .string(let name) = keys { return .value(try self.evaluate(name)) }
            return .value(
                .list(
                    try keys.elements().map { key in
                        guard case .string(let name) = key else { throw EngineTaskError(.typeError, "a name to pull is no text") }
                        return try self.evaluate(name)
                    }))
        case .map, .broadcastMap, .outcomesMap:
            guard let function = call.arguments.first else { throw EngineTaskError(.typeError, "a map needs a function") }
            var rest = Call(arguments: Array(call.arguments.dropFirst()))
            if helper == .outcomesMap { rest.arguments = Array(rest.arguments.dropFirst()) }
            if helper == .broadcastMap {
                rest.arguments = try rest.arguments.map { name in
                    guard case .string(let name) = name, let value = self.namespace.pickled(name) else {
                        throw EngineTaskError(.nameError, "a sequence to map is not there")
                    }
                    self.namespace.setPickled(name, to: nil)
                    return value
                }
            }
            return try self.map(function, rest, depth: depth)
        case .require:
            // A load-balanced task goes on to an engine that has the module.
            if case .string(let module)? = call.arguments.first {
                throw EngineTaskError(.unmetDependency, "engine \(self.context.engineID) has no Python module '\(module)'")
            }
            for (name, value) in call.keywords { self.namespace.setPickled(name, to: value) }
            return .value(.bool(true))
        case .usePickle, .useDill, .useCloudpickle: return .value(.none)
        }
    }
}

extension Sequence<PickleValue> {
    fileprivate var containsObject: Bool { self.contains { if case .object = $0 { true } else { false } } }
}

extension String {
    /// Whether this is a name as Python and Swift have them.
    fileprivate var isIdentifier: Bool {
        guard let first = self.first, first == "_" || first.isLetter else { return false }
        return self.allSatisfy { $0 == "_" || $0.isLetter || $0.isNumber }
    }
}
