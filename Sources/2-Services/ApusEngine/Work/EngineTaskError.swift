package import ApusWire

/// An error that has the name of a Python exception.
///
/// A remote function that throws such an error raises that exception for its clients: with `UnmetDependency`, for example, a
/// load-balanced task goes to another engine. Any other error has the name of its Swift type.
public protocol PythonNamedError: Error {
    /// The exception's class name: "ValueError".
    var pythonName: String { get }
}

/// An error that the engine itself gives a request, and not the function that it calls.
package struct EngineTaskError: PythonNamedError, Sendable, CustomStringConvertible {
    package let name: ErrorName
    package let description: String

    package init(_ name: ErrorName, _ description: String) {
        self.name = name
        self.description = description
    }

    package var pythonName: String { self.name.rawValue }
}
