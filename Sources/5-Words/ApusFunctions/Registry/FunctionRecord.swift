package import Pickle

/// The values of a call: the arguments by position and by name, and the values that a closure captured.
package struct FunctionCall: Sendable {
    package var arguments: [PickleValue]
    /// Arguments given by name; Python callers do so. A label or, failing that, a parameter's name.
    package var keywords: [String: PickleValue]
    /// The closure's captured values, from ``RemoteFunction/capturedValues()`` where the closure was made.
    package var captured: [PickleValue]

    package init(arguments: [PickleValue] = [], keywords: [String: PickleValue] = [:], captured: [PickleValue] = []) {
        self.arguments = arguments
        self.keywords = keywords
        self.captured = captured
    }
}

/// A function of this executable that a request can run.
package final class FunctionRecord: Sendable {
    private enum Entry: Sendable {
        case synchronous(@Sendable (borrowing FunctionCall) throws -> PickleValue)
        case asynchronous(@Sendable (FunctionCall) async throws -> PickleValue)
    }

    package let declaration: RemoteDeclaration
    /// The name that requests carry; no two functions of a program share one.
    package var qualifiedName: String { self.declaration.qualifiedName }
    private let entry: Entry

    private init(_ declaration: RemoteDeclaration, _ entry: Entry) {
        self.declaration = declaration
        self.entry = entry
    }

    /// Whether the function must be awaited. If not, ``invokeSynchronously(_:)`` runs it without a task.
    package var isAsynchronous: Bool {
        if case .asynchronous = self.entry { true } else { false }
    }

    /// Runs the function to its end.
    ///
    /// - Throws: ``FunctionCallError`` if the arguments do not fit it; else what the function throws, untouched.
    package func invoke(_ call: FunctionCall) async throws -> PickleValue {
        switch self.entry {
        case .synchronous(let run): try run(call)
        case .asynchronous(let run): try await run(call)
        }
    }

    /// Runs a function that is not asynchronous on the calling thread.
    ///
    /// - Precondition: ``isAsynchronous`` is false.
    /// - Throws: As ``invoke(_:)``.
    package func invokeSynchronously(_ call: borrowing FunctionCall) throws -> PickleValue {
        guard case .synchronous(let run) = self.entry else {
            preconditionFailure("\(self.qualifiedName) is asynchronous and was run as if it were not")
        }
        return try run(call)
    }
}

extension FunctionRecord: CustomStringConvertible {
    /// "MyProgram.square: square(_ x: Double) -> Double".
    package var description: String { "\(self.qualifiedName): \(self.declaration.signature)" }
}

// MARK: - Making one

extension FunctionRecord {
    /// The record of a declared function, or of a closure together with its captured values.
    package convenience init<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>) {
        let declaration = function.declaration
        let result = function.result
        switch function.body {
        case .synchronous(let body):
            self.init(
                declaration,
                .synchronous { call in
                    var reader = try ArgumentReader(call, of: declaration)
                    return try result.encode(try body.run(repeat try reader.next((each Input).self)))
                })
        case .asynchronous(let body):
            self.init(
                declaration,
                .asynchronous { call in
                    var reader = try ArgumentReader(call, of: declaration)
                    // Not inline in the call: nothing may be half read when the body suspends.
                    let arguments = (repeat try reader.next((each Input).self))
                    return try result.encode(try await body.run(repeat each arguments))
                })
        }
    }

    /// The record of a closure whose captured values come with each call.
    convenience init<Output, each Capture, each Input>(
        _ declaration: RemoteDeclaration,
        synchronous make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) throws -> Output),
        result: ResultCoding<Output>
    ) where repeat each Capture: Codable & Sendable, repeat each Input: Codable & Sendable {
        self.init(
            declaration,
            .synchronous { call in
                var captures = try CaptureReader(call, of: declaration)
                let body = make(repeat try captures.next((each Capture).self))
                try captures.finish()
                var reader = try ArgumentReader(call, of: declaration)
                return try result.encode(try body(repeat try reader.next((each Input).self)))
            })
    }

    /// The record of an asynchronous closure whose captured values come with each call.
    convenience init<Output, each Capture, each Input>(
        _ declaration: RemoteDeclaration,
        asynchronous make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output),
        result: ResultCoding<Output>
    ) where repeat each Capture: Codable & Sendable, repeat each Input: Codable & Sendable {
        self.init(
            declaration,
            .asynchronous { call in
                var captures = try CaptureReader(call, of: declaration)
                let body = make(repeat try captures.next((each Capture).self))
                try captures.finish()
                var reader = try ArgumentReader(call, of: declaration)
                let arguments = (repeat try reader.next((each Input).self))
                return try result.encode(try await body(repeat each arguments))
            })
    }
}
