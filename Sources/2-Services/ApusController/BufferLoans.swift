import ApusCore
import ApusWire
import MemoryFiles
import NIOCore

/// Keeps large buffers of requests in memory that engines map, until the engines have answered. Buffers that came by the network
/// so reach engines of this machine (protocol article, "Shared memory") without being sent again for each engine.
final class BufferLoans {
    private let engines: EngineRoster
    private let session: ControllerSession
    /// The lent buffers, by the task whose request they belong to.
    private var lent: [TaskID: SharedBuffers] = [:]

    init(engines: EngineRoster, session: ControllerSession) {
        self.engines = engines
        self.session = session
    }

    /// Gives the request as it is sent to the engine: without the large buffers that the engine can map, which are kept until
    /// ``letGo(of:)``.
    func lending(_ message: Message, to engine: EngineUUID, for task: TaskID) -> Message {
        guard let place = SharedMemory.place, message.buffers.contains(where: { $0.readableBytes >= SharedBuffers.smallest }),
            self.engines.memoryPlace(of: engine) == place
        else { return message }
        let shared = SharedBuffers(lending: Array(message.buffers))
        guard !shared.memory.isEmpty, var metadata = (try? JSONValue(parsing: message.metadata))?.object,
            metadata[ApusMember.shared] == nil
        else { return message }
        metadata[ApusMember.shared] = shared.list
        var parts = message.parts
        parts.metadata = JSONValue.object(metadata).packed
        self.lent[task] = shared
        return self.session.signedAgain(parts, identities: Array(message.identities), buffers: shared.frames)
    }

    /// Forgets the buffers of a task, because its engine has answered or never will.
    func letGo(of task: TaskID) { if !self.lent.isEmpty { self.lent[task] = nil } }
}
