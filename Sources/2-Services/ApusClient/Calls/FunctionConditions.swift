public import ApusFunctions
import ApusWire
import Pickle

// Conditions that must hold on an engine before it runs a function (ipyparallel's `@depend` and `@require`).

extension RemoteFunction {
    /// Restricts the function to engines where a condition holds.
    ///
    /// The condition is called first, on the same engine. Where the condition gives false, a load-balanced task is offered to
    /// another engine; a call that was addressed to the engine throws ``RemoteError`` named `UnmetDependency`.
    ///
    /// ```swift
    /// @Remote func hasLicence(_ product: String) -> Bool { … }
    ///
    /// let solve = try $solve.depending(on: $hasLicence, "solver")
    /// let answer = try await client.loadBalancedView().apply(solve, problem)
    /// ```
    ///
    /// - Throws: ``ApusError`` with code `badArgument` when an argument cannot be sent, or the condition is a closure.
    public func depending<each Argument>(
        on condition: RemoteFunction<Bool, repeat each Argument>, _ arguments: repeat each Argument
    ) throws -> RemoteFunction {
        guard condition.declaration.closureID == nil else {
            throw ApusError(.badArgument, "a condition is a declared function; \(condition.declaration.signature) is a closure")
        }
        return self.dependent(
            on: .reference(condition.name), arguments: try encode(repeat each arguments, for: condition), keywords: [])
    }

    /// Gives the function values that are set in the engine's namespace, by their names, before the function runs.
    public func requiring(_ values: [String: any Encodable & Sendable]) throws -> RemoteFunction {
        self.dependent(on: requireFunction, arguments: [], keywords: try encode(namespace: values))
    }
}

extension PythonFunction {
    /// Restricts the function to engines where a condition holds; the condition is called first, on the same engine.
    public func depending(on condition: PythonFunction, _ arguments: any Encodable & Sendable...) throws -> PythonFunction {
        self.dependent(on: condition.pickled, arguments: try encode(list: arguments), keywords: [])
    }

    /// Restricts the function to engines that can import the modules.
    ///
    /// Each module is imported into the engine's namespace first; "numpy as np" imports it by another name.
    public func requiring(_ modules: String...) -> PythonFunction {
        // The condition is an expression, because an expression is evaluated in the engine's namespace, where the modules belong.
        // ipyparallel's own helper works only as code of the client's Python.
        let lines =
            ["try:"] + modules.map { "    import \($0)" } + [
                "except ImportError as error:", "    from ipyparallel.error import UnmetDependency",
                "    raise UnmetDependency(str(error)) from error",
            ]
        let code = JSONValue.string(lines.joined(separator: "\n") + "\n")
        return self.dependent(on: .reference("(lambda: exec(\(code), globals()))"), arguments: [], keywords: [])
    }
}

private let requireFunction = PickleValue.global(module: "ipyparallel.controller.dependency", name: "_require")
