public import ApusFunctions

// Functions bound to a view, called like any other (ipyparallel's `@view.remote` and `@view.parallel`).

/// A function bound to a view: calling it runs the function on the view's engines.
public struct BoundFunction<Output: Sendable, each Input: Codable & Sendable>: Sendable {
    private let call: @Sendable (repeat each Input) async throws -> Output

    init(_ call: @escaping @Sendable (repeat each Input) async throws -> Output) { self.call = call }

    /// Runs the function on the view and gives its result.
    ///
    /// - Throws: The errors of `apply` on the view.
    public func callAsFunction(_ argument: repeat each Input) async throws -> Output {
        try await self.call(repeat each argument)
    }
}

extension LoadBalancedView {
    /// Binds a function to this view: calling the bound function runs it on an engine of the scheduler's choice.
    ///
    /// ```swift
    /// let simulate = view.remote($simulate)
    /// let outcome = try await simulate(seed)
    /// ```
    public func remote<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>)
        -> BoundFunction<Output, repeat each Input>
    {
        BoundFunction { (arguments: repeat each Input) in try await self.apply(function, repeat each arguments) }
    }

    /// Binds a function to this view: calling the bound function with a sequence runs it once for every element.
    ///
    /// - Parameter chunkSize: How many calls a task makes; see ``map(_:_:chunkSize:)-(_,_,Int?)``.
    public func parallel<Input, Output>(_ function: RemoteFunction<Output, Input>, chunkSize: Int? = nil)
        -> @Sendable ([Input]) async throws -> [Output]
    {
        { elements in try await self.map(function, elements, chunkSize: chunkSize) }
    }
}

extension EngineView {
    /// Binds a function to this engine: calling the bound function runs it on the engine.
    public func remote<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>)
        -> BoundFunction<Output, repeat each Input>
    {
        BoundFunction { (arguments: repeat each Input) in try await self.apply(function, repeat each arguments) }
    }
}

extension DirectView {
    /// Binds a function to this view: calling the bound function runs it on every target and gives a list of results.
    public func remote<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>)
        -> BoundFunction<[Output], repeat each Input>
    {
        BoundFunction { (arguments: repeat each Input) in try await self.apply(function, repeat each arguments) }
    }

    /// Binds a function to this view: calling the bound function with a sequence runs it on every engine with a part of the
    /// sequence.
    ///
    /// ```swift
    /// @Remote func total(_ part: [Double]) -> [Double] { [part.reduce(0, +)] }
    ///
    /// let totals = try await view.parallel($total)(samples)  // one for each engine
    /// ```
    public func parallel<Input: Codable & Sendable, Output>(
        _ function: RemoteFunction<[Output], [Input]>, _ partition: Partition = .block
    ) -> ParallelFunction<Input, Output> {
        ParallelFunction(view: self, function: function, partition: partition)
    }
}

/// A function of a part of a sequence, bound to the engines among which the sequence is divided.
public struct ParallelFunction<Input: Codable & Sendable, Output: Sendable>: Sendable {
    /// The engines among which the sequence is divided.
    public let view: DirectView
    /// The function that each engine calls with its part.
    public let function: RemoteFunction<[Output], [Input]>
    /// How the sequence is divided, and its results are put together again.
    public let partition: Partition

    /// Calls the function on each engine with a part of the sequence, and joins the results.
    ///
    /// An engine whose part is empty is not called.
    public func callAsFunction(_ elements: some Sequence<Input>) async throws -> [Output] {
        let engines = try self.view.calls.engines()
        let parts = self.partition.split(Array(elements), over: engines.count)
        let results = try zip(engines, parts).filter { !$1.isEmpty }.map { engine, part in
            try self.view.client[engine.id].applyAsync(self.function, part)
        }
        // No engine gets a part of an empty sequence.
        if results.isEmpty { return [] }
        return self.partition.join(try await AsyncResult.joined(results).value)
    }
}

extension AsyncResult {
    /// Joins results of one task each into one result, a list with a value for each task.
    static func joined<Element>(_ results: [AsyncResult<Element>]) -> AsyncResult<[Element]> where Output == [Element] {
        guard let first = results.first else { preconditionFailure("no results to join") }
        let combine = first.combine
        return AsyncResult<[Element]>(results.flatMap { $0.tasks }, client: first.client, isSingle: false) { messages in
            try messages.map { try combine([$0]) }
        }
    }
}
