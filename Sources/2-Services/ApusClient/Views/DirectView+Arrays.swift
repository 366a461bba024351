import NIOCore
public import Pickle

// Arrays are spread and gathered along their first axis, and stay arrays.
extension DirectView {
    /// Spreads an array's rows over the engines: each gets its part, as an array, under the name.
    public func scatter(_ name: String, _ array: NDArray, _ partition: Partition = .block) async throws {
        try await self.scatterAsync(name, array, partition).value
    }

    /// Spreads an array's rows over the engines, without waiting.
    ///
    /// - Throws: ``ApusError`` with code `badArgument` for a single number, which has no rows.
    public func scatterAsync(_ name: String, _ array: NDArray, _ partition: Partition = .block) throws -> AsyncResult<Void> {
        guard let rows = array.shape.first else {
            throw ApusError(.badArgument, "a single number has no rows that could be spread over engines")
        }
        let count = try self.calls.engines().count
        let parts: [NDArray]
        switch partition {
        case .block: parts = Partition.blocks(of: rows, over: count).map { array[rows: $0] }
        case .roundRobin:
            parts = try (0..<count).map { part in
                try NDArray(joining: stride(from: part, to: rows, by: count).map { array[rows: $0..<$0 + 1] }, like: array)
            }
        }
        return AsyncResult(
            try self.calls.scatter(name, parts.map { .array($0) }), client: self.client, isSingle: false
        ) { _ in }
    }

    /// Puts together again an array that was spread, its rows in their original order.
    ///
    /// - Throws: ``ApusError`` with code `badResult` when the parts do not fit together.
    public func gatherArray(_ name: String, _ partition: Partition = .block) async throws -> NDArray {
        let parts = try await self.pull(name, as: NDArray.self)
        guard let first = parts.first else { throw ApusError(.noEnginesRegistered, "there is no engine to gather from") }
        switch partition {
        case .block: return try NDArray(joining: parts, like: first)
        case .roundRobin:
            let rows = parts.map { part in (0..<(part.shape.first ?? 0)).map { part[rows: $0..<$0 + 1] } }
            return try NDArray(joining: partition.join(rows), like: first)
        }
    }
}

extension NDArray {
    /// Joins arrays along the first axis; the pattern gives the shape of a row and the scalar type, also where there is no array
    /// to join.
    fileprivate init(joining parts: [NDArray], like pattern: NDArray) throws {
        let rowShape = pattern.shape.dropFirst()
        guard parts.allSatisfy({ $0.shape.dropFirst() == rowShape && $0.scalarType == pattern.scalarType && !$0.shape.isEmpty })
        else {
            throw ApusError(
                .badResult, "arrays of the shapes \(parts.map { $0.shape }) do not fit together along the first axis")
        }
        var data = ByteBufferAllocator().buffer(capacity: parts.reduce(0) { $0 + $1.data.readableBytes })
        for part in parts { data.writeImmutableBuffer(part.data) }
        self = try NDArray(
            data: data, shape: [parts.reduce(0) { $0 + $1.shape[0] }] + rowShape, scalarType: pattern.scalarType)
    }
}
