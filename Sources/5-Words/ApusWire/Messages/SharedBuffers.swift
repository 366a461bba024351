package import MemoryFiles
package import NIOCore

/// The buffers of a message of which some stay in shared memory, an empty frame in their place (protocol article, "Shared memory").
package struct SharedBuffers: Sendable {
    /// The smallest buffer, in bytes, that costs less to map in several processes than to send.
    package static let smallest = 256 * 1024

    /// The frames that go over the network.
    package private(set) var frames: [ByteBuffer]
    private var shared: [(place: Int, memory: SharedMemory)] = []

    /// Shares nothing: all buffers go over the network.
    package init(sending buffers: [ByteBuffer]) { self.frames = buffers }

    /// Copies large buffers to memory that processes of the same ``SharedMemory/place`` can map, as far as there is such memory.
    package init(sharing buffers: [ByteBuffer]) { self.init(buffers) { SharedMemory(copying: $0) } }

    /// Shares, without a copy, the large buffers that were collected in memory files as they came from the network.
    package init(lending buffers: [ByteBuffer]) { self.init(buffers) { SharedMemory(of: $0) } }

    private init(_ buffers: [ByteBuffer], _ share: (ByteBuffer) -> SharedMemory?) {
        self.frames = buffers
        for place in buffers.indices where buffers[place].readableBytes >= Self.smallest {
            guard let memory = share(buffers[place]) else { continue }
            self.frames[place] = ByteBuffer()
            self.shared.append((place, memory))
        }
    }

    /// The shared memory, which the sender must keep until the message is answered; empty if nothing is shared.
    package var memory: [SharedMemory] { self.shared.map { $0.memory } }

    /// Writes the member ``ApusMember/shared`` into an object that has other members before it, if anything is shared.
    package func writeMember(into metadata: inout ByteBuffer) {
        guard !self.shared.isEmpty else { return }
        metadata.writeMember(ApusMember.shared)
        self.list.write(into: &metadata)
    }

    /// The value of the member ``ApusMember/shared``.
    package var list: JSONValue {
        .array(
            self.shared.map { place, memory in
                let reference = memory.reference
                return [
                    "buffer": .int(place), "process": .int(reference.process), "descriptor": .int(reference.descriptor),
                    "token": .string(reference.token), "size": .int(reference.size),
                ]
            })
    }
}

extension Message {
    /// The message with its shared buffers mapped, as the member ``ApusMember/shared`` of its metadata lists them.
    ///
    /// - Throws: ``WireError`` when the list is malformed or the memory is gone.
    package func mapping(_ shared: JSONValue) throws(WireError) -> Message {
        guard let entries = shared.array else { throw WireError("the list of shared buffers is no list") }
        var message = self
        for entry in entries {
            guard let place = entry["buffer"]?.int, let process = entry["process"]?.int,
                let descriptor = entry["descriptor"]?.int, let token = entry["token"]?.string, let size = entry["size"]?.int,
                (0..<message.buffers.count).contains(place), process > 0, descriptor >= 0
            else { throw WireError("the list of shared buffers is torn") }
            let reference = SharedMemory.Reference(process: process, descriptor: descriptor, token: token, size: size)
            do { message.replaceBuffer(at: place, by: try SharedMemory.map(reference)) } catch { throw WireError("\(error)") }
        }
        return message
    }
}
