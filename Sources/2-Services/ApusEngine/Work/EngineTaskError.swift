package import ApusWire

/// An error that can say by which name Python knows it.
///
/// A remote function that throws one is seen to raise that exception: `UnmetDependency` sends a load-balanced task on to
/// another engine, for example. Any other error bears the name of its Swift type.
public protocol PythonNamedError: Error {
    /// The exception's class name: "ValueError".
    var pythonName: String { get }
}

/// What the engine itself has to say against a request.
package struct EngineTaskError: PythonNamedError, Sendable, CustomStringConvertible {
    package let name: ErrorName
    package let description: String

    package init(_ name: ErrorName, _ description: String) {
        self.name = name
        self.description = description
    }

    package var pythonName: String { self.name.rawValue }
}
