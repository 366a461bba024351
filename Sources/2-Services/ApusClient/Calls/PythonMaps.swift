import Pickle

// Maps of Python functions over several sequences.
extension LoadBalancedView {
    /// Calls a Python function on the elements of two sequences or more, side by side, as far as the shortest goes.
    ///
    /// ```swift
    /// let powers: [Int] = try await view.map("operator.pow", [2, 3, 5], [10, 4, 2])  // [1024, 81, 25]
    /// ```
    public func map<First: Sequence, Second: Sequence, each Other: Sequence, Output: Decodable & Sendable>(
        _ function: PythonFunction, _ first: First, _ second: Second, _ others: repeat each Other, chunkSize: Int? = nil,
        returning type: Output.Type = Output.self
    ) async throws -> [Output]
    where First.Element: Encodable, Second.Element: Encodable, repeat (each Other).Element: Encodable {
        try await self.mapAsync(function, first, second, repeat each others, chunkSize: chunkSize, returning: type).value
    }

    /// Calls a Python function on the elements of two sequences or more, without waiting; the results can be iterated as they
    /// come.
    public func mapAsync<First: Sequence, Second: Sequence, each Other: Sequence, Output: Decodable & Sendable>(
        _ function: PythonFunction, _ first: First, _ second: Second, _ others: repeat each Other, chunkSize: Int? = nil,
        ordered: Bool = true, returning type: Output.Type = Output.self
    ) throws -> AsyncMapResult<Output>
    where First.Element: Encodable, Second.Element: Encodable, repeat (each Other).Element: Encodable {
        try self.map(
            Call(function), ElementReader.readers(first, second, repeat each others).columns(), chunkSize: chunkSize,
            ordered: ordered
        ) { try PickleDecoder().decode(type, from: $0) }
    }
}

extension DirectView {
    /// Calls a Python function on the elements of two sequences or more, side by side, one part per engine.
    public func map<First: Sequence, Second: Sequence, each Other: Sequence, Output: Decodable & Sendable>(
        _ function: PythonFunction, _ first: First, _ second: Second, _ others: repeat each Other,
        returning type: Output.Type = Output.self
    ) async throws -> [Output]
    where First.Element: Encodable, Second.Element: Encodable, repeat (each Other).Element: Encodable {
        try await AsyncMapResult<Output>(
            self.calls.map(Call(function), ElementReader.readers(first, second, repeat each others).columns()),
            whenCancelled: self.whenCancelled, decode: { try PickleDecoder().decode(type, from: $0) }
        ).value
    }
}
