import ApusCore
import ApusWire
import NIOCore

// Large arrays that came by the network go on to engines of this machine by memory (protocol article, "Shared memory"): what the
// system collected here is not sent once more, and not once for each engine.
extension ControllerService {
    /// The request as the engine is to have it: without large buffers that it can map. They stay here until ``letGo(of:)``.
    func lending(_ message: Message, to engine: EngineUUID, for task: TaskID) -> Message {
        guard let place = SharedMemory.place, message.buffers.contains(where: { $0.readableBytes >= SharedBuffers.smallest }),
            self.registry[engine]?.memoryPlace == place
        else { return message }
        let shared = SharedBuffers(lending: Array(message.buffers))
        guard !shared.memory.isEmpty, var metadata = (try? JSONValue(parsing: message.metadata))?.object,
            metadata["\(SharedBuffers.member)"] == nil
        else { return message }
        metadata["\(SharedBuffers.member)"] = shared.list
        var parts = message.parts
        parts.metadata = JSONValue.object(metadata).packed
        self.lent[task] = shared
        return self.signedAgain(parts, identities: Array(message.identities), buffers: shared.frames)
    }

    /// The engine has answered, or never will.
    func letGo(of task: TaskID) { if !self.lent.isEmpty { self.lent[task] = nil } }
}
