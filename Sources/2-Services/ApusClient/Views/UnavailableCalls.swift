public import Pickle

// Unavailable methods that match common mistakes, so that the compiler says what to write instead. Without them the compiler
// reports that no method matches, or, for a method that takes any number of arguments, that it "failed to produce diagnostic".

/// A view whose calls give one result. This protocol and the next two are public only for the compiler's messages.
public protocol __ResultView: Sendable {}

/// A view whose calls give a result for each engine.
public protocol __ResultListView: Sendable {}

/// A view that spreads sequences.
public protocol __MappingView: Sendable {}

extension LoadBalancedView: __ResultView, __MappingView {}
extension EngineView: __ResultView {}
extension DirectView: __ResultListView, __MappingView {}
extension BroadcastView: __ResultListView {}

extension __ResultView {
    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func apply<Output, each Input>(_ function: (repeat each Input) async throws -> Output, _ arguments: repeat each Input)
        async throws -> Output
    { unavailable() }

    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func applyAsync<Output: Sendable, each Input>(
        _ function: (repeat each Input) async throws -> Output, _ arguments: repeat each Input
    ) throws -> AsyncResult<Output> { unavailable() }

    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func remote<Output, each Input: Codable & Sendable>(_ function: (repeat each Input) async throws -> Output)
        -> BoundFunction<Output, repeat each Input>
    { unavailable() }

    @available(
        *, unavailable,
        message: "say what the function gives: 'let x: Double = …' or 'returning: Double.self'; PickleValue is anything"
    )
    public func apply(_ function: PythonFunction, _ arguments: any Encodable & Sendable...) async throws -> PickleValue {
        unavailable()
    }

    @available(
        *, unavailable,
        message: "say what the function gives: 'let x: Double = …' or 'returning: Double.self'; PickleValue is anything"
    )
    public func applyAsync(_ function: PythonFunction, _ arguments: any Encodable & Sendable...) throws -> AsyncResult<
        PickleValue
    > { unavailable() }

    @available(*, unavailable, message: "a String is no function: write 'PythonFunction(name)', or the name itself in quotes")
    public func apply<Output>(
        _ function: String, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) async throws -> Output { unavailable() }

    @available(*, unavailable, message: "a String is no function: write 'PythonFunction(name)', or the name itself in quotes")
    public func applyAsync<Output: Sendable>(
        _ function: String, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) throws -> AsyncResult<Output> { unavailable() }
}

extension __ResultListView {
    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func apply<Output, each Input>(_ function: (repeat each Input) async throws -> Output, _ arguments: repeat each Input)
        async throws -> [Output]
    { unavailable() }

    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func applyAsync<Output: Sendable, each Input>(
        _ function: (repeat each Input) async throws -> Output, _ arguments: repeat each Input
    ) throws -> AsyncResult<[Output]> { unavailable() }

    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func remote<Output, each Input: Codable & Sendable>(_ function: (repeat each Input) async throws -> Output)
        -> BoundFunction<[Output], repeat each Input>
    { unavailable() }

    @available(
        *, unavailable,
        message: "say what the function gives: 'let x: Double = …' or 'returning: Double.self'; PickleValue is anything"
    )
    public func apply(_ function: PythonFunction, _ arguments: any Encodable & Sendable...) async throws -> [PickleValue] {
        unavailable()
    }

    @available(
        *, unavailable,
        message: "say what the function gives: 'let x: Double = …' or 'returning: Double.self'; PickleValue is anything"
    )
    public func applyAsync(_ function: PythonFunction, _ arguments: any Encodable & Sendable...) throws -> AsyncResult<
        [PickleValue]
    > { unavailable() }

    @available(*, unavailable, message: "a String is no function: write 'PythonFunction(name)', or the name itself in quotes")
    public func apply<Output>(
        _ function: String, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) async throws -> [Output] { unavailable() }

    @available(*, unavailable, message: "a String is no function: write 'PythonFunction(name)', or the name itself in quotes")
    public func applyAsync<Output: Sendable>(
        _ function: String, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) throws -> AsyncResult<[Output]> { unavailable() }
}

extension __MappingView {
    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func map<Input, Output>(
        _ function: (Input) async throws -> Output, _ elements: some Sequence<Input>, chunkSize: Int? = nil
    ) async throws -> [Output] { unavailable() }

    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func map<First: Sequence, Second: Sequence, Output>(
        _ function: (First.Element, Second.Element) async throws -> Output, _ first: First, _ second: Second,
        chunkSize: Int? = nil
    ) async throws -> [Output] { unavailable() }

    @available(
        *, unavailable,
        message: "a remote function comes first: 'map($name, elements)' or 'map(#remote { (x: <type>) in … }, elements)'"
    )
    public func map<Elements: Sequence, Output>(
        _ elements: Elements, chunkSize: Int? = nil, _ function: (Elements.Element) async throws -> Output
    ) async throws -> [Output] { unavailable() }

    @available(
        *, unavailable,
        message: "say what the function gives: 'let x: Double = …' or 'returning: Double.self'; PickleValue is anything"
    )
    public func map<Input: Encodable & Sendable>(
        _ function: PythonFunction, _ elements: some Sequence<Input>, chunkSize: Int? = nil
    ) async throws -> [PickleValue] { unavailable() }

    @available(*, unavailable, message: "a String is no function: write 'PythonFunction(name)', or the name itself in quotes")
    public func map<Input, Output>(
        _ function: String, _ elements: some Sequence<Input>, chunkSize: Int? = nil, returning type: Output.Type = Output.self
    ) async throws -> [Output] { unavailable() }

    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func mapAsync<Input, Output: Sendable>(
        _ function: (Input) async throws -> Output, _ elements: some Sequence<Input>, chunkSize: Int? = nil, ordered: Bool = true
    ) throws -> AsyncMapResult<Output> { unavailable() }

    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func mapAsync<First: Sequence, Second: Sequence, Output: Sendable>(
        _ function: (First.Element, Second.Element) async throws -> Output, _ first: First, _ second: Second,
        chunkSize: Int? = nil, ordered: Bool = true
    ) throws -> AsyncMapResult<Output> { unavailable() }

    @available(
        *, unavailable,
        message: "a remote function comes first: 'map($name, elements)' or 'map(#remote { (x: <type>) in … }, elements)'"
    )
    public func mapAsync<Elements: Sequence, Output: Sendable>(
        _ elements: Elements, chunkSize: Int? = nil, ordered: Bool = true, _ function: (Elements.Element) async throws -> Output
    ) throws -> AsyncMapResult<Output> { unavailable() }

    @available(
        *, unavailable,
        message: "say what the function gives: 'let x: Double = …' or 'returning: Double.self'; PickleValue is anything"
    )
    public func mapAsync<Input: Encodable & Sendable>(
        _ function: PythonFunction, _ elements: some Sequence<Input>, chunkSize: Int? = nil, ordered: Bool = true
    ) throws -> AsyncMapResult<PickleValue> { unavailable() }

    @available(*, unavailable, message: "a String is no function: write 'PythonFunction(name)', or the name itself in quotes")
    public func mapAsync<Input, Output: Sendable>(
        _ function: String, _ elements: some Sequence<Input>, chunkSize: Int? = nil, ordered: Bool = true,
        returning type: Output.Type = Output.self
    ) throws -> AsyncMapResult<Output> { unavailable() }

    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func parallel<Input, Output>(_ function: (Input) async throws -> Output)
        -> @Sendable ([Input]) async throws -> [Output]
    { unavailable() }
}

extension LoadBalancedView {
    /// Says what to write in place of a function that is not remote.
    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func lazyMap<Input, Output: Sendable>(
        _ function: (Input) async throws -> Output, _ elements: some Sequence<Input>, chunkSize: Int? = nil, ordered: Bool = true,
        maxOutstanding: Int? = nil
    ) throws -> LazyMap<Output> { unavailable() }
}

extension ViewExecutor {
    /// Says what to write in place of a function that is not remote.
    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func submit<Output: Sendable, each Input>(
        _ function: (repeat each Input) async throws -> Output, _ arguments: repeat each Input
    ) throws -> AsyncResult<Output> { unavailable() }

    /// Says what to write in place of a function that is not remote.
    @available(
        *, unavailable,
        message:
            "pass a remote function: put '@Remote' on it and '$' before its name here, or write '#remote { (x: <type>) in … }'"
    )
    public func map<Input, Output: Sendable>(
        _ function: (Input) async throws -> Output, _ elements: some Sequence<Input>, chunkSize: Int? = nil
    ) throws -> AsyncMapResult<Output> { unavailable() }
}

private func unavailable() -> Never { fatalError("the compiler lets nobody call this") }
