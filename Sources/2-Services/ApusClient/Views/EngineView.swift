public import ApusFunctions
public import ApusWire
public import Pickle

/// One engine, addressed directly: calls give one value.
public struct EngineView: Sendable {
    /// The client through which the view sends.
    public let client: Client
    /// The engine that the view addresses.
    public let id: EngineID
    /// A name for the work sent through this view, kept in the records of the tasks.
    public var label: String?
    /// How long a function called through this view may run; nil: as long as it takes. See ``LoadBalancedView/runLimit``.
    public var runLimit: Duration?
    /// What cancelling a Swift task that waits for a result does to the work; see ``LoadBalancedView/whenCancelled``.
    public var whenCancelled: CancellationPolicy?

    init(_ client: Client, _ id: EngineID) {
        self.client = client
        self.id = id
    }

    private var calls: DirectCalls {
        DirectCalls(client: self.client, targets: .engines([self.id]), label: self.label, limit: self.runLimit)
    }

    // MARK: Calling

    /// Calls the function on the engine and gives its result.
    public func apply<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input)
        async throws
        -> Output
    {
        try await self.applyAsync(function, repeat each arguments).awaited(self.whenCancelled).value
    }

    /// Calls the function on the engine, without waiting.
    public func applyAsync<Output, each Input>(
        _ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input
    ) throws
        -> AsyncResult<Output>
    {
        AsyncResult(
            try self.calls.apply(Call(function), encode(repeat each arguments, for: function)), client: self.client,
            isSingle: true, whenCancelled: self.whenCancelled
        ) { try decodeResult(from: $0[0], function.decodeResult) }
    }

    /// Calls a Python function on the engine; the caller says the type of the result.
    public func apply<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) async throws -> Output {
        try await self.single(self.calls.apply(Call(function), encode(list: arguments)), as: type).awaited(self.whenCancelled)
            .value
    }

    /// Calls a Python function on the engine, without waiting.
    public func applyAsync<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) throws -> AsyncResult<Output> {
        self.single(try self.calls.apply(Call(function), encode(list: arguments)), as: type)
    }

    /// Runs source text in the engine's namespace; printed output comes back with the reply.
    @discardableResult
    public func execute(_ code: String, silent: Bool = true) async throws -> ExecuteReply {
        try await self.executeAsync(code, silent: silent).awaited(self.whenCancelled).value
    }

    /// Runs source text in the engine's namespace, without waiting.
    public func executeAsync(_ code: String, silent: Bool = true) throws -> AsyncResult<ExecuteReply> {
        let tasks = try self.calls.execute(code, silent: silent)
        let id = self.id
        return AsyncResult(tasks, client: self.client, isSingle: true, whenCancelled: self.whenCancelled) { messages in
            try ExecuteReply(messages[0], engineID: id, output: tasks[0].output)
        }
    }

    // MARK: The namespace

    /// Sets names in the engine's namespace.
    public func push(_ values: [String: any Encodable & Sendable]) async throws { try await self.pushAsync(values).value }

    /// Sets names in the engine's namespace, without waiting.
    public func pushAsync(_ values: [String: any Encodable & Sendable]) throws -> AsyncResult<Void> {
        AsyncResult(try self.calls.push(encode(namespace: values)), client: self.client, isSingle: true) { _ in }
    }

    /// Sets one name in the engine's namespace.
    public func push(_ name: String, _ value: some Encodable & Sendable) async throws { try await self.push([name: value]) }

    /// The value of a name in the engine's namespace.
    ///
    /// - Throws: ``RemoteError`` named `NameError` when there is no such name.
    public func pull<Value: Decodable & Sendable>(_ name: String, as type: Value.Type = Value.self) async throws -> Value {
        try await self.pullAsync(name, as: type).value
    }

    /// Gets the value of a name in the engine's namespace, without waiting.
    public func pullAsync<Value: Decodable & Sendable>(_ name: String, as type: Value.Type = Value.self) throws -> AsyncResult<
        Value
    > {
        self.single(try self.calls.pull(.string(name)), as: type)
    }

    /// The values of several names, undecoded, in the order of the names.
    public func pull(_ names: [String]) async throws -> [PickleValue] {
        try await self.single(self.calls.pull(.list(names.map { .string($0) })), as: [PickleValue].self).value
    }

    /// Empties the engine's namespace.
    public func clear() async throws { try await self.client.clear(.engines([self.id])) }

    private func single<Output: Decodable & Sendable>(_ tasks: [PendingTask], as type: Output.Type = Output.self) -> AsyncResult<
        Output
    > {
        AsyncResult(tasks, client: self.client, isSingle: true, whenCancelled: self.whenCancelled) {
            try decodeResult(type, from: $0[0])
        }
    }
}

/// Encodes a namespace's values, in the order of their names.
func encode(namespace values: [String: any Encodable & Sendable]) throws -> [(String, PickleValue)] {
    try values.sorted { $0.key < $1.key }.map { name, value in
        do { return (name, try PickleEncoder().encode(value)) } catch {
            throw ApusError(.badArgument, "'\(name)', a \(type(of: value)), cannot be sent", cause: error)
        }
    }
}
