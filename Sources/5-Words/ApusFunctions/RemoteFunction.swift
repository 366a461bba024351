package import Pickle

/// A function that engines can run: its name, its types and the values it captured, without its code.
///
/// The `@Remote` macro makes one beside each function it stands on, named with a `$` in front; `#remote { … }` makes one of a
/// closure. Views take a remote function together with its arguments:
///
/// ```swift
/// @Remote func square(_ x: Double) -> Double { x * x }
/// let nine = try await view.apply($square, 3)
/// ```
///
/// Only names and values travel. The code is found in the engine, which runs the same executable. Called like a function, it
/// runs here, in this process: `try await $square(3)`.
public struct RemoteFunction<Output: Sendable, each Input: Codable & Sendable>: Sendable {
    /// Where the function was declared and how it is called.
    public let declaration: RemoteDeclaration
    let body: EitherBody<SynchronousBody<Output, repeat each Input>, AsynchronousBody<Output, repeat each Input>>
    let result: ResultCoding<Output>
    /// The captured values as they travel, or why they cannot.
    let captured: Result<[PickleValue], any Error>
    /// The function and its condition, as requests carry them; nil for a function without a condition, which requests name.
    var conditional: PickleValue?

    /// The name that requests carry; see ``RemoteDeclaration/qualifiedName``.
    public var name: String { self.declaration.qualifiedName }

    /// Runs the function here, in this process and task.
    ///
    /// - Throws: What the function throws.
    public func callAsFunction(_ argument: repeat each Input) async throws -> Output {
        switch self.body {
        case .synchronous(let body): try body.run(repeat each argument)
        case .asynchronous(let body): try await body.run(repeat each argument)
        }
    }
}

/// A function's code, synchronous or not. An engine runs synchronous code without a Swift task.
enum EitherBody<Synchronous: Sendable, Asynchronous: Sendable>: Sendable {
    case synchronous(Synchronous)
    case asynchronous(Asynchronous)
}

// An enum can neither have a type pack nor hold a function that takes one, so each kind of code is in a struct.

struct SynchronousBody<Output: Sendable, each Input: Codable & Sendable>: Sendable {
    let run: @Sendable (repeat each Input) throws -> Output
}

struct AsynchronousBody<Output: Sendable, each Input: Codable & Sendable>: Sendable {
    let run: @Sendable (repeat each Input) async throws -> Output
}

// MARK: - For the client

extension RemoteFunction {
    /// The values the closure captured when it was made, in the order of its capture list; empty for a declared function.
    ///
    /// - Throws: What encoding them threw.
    package func capturedValues() throws -> [PickleValue] { try self.captured.get() }

    /// The value by which a request names the function.
    package var pickled: PickleValue { self.conditional ?? .reference(self.name) }

    /// The function with a condition that the engine calls first.
    package func dependent(
        on condition: PickleValue, arguments: [PickleValue], keywords: [(String, PickleValue)]
    ) -> RemoteFunction {
        var function = self
        function.conditional =
            DependentCall(function: self.pickled, condition: condition, arguments: arguments, keywords: keywords).pickled
        return function
    }

    /// The arguments as a request carries them, in order.
    package func encodeArguments(_ argument: repeat each Input) throws -> [PickleValue] {
        var values: [PickleValue] = []
        for each in repeat each argument { values.append(try encodeValue(each)) }
        return values
    }

    /// Reads an engine's reply to this function.
    package func decodeResult(_ value: PickleValue) throws -> Output { try self.result.decode(value) }

    /// Changes a result into the value that a reply carries.
    package func encodeResult(_ output: Output) throws -> PickleValue { try self.result.encode(output) }
}

// MARK: - For the macros' expansions

extension RemoteFunction {
    /// A declared function that gives a value.
    public init(__declared declaration: RemoteDeclaration, body: @escaping @Sendable (repeat each Input) throws -> Output)
    where Output: Codable {
        self.init(
            declaration: declaration, body: .synchronous(SynchronousBody(run: body)), result: .value, captured: .success([]))
    }

    /// An asynchronous declared function that gives a value.
    @_disfavoredOverload
    public init(__declared declaration: RemoteDeclaration, body: @escaping @Sendable (repeat each Input) async throws -> Output)
    where Output: Codable {
        self.init(
            declaration: declaration, body: .asynchronous(AsynchronousBody(run: body)), result: .value, captured: .success([]))
    }

    /// A declared function that gives nothing.
    public init(
        __declared declaration: RemoteDeclaration, procedure: @escaping @Sendable (repeat each Input) throws -> Output
    ) where Output == Void {
        self.init(
            declaration: declaration, body: .synchronous(SynchronousBody(run: procedure)), result: .nothing,
            captured: .success([]))
    }

    /// An asynchronous declared function that gives nothing.
    @_disfavoredOverload
    public init(
        __declared declaration: RemoteDeclaration, procedure: @escaping @Sendable (repeat each Input) async throws -> Output
    ) where Output == Void {
        self.init(
            declaration: declaration, body: .asynchronous(AsynchronousBody(run: procedure)), result: .nothing,
            captured: .success([]))
    }

    /// A closure that gives a value. `make` holds its code: given the captured values, it gives the closure.
    public init<each Capture: Codable & Sendable>(
        __closure declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) throws -> Output),
        capturing captured: repeat each Capture
    ) where Output: Codable {
        self.init(
            declaration: declaration, body: .synchronous(SynchronousBody(run: make(repeat each captured))), result: .value,
            captured: encodeAll(repeat each captured))
    }

    /// An asynchronous closure that gives a value.
    @_disfavoredOverload
    public init<each Capture: Codable & Sendable>(
        __closure declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output),
        capturing captured: repeat each Capture
    ) where Output: Codable {
        self.init(
            declaration: declaration, body: .asynchronous(AsynchronousBody(run: make(repeat each captured))), result: .value,
            captured: encodeAll(repeat each captured))
    }

    /// A closure that gives nothing.
    public init<each Capture: Codable & Sendable>(
        __closure declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) throws -> Output),
        capturing captured: repeat each Capture
    ) where Output == Void {
        self.init(
            declaration: declaration, body: .synchronous(SynchronousBody(run: make(repeat each captured))), result: .nothing,
            captured: encodeAll(repeat each captured))
    }

    /// An asynchronous closure that gives nothing.
    @_disfavoredOverload
    public init<each Capture: Codable & Sendable>(
        __closure declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output),
        capturing captured: repeat each Capture
    ) where Output == Void {
        self.init(
            declaration: declaration, body: .asynchronous(AsynchronousBody(run: make(repeat each captured))), result: .nothing,
            captured: encodeAll(repeat each captured))
    }
}

extension RemoteFunction {
    /// The function as an engine keeps it.
    public var __found: __FoundFunction { __FoundFunction(record: FunctionRecord(self)) }

    /// A declared function whose result cannot travel.
    @available(*, unavailable, message: "the result of a remote function must be Codable and Sendable, or Void")
    public init(
        __declared declaration: RemoteDeclaration, body: @escaping @Sendable (repeat each Input) async throws -> Output
    ) {
        fatalError("not available")
    }

    /// A closure of which a captured value cannot travel.
    @available(*, unavailable, message: "what a remote closure captures must be Codable and Sendable")
    @_disfavoredOverload
    public init<each Capture>(
        __closure declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output),
        capturing captured: repeat each Capture
    ) {
        fatalError("not available")
    }

    /// A closure whose result cannot travel.
    @available(*, unavailable, message: "the result of a remote closure must be Codable and Sendable, or Void")
    public init<each Capture: Codable & Sendable>(
        __closure declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output),
        capturing captured: repeat each Capture
    ) {
        fatalError("not available")
    }
}

private func encodeAll<each Value: Codable & Sendable>(_ value: repeat each Value) -> Result<[PickleValue], any Error> {
    Result {
        var values: [PickleValue] = []
        for each in repeat each value { values.append(try encodeValue(each)) }
        return values
    }
}
