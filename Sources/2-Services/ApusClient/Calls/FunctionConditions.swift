public import ApusFunctions
import ApusWire
import Pickle

// What must hold on an engine before it runs a function (ipyparallel's `@depend` and `@require`).

extension RemoteFunction {
    /// The function for those engines where the condition holds: it is called first, on the same engine.
    ///
    /// Where it gives false, a load-balanced task is offered to another engine; on an engine that was named the call throws
    /// ``RemoteError`` named `UnmetDependency`.
    ///
    /// ```swift
    /// @Remote func hasLicence(_ product: String) -> Bool { … }
    ///
    /// let solve = try $solve.depending(on: $hasLicence, "solver")
    /// let answer = try await client.loadBalancedView().apply(solve, problem)
    /// ```
    ///
    /// - Throws: ``ApusError`` with code `badArgument` when an argument cannot be sent, or the condition is a closure that captured
    ///   values.
    public func depending<each Argument>(
        on condition: RemoteFunction<Bool, repeat each Argument>, _ arguments: repeat each Argument
    ) throws -> RemoteFunction {
        guard condition.declaration.closureID == nil else {
            throw ApusError(.badArgument, "a condition is a declared function; \(condition.declaration.signature) is a closure")
        }
        return self.dependent(
            on: .reference(condition.name), arguments: try encode(repeat each arguments, for: condition), keywords: [])
    }

    /// The function with names that are set in the engine's namespace before it runs.
    public func requiring(_ values: [String: any Encodable & Sendable]) throws -> RemoteFunction {
        self.dependent(on: requireFunction, arguments: [], keywords: try encode(namespace: values))
    }
}

extension PythonFunction {
    /// The function for those engines where the condition holds: it is called first, on the same engine.
    public func depending(on condition: PythonFunction, _ arguments: any Encodable & Sendable...) throws -> PythonFunction {
        self.dependent(on: condition.pickled, arguments: try encode(list: arguments), keywords: [])
    }

    /// The function for those engines that can import the modules; each is imported into the namespace first: "numpy as np".
    public func requiring(_ modules: String...) -> PythonFunction {
        // An expression, because it is evaluated in the engine's namespace, where the modules are to be; ipyparallel's own helper
        // works only as code of the client's Python.
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
