public import ApusFunctions
public import ApusWire
public import Pickle

/// Several engines, addressed directly: calls go to each and give a list in the order of the targets.
public struct DirectView: Sendable {
    /// The client through which the view sends.
    public let client: Client
    /// The engines that the view addresses.
    public let targets: Targets
    /// A name for the work sent through this view, kept in the records of the tasks.
    public var label: String?
    /// How long a function called through this view may run; nil: as long as it takes. See ``LoadBalancedView/runLimit``.
    public var runLimit: Duration?
    /// What cancelling a Swift task that waits for a result does to the work; see ``LoadBalancedView/whenCancelled``.
    public var whenCancelled: CancellationPolicy?
    let route: DirectCalls.Route

    init(_ client: Client, _ targets: Targets, route: DirectCalls.Route = .direct) {
        self.client = client
        self.targets = targets
        self.route = route
    }

    var calls: DirectCalls {
        DirectCalls(client: self.client, targets: self.targets, label: self.label, limit: self.runLimit, route: self.route)
    }

    /// The engines that a call would go to now.
    ///
    /// - Throws: ``ApusError`` with code `noEnginesRegistered` or `noSuchEngine`.
    public var ids: [EngineID] { get throws { try self.calls.engines().map { $0.id } } }

    // MARK: Calling

    /// Calls the function on every target and gives the results in the order of the targets.
    public func apply<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input)
        async throws
        -> [Output]
    {
        try await self.applyAsync(function, repeat each arguments).awaited(self.whenCancelled).value
    }

    /// Calls the function on every target, without waiting.
    public func applyAsync<Output, each Input>(
        _ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input
    ) throws
        -> AsyncResult<[Output]>
    {
        AsyncResult(
            try self.calls.apply(Call(function), encode(repeat each arguments, for: function)), client: self.client,
            isSingle: false, whenCancelled: self.whenCancelled
        ) { try $0.map { try decodeResult(from: $0, function.decodeResult) } }
    }

    /// Calls a Python function on every target.
    public func apply<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) async throws -> [Output] {
        try await self.many(self.calls.apply(Call(function), encode(list: arguments)), as: type).awaited(self.whenCancelled).value
    }

    /// Calls a Python function on every target, without waiting.
    public func applyAsync<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) throws -> AsyncResult<[Output]> {
        self.many(try self.calls.apply(Call(function), encode(list: arguments)), as: type)
    }

    /// Runs source text in each engine's namespace.
    @discardableResult
    public func execute(_ code: String, silent: Bool = true) async throws -> [ExecuteReply] {
        try await self.executeAsync(code, silent: silent).awaited(self.whenCancelled).value
    }

    /// Runs source text in each engine's namespace, without waiting.
    public func executeAsync(_ code: String, silent: Bool = true) throws -> AsyncResult<[ExecuteReply]> {
        let engines = try self.calls.engines()
        let tasks = try self.calls.execute(code, silent: silent)
        let runs = Dictionary(zip(engines, tasks).map { ($0.uuid, (id: $0.id, task: $1)) }) { $1 }
        return AsyncResult(tasks, client: self.client, isSingle: false, whenCancelled: self.whenCancelled) { messages in
            try messages.map { message in
                guard let run = message.metadata.textMember(MetadataMember.engine).flatMap({ runs[EngineUUID($0)] }) else {
                    throw ApusError(.badResult, "a reply does not say which engine it is from")
                }
                return try ExecuteReply(message, engineID: run.id, output: run.task.output)
            }
        }
    }

    // MARK: Mapping

    /// Calls the function on every element, one part of the sequence per engine, and gives the results in the sequence's order.
    public func map<Input, Output>(_ function: RemoteFunction<Output, Input>, _ elements: some Sequence<Input>) async throws
        -> [Output]
    {
        try await self.mapAsync(function, elements).value
    }

    /// Calls the function on every element, one part of the sequence per engine, without waiting; the results can be iterated as
    /// they come.
    public func mapAsync<Input, Output>(_ function: RemoteFunction<Output, Input>, _ elements: some Sequence<Input>) throws
        -> AsyncMapResult<Output>
    {
        AsyncMapResult(
            try self.calls.map(Call(function), [encode(elements: elements)]), whenCancelled: self.whenCancelled,
            decode: function.decodeResult)
    }

    /// Calls the function on the elements of two sequences or more, side by side, up to the end of the shortest.
    public func map<First: Sequence, Second: Sequence, each Other: Sequence, Output>(
        _ function: RemoteFunction<Output, First.Element, Second.Element, repeat (each Other).Element>, _ first: First,
        _ second: Second, _ others: repeat each Other
    ) async throws -> [Output] {
        try await self.mapAsync(function, first, second, repeat each others).value
    }

    /// Calls the function on the elements of two sequences or more, without waiting; the results can be iterated as they come.
    public func mapAsync<First: Sequence, Second: Sequence, each Other: Sequence, Output>(
        _ function: RemoteFunction<Output, First.Element, Second.Element, repeat (each Other).Element>, _ first: First,
        _ second: Second, _ others: repeat each Other
    ) throws -> AsyncMapResult<Output> {
        AsyncMapResult(
            try self.calls.map(Call(function), ElementReader.readers(first, second, repeat each others).columns()),
            whenCancelled: self.whenCancelled, decode: function.decodeResult)
    }

    /// Calls a Python function on every element.
    public func map<Input: Encodable & Sendable, Output: Decodable & Sendable>(
        _ function: PythonFunction, _ elements: some Sequence<Input>, returning type: Output.Type = Output.self
    ) async throws -> [Output] {
        try await AsyncMapResult<Output>(
            self.calls.map(Call(function), [encode(elements: elements)]), whenCancelled: self.whenCancelled,
            decode: { try PickleDecoder().decode(type, from: $0) }
        ).value
    }

    // MARK: The namespaces

    /// Sets names in each engine's namespace.
    ///
    /// Values of a megabyte or more in all are sent to the controller once, which copies them to the engines, if the controller
    /// has a broadcast scheduler and no target owes an answer.
    public func push(_ values: [String: any Encodable & Sendable]) async throws {
        try await AsyncResult<Void>(
            self.calls.pushAndWait(encode(namespace: values)), client: self.client, isSingle: false
        ) { _ in }.value
    }

    /// Sets names in each engine's namespace, without waiting; each engine is sent its own copy.
    public func pushAsync(_ values: [String: any Encodable & Sendable]) throws -> AsyncResult<Void> {
        AsyncResult(try self.calls.push(encode(namespace: values)), client: self.client, isSingle: false) { _ in }
    }

    /// Sets one name in each engine's namespace.
    public func push(_ name: String, _ value: some Encodable & Sendable) async throws { try await self.push([name: value]) }

    /// The value of a name on each engine.
    ///
    /// - Throws: ``CompositeError`` with a `NameError` for each engine that has no such name.
    public func pull<Value: Decodable & Sendable>(_ name: String, as type: Value.Type = Value.self) async throws -> [Value] {
        try await self.pullAsync(name, as: type).value
    }

    /// Gets the value of a name on each engine, without waiting.
    public func pullAsync<Value: Decodable & Sendable>(_ name: String, as type: Value.Type = Value.self) throws -> AsyncResult<
        [Value]
    > {
        self.many(try self.calls.pull(.string(name)), as: type)
    }

    /// The values of several names on each engine, undecoded, in the order of the names.
    public func pull(_ names: [String]) async throws -> [[PickleValue]] {
        try await self.many(self.calls.pull(.list(names.map { .string($0) })), as: [PickleValue].self).value
    }

    /// Spreads a sequence over the engines: each gets its part, as a list, under the name.
    public func scatter<Element: Encodable & Sendable>(
        _ name: String, _ elements: some Sequence<Element>, _ partition: Partition = .block, flatten: Bool = false
    ) async throws {
        try await self.scatterAsync(name, elements, partition, flatten: flatten).value
    }

    /// Spreads a sequence over the engines, without waiting.
    ///
    /// - Parameter flatten: Whether an engine whose part is one element gets the element itself, not a list with it.
    public func scatterAsync<Element: Encodable & Sendable>(
        _ name: String, _ elements: some Sequence<Element>, _ partition: Partition = .block, flatten: Bool = false
    ) throws -> AsyncResult<Void> {
        let parts = partition.split(try encode(elements: elements), over: try self.calls.engines().count)
        let values = parts.map { flatten && $0.count == 1 ? $0[0] : PickleValue.list($0) }
        return AsyncResult(try self.calls.scatter(name, values), client: self.client, isSingle: false) { _ in }
    }

    /// Puts a spread sequence together again, in its original order.
    public func gather<Element: Decodable & Sendable>(
        _ name: String, as type: Element.Type = Element.self, _ partition: Partition = .block
    )
        async throws -> [Element]
    {
        partition.join(try await self.pull(name, as: [Element].self))
    }

    /// Empties the engines' namespaces.
    public func clear() async throws { try await self.client.clear(self.targets) }

    func many<Output: Decodable & Sendable>(_ tasks: [PendingTask], as type: Output.Type = Output.self) -> AsyncResult<
        [Output]
    > {
        AsyncResult(tasks, client: self.client, isSingle: false, whenCancelled: self.whenCancelled) {
            try $0.map { try decodeResult(type, from: $0) }
        }
    }
}

/// Encodes a sequence's elements; the error for an element that cannot be encoded names the element's index.
func encode<Element: Encodable>(elements: some Sequence<Element>) throws -> [PickleValue] {
    let encoder = PickleEncoder()
    var values: [PickleValue] = []
    values.reserveCapacity(elements.underestimatedCount)
    for element in elements { values.append(try encode(element: element, at: values.count, with: encoder)) }
    return values
}
