import ApusCore
import ApusWire
import MemoryFiles
import NIOCore

/// Large buffers of requests that engines map, until these have answered. What came by the network goes on to engines of this machine
/// by memory (protocol article, "Shared memory"): it is not sent once more, and not once for each engine.
final class BufferLoans {
    private let engines: EngineRoster
    private let session: ControllerSession
    /// By the task whose request they belong to.
    private var lent: [TaskID: SharedBuffers] = [:]

    init(engines: EngineRoster, session: ControllerSession) {
        self.engines = engines
        self.session = session
    }

    /// The request as the engine is to have it: without large buffers that it can map. They stay here until ``letGo(of:)``.
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

    /// The engine has answered, or never will.
    func letGo(of task: TaskID) { if !self.lent.isEmpty { self.lent[task] = nil } }
}
