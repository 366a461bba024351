public import ApusFunctions
import ApusWire
import Pickle

// Calls whose arguments are results of other tasks.
extension LoadBalancedView {
    /// Calls the function with values and with results of other tasks, on an engine of the scheduler's choice.
    @_disfavoredOverload
    public func apply<Output, each Input>(
        _ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat CallArgument<each Input>
    ) async throws -> Output {
        try await self.applyAsync(function, repeat each arguments).awaited(self.whenCancelled).value
    }

    /// Calls the function with values and with results of other tasks, without waiting.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` where the controller is ipyparallel's, or its scheme is `pure`;
    ///   `badArgument` for an argument that cannot be sent, and for a result of several tasks or of another cluster.
    @_disfavoredOverload
    public func applyAsync<Output, each Input>(
        _ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat CallArgument<each Input>
    ) throws -> AsyncResult<Output> {
        var sent: [SentArgument] = []
        for argument in repeat each arguments { sent.append(try argument.sent(to: function, through: self.client)) }
        return try self.apply(Call(function), sent) { try decodeResult(from: $0, function.decodeResult) }
    }

    /// Calls a Python function with values and with results of other tasks, on an engine of the scheduler's choice.
    @_disfavoredOverload
    public func apply<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: PythonArgument..., returning type: Output.Type = Output.self
    ) async throws -> Output {
        try await self.apply(Call(function), self.sent(arguments)) { try decodeResult(type, from: $0) }
            .awaited(self.whenCancelled).value
    }

    /// Calls a Python function with values and with results of other tasks, without waiting.
    @_disfavoredOverload
    public func applyAsync<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: PythonArgument..., returning type: Output.Type = Output.self
    ) throws -> AsyncResult<Output> {
        try self.apply(Call(function), self.sent(arguments)) { try decodeResult(type, from: $0) }
    }

    private func sent(_ arguments: [PythonArgument]) throws -> [SentArgument] {
        try arguments.enumerated().map { index, argument in
            switch argument.source {
            case .value(let value): .value(try encode(value, at: index))
            case .result(let source): .result(try source.task(for: self.client))
            }
        }
    }

    private func apply<Output>(
        _ call: Call, _ arguments: [SentArgument], decode: @escaping @Sendable (Message) throws -> Output
    ) throws -> AsyncResult<Output> {
        let (buffers, results) = call.buffers(arguments)
        return self.result(of: self.send(buffers, try self.terms(call, .once, results: results)), decode)
    }
}

extension CallArgument where Value: Codable {
    fileprivate func sent<Output, each Input>(
        to function: RemoteFunction<Output, repeat each Input>, through client: Client
    ) throws -> SentArgument {
        switch self.source {
        case .value(let value):
            do { return .value(try PickleEncoder().encode(value)) } catch {
                throw ApusError(.badArgument, "an argument of \(function.declaration.signature) cannot be sent", cause: error)
            }
        case .result(let source): return .result(try source.task(for: client))
        }
    }
}
