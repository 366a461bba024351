#if os(Linux)
    import ApusWire
    import MemoryFiles
    import NIOCore
    import Testing

    @Suite("Shared memory")
    struct SharedMemoryTests {
        @Test("The bytes are there for whoever has the reference, and for longer than the memory's owner keeps it")
        func maps() throws {
            var memory: SharedMemory? = SharedMemory(copying: ByteBuffer(string: "in common"))
            let reference = try #require(memory?.reference)
            #expect(reference.size == 9)
            let mapped = try SharedMemory.map(reference)
            memory = nil
            #expect(String(buffer: mapped) == "in common")
            #expect(throws: MemoryError.self) { try SharedMemory.map(reference) }
        }

        @Test("What is collected in a file is whole, can be written to, and is found as a file only as a whole")
        func collects() throws {
            let collected = try #require(MemoryFile())
            #expect(collected.append(ByteBuffer(string: "one, ")))
            #expect(collected.append(ByteBuffer()))
            #expect(collected.append(ByteBuffer(string: "two")))
            #expect(collected.count == 8)
            #expect(String(buffer: collected.copy()) == "one, two")
            var bytes = collected.finish()
            #expect(MappedMemory.file(of: bytes) != nil)
            #expect(MappedMemory.file(of: bytes.getSlice(at: 0, length: 7)!) == nil)
            bytes.setString("ONE", at: 0)
            #expect(String(buffer: bytes) == "ONE, two")
            #expect(throws: MemoryError.self) { try MappedMemory.buffer(of: 0, at: -1, length: 1) }
            #expect(!collected.append(ByteBuffer(string: "!")))
        }

        @Test("What was collected in a file can be shared as it is, and cannot change from then on")
        func lends() throws {
            let file = try #require(MemoryFile())
            #expect(file.append(ByteBuffer(string: "collected")))
            var bytes: ByteBuffer? = file.finish()
            var memory: SharedMemory? = SharedMemory(of: try #require(bytes))
            let reference = try #require(memory?.reference)
            #expect(SharedMemory(of: try #require(bytes))?.reference == reference)
            #expect(SharedMemory(of: try #require(bytes?.getSlice(at: 0, length: 4))) == nil)
            #expect(SharedMemory(of: ByteBuffer(string: "not in a file")) == nil)
            // Writing to them makes a copy.
            var mine = try #require(bytes)
            mine.setString("COLL", at: 0)
            #expect(String(buffer: try SharedMemory.map(reference)) == "collected")
            memory = nil
            #expect(String(buffer: try SharedMemory.map(reference)) == "collected")
            bytes = nil
            #expect(throws: MemoryError.self) { try SharedMemory.map(reference) }
        }

        @Test("Who writes to the bytes, or beyond them, writes to a copy")
        func writes() throws {
            let memory = try #require(SharedMemory(copying: ByteBuffer(string: "in common")))
            var mine = try SharedMemory.map(memory.reference)
            mine.setString("my own", at: 0)
            mine.writeString(String(repeating: "!", count: 10_000))
            var copy = mine
            copy.writeString("?")
            #expect(String(buffer: mine).hasPrefix("my ownmon!!!"))
            #expect(copy.readableBytes == mine.readableBytes + 1)
            #expect(String(buffer: try SharedMemory.map(memory.reference)) == "in common")
        }

        @Test("A reference that is not exactly right finds nothing")
        func wrongReferences() throws {
            let memory = try #require(SharedMemory(copying: ByteBuffer(string: "in common")))
            let right = memory.reference
            func finds(_ process: Int? = nil, _ descriptor: Int? = nil, _ token: String? = nil, _ size: Int? = nil) -> Bool {
                let reference = SharedMemory.Reference(
                    process: process ?? right.process, descriptor: descriptor ?? right.descriptor, token: token ?? right.token,
                    size: size ?? right.size)
                return (try? SharedMemory.map(reference)) != nil
            }
            #expect(finds())
            #expect(!finds(.max) && !finds(-1) && !finds(1))
            #expect(!finds(nil, .max) && !finds(nil, 0))
            #expect(!finds(nil, nil, "") && !finds(nil, nil, "../0") && !finds(nil, nil, right.token + "0"))
            for size in [0, -1, 8, 10, .max] { #expect(!finds(nil, nil, nil, size)) }
        }

        @Test("Of a message's buffers the large ones stay in memory, and the receiver has them all again")
        func buffers() throws {
            let large = ByteBuffer(repeating: 7, count: SharedBuffers.smallest)
            let small = ByteBuffer(repeating: 8, count: SharedBuffers.smallest - 1)
            let buffers = SharedBuffers(sharing: [small, large])
            #expect(buffers.frames == [small, ByteBuffer()])
            var metadata = ByteBuffer(string: "{\"label\": null")
            buffers.writeMember(into: &metadata)
            metadata.writeString("}")
            let shared = try #require(try JSONValue(parsing: metadata)["apus_shared"])
            let message = Self.message(buffers.frames)
            #expect(Array(try message.mapping(shared).buffers) == [small, large])
            let none = SharedBuffers(sharing: [small])
            #expect(none.memory.isEmpty)
        }

        @Test(
            "A torn list of shared buffers is an error",
            arguments: [
                "1", "[1]", "[{}]", "[{\"buffer\": 0}]",
                "[{\"buffer\": -1, \"process\": 1, \"descriptor\": 1, \"token\": \"\", \"size\": 1}]",
                "[{\"buffer\": 2, \"process\": 1, \"descriptor\": 1, \"token\": \"\", \"size\": 1}]",
                "[{\"buffer\": 9223372036854775807, \"process\": 1, \"descriptor\": 1, \"token\": \"\", \"size\": 1}]",
            ])
        func tornList(_ list: String) throws {
            let list = try JSONValue(parsing: list)
            #expect(throws: WireError.self) { try Self.message([ByteBuffer(), ByteBuffer()]).mapping(list) }
        }

        private static func message(_ buffers: [ByteBuffer]) -> Message {
            Session(username: "anna", signer: .unsigned).message(.applyRequest, id: MessageID("a"), buffers: buffers, date: .now)
        }
    }
#endif
