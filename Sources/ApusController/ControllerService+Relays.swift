import ApusCore
import ApusStore
import ApusTransport
import ApusWire
import NIOCore

// The direct side: requests that name their engine, their replies, and everyone's output (protocol article, "Mux and control").
extension ControllerService {
    /// `[client, engine, delimiter, …]` becomes `[engine, client, delimiter, …]`.
    func relayRequest(_ request: VerifiedRequest, to side: ControllerSocket) {
        let source: ControllerSocket = side == .muxEngine ? .muxClient : .controlClient
        let (message, header) = (request.message, request.header)
        let uuid = EngineUUID(String(buffer: message.identities[1]))
        if side == .controlEngine, header.type == .abortRequest { self.abortWaiting(message) }
        guard self.engines[uuid] != nil else { return self.answerUnknownEngine(message, header, uuid, on: source) }
        var relayed = (side == .muxEngine ? self.lending(message, to: uuid, for: header.id) : message).frames
        relayed.swapAt(0, 1)
        self.send(relayed, on: side)
        if side == .muxEngine, header.type == .applyRequest || header.type == .executeRequest {
            self.direct.submitted(header.id, to: uuid, by: DirectQueues.Asker(message, at: source))
            self.changes.append(
                .submitted(header.id, request: message, client: header.session, date: header.date, queue: .direct, engine: uuid))
        }
    }

    /// Python's relays lose such a message and its sender waits; ours says that there is nobody.
    private func answerUnknownEngine(_ message: Message, _ header: MessageHeader, _ uuid: EngineUUID, on source: ControllerSocket)
    {
        guard header.type.isAnswered else { return }
        let error = ErrorContent(.engineError, "Engine '\(uuid)' is not registered; message '\(header.id)' was not delivered")
        let reply = self.session.message(
            header.type.reply, identities: [message.identities[0], message.identities[1]], parent: message.header,
            metadata: ["status": "error", "engine": .string(uuid.text)], content: error.json)
        self.send(reply.frames, on: source)
    }

    /// A client's abort goes to the engines; tasks that no engine has yet can only be stopped here.
    private func abortWaiting(_ message: Message) {
        guard let content = try? JSONValue(parsing: message.content) else { return }
        let ids =
            content["msg_ids"]?.string.map { [TaskID($0)] }
            ?? (content["msg_ids"]?.array ?? []).compactMap { $0.string.map { TaskID($0) } }
        if !ids.isEmpty { self.perform(.aborted(ids)) }
    }

    /// `[engine, client, delimiter, …]` becomes `[client, engine, delimiter, …]`.
    func relayReply(_ reply: VerifiedMessage, to side: ControllerSocket) {
        let message = reply.message
        let uuid = EngineUUID(String(buffer: message.identities[0]))
        if side == .controlClient, message.identities[1] == Self.ownIdentity {
            return self.takeRecallReply(message, from: uuid)
        }
        guard self.isTimely(message, from: uuid) else { return }
        var relayed = message.frames
        relayed.swapAt(0, 1)
        guard side == .muxClient else {
            // Whoever is told that the engine ends must not find that it is given another task.
            if (try? MessageHeader(scanning: message.header))?.type == .shutdownReply,
                let content = try? JSONValue(parsing: message.content), content["status"] == "ok", content["restart"] != true
            {
                self.perform(self.registry.handle(.shutdownReplySeen(uuid), at: self.now))
            }
            self.send(relayed, on: side)
            return self.noteTouch(of: uuid)
        }
        self.answer(relayed, on: side)
        if let id = MessageHeader.messageID(scanning: message.parent) {
            let wasAborted = message.content.textMember("status") == "aborted"
            self.direct.replied(id, by: uuid, wasAborted: wasAborted)
            self.letGo(of: id)
            self.changes.append(.completed(id, reply: message, received: .now))
            self.keepIfWanted(id, message)
            self.performFollowUps()
            self.noteTouch(of: uuid)
        }
    }

    /// Something other than a task has run on the engine; conditions that did not hold there may hold now.
    func noteTouch(of engine: EngineUUID) {
        if self.scheduler.mayHaveRefusals { self.perform(.engineTouched(engine)) }
    }

    /// `[topic, delimiter, …]`, or no topic: passed on to every client, and what belongs to a task is kept with it.
    func relayOutput(_ output: VerifiedMessage) {
        let message = output.message
        self.send(message.frames, on: .iopubClient)
        guard let header = try? MessageHeader(scanning: message.header), header.type != .status else { return }
        if header.type == .shutdownReply {
            return self.perform(self.registry.handle(.shutdownReplySeen(EngineUUID(header.session)), at: self.now))
        }
        if let id = MessageHeader.messageID(scanning: message.parent),
            let output = TaskOutput(type: header.type, content: message.content)
        {
            self.changes.append(.output(id, output))
        }
    }
}
