public import ApusFunctions
public import ApusWire
import Pickle

/// Several engines, reached by one message that the controller copies for each of them.
///
/// A broadcast view suits large arguments that are the same for all engines, and very many engines. Calls give a list in the
/// order of the targets, as with a ``DirectView``. Parts of a sequence differ from engine to engine and cannot be broadcast; use
/// a direct view for them.
public struct BroadcastView: Sendable {
    private var direct: DirectView
    /// Whether the controller gathers the engines' replies to a function's call and sends them to the client as one message.
    ///
    /// The client then gets fewer messages, but no result comes before the last one, an error does not say which engines it came
    /// from, and printed output is not kept.
    public var isCoalescing: Bool

    init(_ client: Client, _ targets: Targets, isCoalescing: Bool) {
        self.direct = DirectView(client, targets, route: .broadcast)
        self.isCoalescing = isCoalescing
    }

    /// The client through which the view sends.
    public var client: Client { self.direct.client }
    /// The engines that the view addresses.
    public var targets: Targets { self.direct.targets }
    /// A name for the work sent through this view, kept in the records of the tasks.
    public var label: String? {
        get { self.direct.label }
        set { self.direct.label = newValue }
    }

    /// The engines that a call would go to now.
    ///
    /// - Throws: ``ApusError`` with code `noEnginesRegistered` or `noSuchEngine`.
    public var ids: [EngineID] { get throws { try self.direct.ids } }

    // MARK: Calling

    /// Calls the function on every target and gives the results in the order of the targets.
    ///
    /// - Throws: ``CompositeError`` with each engine's error; ``RemoteError`` with one engine's error where replies are
    ///   coalesced; ``ApusError`` with code `notSupported` from a controller that is too old to have broadcasts.
    public func apply<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input)
        async throws
        -> [Output]
    {
        try await self.applyAsync(function, repeat each arguments).awaited(self.direct.whenCancelled).value
    }

    /// Calls the function on every target, without waiting.
    public func applyAsync<Output, each Input>(
        _ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input
    ) throws -> AsyncResult<[Output]> {
        guard self.isCoalescing else { return try self.direct.applyAsync(function, repeat each arguments) }
        return try self.coalescing(
            Call(function), encode(repeat each arguments, for: function), decode: function.decodeResult)
    }

    /// Calls a Python function on every target.
    public func apply<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) async throws -> [Output] {
        let call = Call(function)
        let arguments = try encode(list: arguments)
        guard self.isCoalescing else {
            return try await self.direct.many(self.direct.calls.apply(call, arguments), as: type).awaited(
                self.direct.whenCancelled
            ).value
        }
        return try await self.coalescing(call, arguments) { try PickleDecoder().decode(type, from: $0) }
            .awaited(self.direct.whenCancelled).value
    }

    /// Runs source text in each engine's namespace.
    @discardableResult
    public func execute(_ code: String, silent: Bool = true) async throws -> [ExecuteReply] {
        try await self.direct.execute(code, silent: silent)
    }

    /// Runs source text in each engine's namespace, without waiting.
    public func executeAsync(_ code: String, silent: Bool = true) throws -> AsyncResult<[ExecuteReply]> {
        try self.direct.executeAsync(code, silent: silent)
    }

    // MARK: The namespaces

    /// Sets names in each engine's namespace.
    public func push(_ values: [String: any Encodable & Sendable]) async throws { try await self.pushAsync(values).value }

    /// Sets names in each engine's namespace, without waiting.
    public func pushAsync(_ values: [String: any Encodable & Sendable]) throws -> AsyncResult<Void> {
        try self.direct.pushAsync(values)
    }

    /// Sets one name in each engine's namespace.
    public func push(_ name: String, _ value: some Encodable & Sendable) async throws { try await self.push([name: value]) }

    /// The value of a name on each engine.
    ///
    /// - Throws: ``CompositeError`` with a `NameError` for each engine that has no such name.
    public func pull<Value: Decodable & Sendable>(_ name: String, as type: Value.Type = Value.self) async throws -> [Value] {
        try await self.direct.pull(name, as: type)
    }

    // MARK: One reply of many

    private func coalescing<Output: Sendable>(
        _ call: Call, _ arguments: [PickleValue], decode: @escaping @Sendable (PickleValue) throws -> Output
    ) throws -> AsyncResult<[Output]> {
        let engines = try self.direct.calls.engines()
        let task = try self.direct.calls.applyCoalescing(call, arguments)
        return AsyncResult([task], client: self.client, isSingle: true) { messages in
            try Self.results(in: messages[0], of: engines.map { $0.uuid }, decode)
        }
    }

    /// The results in a coalesced reply, in the order of the targets; the reply names the order in which it has them.
    private static func results<Output>(
        in message: Message, of engines: [EngineUUID], _ decode: (PickleValue) throws -> Output
    ) throws -> [Output] {
        let order = try JSONValue(parsing: message.metadata)[MetadataMember.broadcastTargets]?.array ?? []
        var buffers = message.buffers
        var results: [EngineUUID: Output] = [:]
        for target in order {
            guard let uuid = target.array?.first?.string ?? target.string, !buffers.isEmpty else { break }
            do { results[EngineUUID(uuid)] = try decode(try ObjectBuffers.deserialize(&buffers)) } catch {
                throw ApusError(
                    .badResult, "the result of engine \(uuid) in a coalesced reply is no \(Output.self)", cause: error)
            }
        }
        return try engines.map { uuid in
            guard let result = results[uuid] else {
                throw ApusError(
                    .badResult,
                    "the coalesced reply has \(results.count) results for \(engines.count) engines: some of them failed. "
                        + "A broadcast view that does not coalesce says which")
            }
            return result
        }
    }
}
