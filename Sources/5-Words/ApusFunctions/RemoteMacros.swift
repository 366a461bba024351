/// Makes a function callable on engines.
///
/// The function itself is unchanged. Beside it appears a ``RemoteFunction`` with a `$` before its name, for views to take:
///
/// ```swift
/// @Remote func square(_ x: Double) -> Double { x * x }
///
/// let here = square(3)
/// let there = try await view.apply($square, 3)
/// ```
///
/// The macro may stand on a global function or a static method, `async` and `throws` or not. The parameters and the result are
/// `Codable & Sendable`, because their values travel; a result may also be `Void`. Parameters that cannot travel (`inout`,
/// variadic, generic and closure ones) are errors at compile time. A default value holds for calls here; a call through a view
/// gives every argument.
///
/// Python calls the function by its name, "square", or, where two functions share that, "MyProgram.square".
@attached(peer, names: prefixed(`$`))
public macro Remote() = #externalMacro(module: "ApusMacros", type: "RemoteMacro")

/// Makes a closure that engines can run.
///
/// Every value that the closure uses from around it stands in its capture list, with its type; these values travel with each
/// call. The code itself is found in the engine, which runs the same executable.
///
/// ```swift
/// let factor = 3
/// let scale = #remote { [factor = factor as Int] (x: Double) in x * Double(factor) }
/// let six = try await view.apply(scale, 2)
/// ```
///
/// Parameters are written with their types; they, the captured values and the result are `Codable & Sendable`. The closure may
/// throw and wait. It cannot stand in a generic function or type.
@freestanding(expression)
public macro remote<Output: Sendable, each Input: Codable & Sendable>(
    _ body: @Sendable (repeat each Input) async throws -> Output
) -> RemoteFunction<Output, repeat each Input> = #externalMacro(module: "ApusMacros", type: "RemoteClosureMacro")

/// Makes the compiler refuse a closure whose parameters cannot travel.
@available(*, unavailable, message: "the parameters of a remote closure must be Codable and Sendable")
@freestanding(expression)
public macro remote<Output, each Input>(
    _ body: (repeat each Input) async throws -> Output
) -> RemoteFunction<Void> = #externalMacro(module: "ApusMacros", type: "RefusedClosureMacro")
