package import ApusCore
import ApusFunctions
import ApusStore
import ApusTransport
package import ApusWire
import NIOCore
import Pickle

// Engines end: who is told, and what (protocol article, "An engine's end").
extension ControllerService {
    /// Takes the word of whoever started an engine for how its process ended.
    package nonisolated func engineProcessEnded(_ uuid: EngineUUID, _ end: EngineEnd) {
        self.eventLoop.execute { self.assumeIsolated { $0.engineEnds(.processEnded(uuid, end)) } }
    }

    private func engineEnds(_ event: EngineRegistry.Event) {
        self.perform(self.registry.handle(event, at: self.now))
        self.flushSockets()
        self.scheduleFlush()
    }

    /// An engine's process tells that it ends, and how.
    func takeLastWords(_ message: Message, from engine: EngineUUID) {
        guard let header = try? MessageHeader(scanning: message.header), header.session == engine.text,
            let content = try? JSONValue(parsing: message.content)
        else { return self.dropped("an engine's last words are not its own", at: .taskEngine) }
        let end = EngineEnd(content)
        // Its last answers to direct requests come by other connections, and may lie there unread.
        self.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(1)) { [weak self] in
            self?.assumeIsolated { $0.engineEnds(.ended(engine, end)) }
        }
    }

    // MARK: Words

    /// Why a task that an engine held has no result.
    func engineDied(_ uuid: EngineUUID, _ task: TaskID, _ function: String?, tries: Int?) -> ErrorContent {
        let engine = self.registry.lastID(of: uuid).map { "engine \($0)" } ?? "engine '\(uuid)'"
        let times = tries.map { $0 == 1 ? ", tried once" : ", tried \($0) times" } ?? ""
        let what = function.map { "\($0) (task '\(task)'\(times))" } ?? "task '\(task)'\(times)"
        let why = self.registry.departure(of: uuid).map { ": \($0.report)" } ?? ""
        return ErrorContent(.engineError, "\(engine) died while running \(what)\(why)")
    }

    /// What a function is called by its sender; nil for one without a name.
    static func name(ofFunction function: ByteBuffer?) -> String? {
        guard let function, function.readableBytes < 1 << 16 else { return nil }
        var buffers = [function][...]
        guard let value = try? ObjectBuffers.deserialize(&buffers) else { return nil }
        return value.referenceName ?? value.pythonFunctionName?.name
    }

    // MARK: Direct requests

    /// Answers the direct requests that an engine leaves, in its place.
    ///
    /// - Returns: Whether there were any.
    func answerDirectRequests(of engine: EngineUUID) -> Bool {
        let left = self.direct.remove(engine)
        for (task, asker) in left {
            self.letGo(of: task)
            if let reply = self.reply(to: asker, for: task, of: engine) {
                self.changes.append(.completed(task, reply: reply, received: .now))
                self.answer(reply.frames, on: asker.socket)
            } else {
                self.changes.append(.stranded(task, on: engine, at: .now))
            }
            self.keepIfWanted(task, nil)
        }
        self.sockets[.muxClient]?.flush()
        self.sockets[.broadcastClient]?.flush()
        self.performFollowUps()
        return !left.isEmpty
    }

    /// What the engine's end means to who asked; nil for a copy of a coalescing broadcast, which fails as a whole.
    private func reply(to asker: DirectQueues.Asker, for task: TaskID, of engine: EngineUUID) -> Message? {
        guard let header = try? MessageHeader(scanning: asker.header) else { return nil }
        var metadata: JSONObject = [
            "status": "error", "engine": .string(engine.text), "date": .string(WireDate.now.description),
        ]
        if asker.socket == .broadcastClient {
            guard let request = try? JSONValue(parsing: asker.metadata), request["is_coalescing"]?.bool != true else {
                return nil
            }
            metadata["is_broadcast"] = true
            metadata["is_coalescing"] = false
            metadata["original_msg_id"] = request["original_msg_id"] ?? ""
        }
        let function = header.type == .applyRequest ? Self.name(ofFunction: asker.function) : nil
        return self.session.message(
            header.type.reply, identities: asker.identities, parent: asker.header, metadata: metadata,
            content: self.engineDied(engine, task, function, tries: nil).json)
    }
}
