#if os(Linux)
    import ApusController
    import ApusStore
    import ApusTransport
    import ApusWire
    import MemoryFiles
    import NIOCore
    import Testing

    @Suite("Large arrays on their way through a controller", .timeLimit(.minutes(1)))
    struct SharingTests {
        /// A buffer as ZMTP collects large frames.
        private static func collected(_ text: String) throws -> ByteBuffer {
            let file = try #require(MemoryFile())
            #expect(file.append(ByteBuffer(string: text)))
            return file.finish()
        }

        private enum Way: CaseIterable { case direct, balanced }

        @Test("An engine of this machine maps them, until it has answered; another is sent them", arguments: Way.allCases)
        private func lending(way: Way) async throws {
            let place = try #require(SharedMemory.place)
            let world = try await World(store: NoTaskStore())
            let text = String(repeating: "array ", count: 100_000)
            let client = world.socket(.dealer, way == .direct ? world.client.mux : world.client.task)
            func request(to engine: FakeEngine) throws -> Message {
                let small = ByteBuffer(string: "small")
                return world.message(
                    .applyRequest,
                    metadata: way == .direct ? ["label": "big"] : ["targets": [.string(engine.uuid)], "label": "big"],
                    identities: way == .direct ? [ByteBuffer(string: engine.uuid)] : [],
                    buffers: [small, try Self.collected(text), small])
            }

            let near = try await world.startEngine("near", apus: ["recall": true, "memory": .string(place)])
            client.send(try request(to: near))
            let peer = way == .direct ? near.mux : near.task
            let received = try await peer.next()
            #expect(received.buffers.map { $0.readableBytes } == [5, 0, 5])
            let metadata = try JSONValue(parsing: received.metadata)
            #expect(metadata["label"] == "big")
            let shared = try #require(metadata["apus_shared"])
            #expect(String(buffer: Array(try received.mapping(shared).buffers)[1]) == text)
            peer.send(near.reply(to: received))
            _ = try await client.next()
            // The answer was the last that held it.
            var isGone = false
            while !isGone { do { _ = try received.mapping(shared) } catch { isGone = true } }

            let far = try await world.startEngine("far", apus: ["recall": true, "memory": "elsewhere"])
            client.send(try request(to: far))
            let whole = try await (way == .direct ? far.mux : far.task).next()
            #expect(String(buffer: Array(whole.buffers)[1]) == text)
            #expect(try JSONValue(parsing: whole.metadata)["apus_shared"] == nil)
            await world.stop()
        }
    }
#endif
