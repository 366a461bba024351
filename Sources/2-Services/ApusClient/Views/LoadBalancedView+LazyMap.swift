public import ApusFunctions
import Pickle

extension LoadBalancedView {
    /// Calls the function on every element while the results are consumed, a task per chunk; the input may be endless.
    ///
    /// - Parameters:
    ///   - chunkSize: How many elements a task gets; the last may get fewer.
    ///   - ordered: Whether results come in the order of the input, or as they are ready.
    ///   - maxOutstanding: The most tasks sent whose results are not yet consumed; nil: sixteen for each registered engine.
    public func lazyMap<Input, Output>(
        _ function: RemoteFunction<Output, Input>, _ elements: some Sequence<Input> & Sendable, chunkSize: Int = 1,
        ordered: Bool = true, maxOutstanding: Int? = nil
    ) throws -> LazyMap<Output> {
        let call = try Call(function)
        return try self.lazyMap(
            call, chunkSize: chunkSize, ordered: ordered, maxOutstanding: maxOutstanding, decode: function.decodeResult
        ) { flight, send in
            let readers = [ElementReader(elements)]
            while await flight.waitForRoom(), let chunk = try readers.nextChunk(chunkSize) { try send(chunk) }
        }
    }

    /// Calls the function on the elements of two sequences or more, side by side up to the end of the shortest, while the results
    /// are consumed.
    public func lazyMap<First: Sequence & Sendable, Second: Sequence & Sendable, each Other: Sequence & Sendable, Output>(
        _ function: RemoteFunction<Output, First.Element, Second.Element, repeat (each Other).Element>, _ first: First,
        _ second: Second, _ others: repeat each Other, chunkSize: Int = 1, ordered: Bool = true, maxOutstanding: Int? = nil
    ) throws -> LazyMap<Output> {
        let call = try Call(function)
        return try self.lazyMap(
            call, chunkSize: chunkSize, ordered: ordered, maxOutstanding: maxOutstanding, decode: function.decodeResult
        ) { flight, send in
            let readers = ElementReader.readers(first, second, repeat each others)
            while await flight.waitForRoom(), let chunk = try readers.nextChunk(chunkSize) { try send(chunk) }
        }
    }

    /// Calls the function on every element of an asynchronous sequence while the results are consumed.
    ///
    /// A task is sent when its chunk is full, or when the sequence ends.
    public func lazyMap<Source: AsyncSequence & Sendable, Output>(
        _ function: RemoteFunction<Output, Source.Element>, _ elements: Source, chunkSize: Int = 1, ordered: Bool = true,
        maxOutstanding: Int? = nil
    ) throws -> LazyMap<Output> where Source.Element: Codable & Sendable {
        let call = try Call(function)
        return try self.lazyMap(
            call, chunkSize: chunkSize, ordered: ordered, maxOutstanding: maxOutstanding, decode: function.decodeResult
        ) { flight, send in
            try await Self.read(elements, chunkSize, flight, send)
        }
    }

    /// Calls a Python function on every element while the results are consumed.
    public func lazyMap<Input: Encodable & Sendable, Output: Decodable & Sendable>(
        _ function: PythonFunction, _ elements: some Sequence<Input> & Sendable, chunkSize: Int = 1, ordered: Bool = true,
        maxOutstanding: Int? = nil, returning type: Output.Type = Output.self
    ) throws -> LazyMap<Output> {
        try self.lazyMap(
            Call(function), chunkSize: chunkSize, ordered: ordered, maxOutstanding: maxOutstanding,
            decode: { try PickleDecoder().decode(type, from: $0) }
        ) { flight, send in
            let readers = [ElementReader(elements)]
            while await flight.waitForRoom(), let chunk = try readers.nextChunk(chunkSize) { try send(chunk) }
        }
    }

    /// Calls the function on every element of an asynchronous sequence and gives all results in the order of the input.
    public func map<Source: AsyncSequence & Sendable, Output>(
        _ function: RemoteFunction<Output, Source.Element>, _ elements: Source, chunkSize: Int = 1
    ) async throws -> [Output] where Source.Element: Codable & Sendable {
        var results: [Output] = []
        for try await result in try self.lazyMap(function, elements, chunkSize: chunkSize) { results.append(result) }
        return results
    }

    private static func read<Source: AsyncSequence>(
        _ elements: Source, _ chunkSize: Int, _ flight: LazyMapFlight, _ send: ([PickleValue]) throws -> Void
    ) async throws where Source.Element: Encodable {
        var iterator = elements.makeAsyncIterator()
        let encoder = PickleEncoder()
        var index = 0
        while await flight.waitForRoom() {
            var chunk: [PickleValue] = []
            while chunk.count < chunkSize, let element = try await iterator.next() {
                chunk.append(try encode(element: element, at: index, with: encoder))
                index += 1
            }
            if chunk.isEmpty { return }
            try send([.list(chunk)])
        }
    }

    private func lazyMap<Output>(
        _ call: Call, chunkSize: Int, ordered: Bool, maxOutstanding: Int?,
        decode: @escaping @Sendable (PickleValue) throws -> Output,
        read: @escaping @Sendable (LazyMapFlight, ([PickleValue]) throws -> Void) async throws -> Void
    ) throws -> LazyMap<Output> {
        guard chunkSize > 0 else { throw ApusError(.badArgument, "the chunk size is \(chunkSize); it must be at least 1") }
        let room = maxOutstanding ?? 16 * max(1, self.client.ids.count)
        guard room > 0 else { throw ApusError(.badArgument, "at most \(room) outstanding tasks is none; it must be at least 1") }
        let view = self
        return LazyMap(
            client: self.client, maxOutstanding: room, isOrdered: ordered,
            send: { flight in
                let terms = try view.terms(call, .map)
                try await read(flight) { columns in
                    let calls = try columns.first?.elements().count ?? 0
                    flight.sent(
                        MapRun.Chunk(
                            elements: 0..<calls,
                            task: view.send(call.mapBuffers(columns, view.manner(ofTasksWith: chunkSize)), terms)))
                }
            }, decode: decode)
    }
}
