import ApusFunctions

// Waits of functions that run on engines. A function that waits for tasks of its own lets its engine run others in the meantime;
// otherwise engines that all wait would wait for ever.

/// Waits with the body. On an engine, the function that waits gives up its turn, and returns when it has a turn again.
nonisolated(nonsending) func givingUpTurn<Value>(_ body: nonisolated(nonsending) () async throws -> Value) async throws -> Value {
    guard let turn = EngineContext.current?.turn else { return try await body() }
    try turn.beginWait()
    do {
        let value = try await body()
        await turn.endWait()
        return value
    } catch {
        await turn.endWait()
        throw error
    }
}

/// The stream, whose consumer gives up its turn while it waits for an element.
func givingUpTurn<Element: Sendable>(in stream: AsyncStream<Element>) -> AsyncStream<Element> {
    guard EngineContext.current?.turn != nil else { return stream }
    return AsyncStream {
        func next() async -> Element? {
            for await element in stream { return element }
            return nil
        }
        // Where too many functions wait already, this one waits without giving up its turn.
        do { return try await givingUpTurn { await next() } } catch { return await next() }
    }
}
