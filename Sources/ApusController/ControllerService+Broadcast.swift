import ApusCore
import ApusStore
import ApusTransport
import ApusWire
import Logging
import NIOCore

// One message to many engines (protocol article, "Broadcast"). The tree of Python's controller spreads work over processes; in one
// process a single scheduler does the same with fewer copies, behind as many engine-side ports as the tree would have leaves.
extension ControllerService {
    /// A broadcast that will be answered as a whole: who asked, and what has come of the replies that become one.
    struct OpenBroadcast {
        let client: ByteBuffer
        let type: MessageType
        /// The request's header, which is the parent of its answer.
        let header: ByteBuffer
        var replies: [BroadcastOutlet: Message] = [:]

        var replyType: MessageType { self.type == .executeRequest ? .executeReply : .applyReply }
    }

    /// `[client, delimiter, …]`.
    func takeBroadcast(_ frames: [ByteBuffer]) {
        guard let message = self.accept(frames, at: .broadcastClient), let client = message.identities.first else { return }
        guard self.broadcastReplay.remember(message.signature) else {
            return self.dropped("a message was played again", at: .broadcastClient)
        }
        do {
            let header = try MessageHeader(scanning: message.header)
            let metadata = try JSONValue(parsing: message.metadata)
            let targets = (metadata["targets"]?.array ?? []).compactMap { pair -> BroadcastRequest.Target? in
                guard let uuid = pair.array?.first?.string ?? pair.string else { return nil }
                return BroadcastRequest.Target(EngineUUID(uuid), EngineID(pair.array?.last?.int ?? -1))
            }
            let id = metadata["original_msg_id"]?.string.flatMap { $0.isEmpty ? nil : MessageID($0) } ?? header.id
            let isCoalescing = metadata["is_coalescing"]?.bool ?? false
            let request = BroadcastRequest(
                id, to: targets, isCoalescing: isCoalescing,
                awaitsOwnReply: !isCoalescing && metadata["apus_copies"]?.bool != true)
            let effects = self.broadcast.handle(.requested(request))
            if isCoalescing || request.awaitsOwnReply, effects != [.refuse(id)] {
                self.openBroadcasts[id] = OpenBroadcast(client: client, type: header.type, header: message.header)
            }
            var copies: CopyMaker?
            for effect in effects {
                guard case .forward(let copy, _) = effect else {
                    try self.perform(effect, message, header, reply: nil)
                    continue
                }
                var maker = try copies ?? CopyMaker(message, original: id, metadata: metadata, targets: targets)
                self.forward(copy, maker.copy(copy, self.session), header)
                copies = maker
            }
        } catch {
            self.dropped("\(error)", at: .broadcastClient)
        }
    }

    func handleBroadcast(_ event: SocketEvent, leaf: Int) {
        switch event {
        case .received(let messages):
            for frames in messages { self.takeBroadcastReply(frames) }
            self.sockets[.broadcastClient]?.flush()
            self.scheduleFlush()
        case .peerConnected(let identity): self.leaves[EngineUUID(String(buffer: identity))] = leaf
        case .peerDisconnected(let identity): self.leaves[EngineUUID(String(buffer: identity))] = nil
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "broadcast \(leaf)"])
        }
    }

    /// `[engine, client, delimiter, …]`.
    private func takeBroadcastReply(_ frames: [ByteBuffer]) {
        guard let message = self.accept(frames, at: .broadcastClient), let engine = message.identities.first else { return }
        let uuid = EngineUUID(String(buffer: engine))
        if let id = MessageHeader.messageID(scanning: message.parent) {
            self.direct.replied(id, by: uuid, wasAborted: message.content.textMember("status") == "aborted")
            self.letGo(of: id)
            self.changes.append(.completed(id, reply: message, received: .now))
        }
        do {
            let metadata = try JSONValue(parsing: message.metadata)
            let original = MessageID(metadata["original_msg_id"]?.string ?? "")
            let reply = BroadcastReply(to: original, from: .engine(uuid), isCoalescing: metadata["is_coalescing"]?.bool ?? false)
            let header = try MessageHeader(scanning: message.header)
            for effect in self.broadcast.handle(.replied(reply)) { try self.perform(effect, message, header, reply: message) }
        } catch {
            self.dropped("\(error)", at: .broadcastClient)
        }
    }

    func broadcastLost(_ engine: EngineUUID) {
        for effect in self.broadcast.handle(.engineLeft(engine)) {
            if case .gather(let gathering) = effect { self.gather(gathering) }
            if case .fail(let id, let targets) = effect { self.failBroadcast(id, targets) }
            if case .close(let id) = effect { self.closeBroadcast(id) }
        }
        self.sockets[.broadcastClient]?.flush()
    }

    // MARK: Effects

    private func perform(_ effect: BroadcastScheduler.Effect, _ message: Message, _ header: MessageHeader, reply: Message?)
        throws(WireError)
    {
        switch effect {
        // Only a request is spread, and that is done where it comes in.
        case .forward: break
        case .relay: if let reply { self.answer(Array(reply.frames.dropFirst()), on: .broadcastClient) }
        case .keep(let id, let outlet): self.openBroadcasts[id]?.replies[outlet] = reply
        case .gather(let gathering): self.gather(gathering)
        case .fail(let id, let targets): self.failBroadcast(id, targets)
        case .close(let id): self.closeBroadcast(id)
        case .refuse(let id): self.logger.debug("broadcast '\(id)' is under way already")
        }
    }

    /// Makes the parts of each engine's copy of a request that was read once.
    private struct CopyMaker {
        private let message: Message
        private var header: JSONObject
        private var metadata: JSONObject
        private let ids: [EngineUUID: EngineID]

        init(_ message: Message, original: MessageID, metadata: JSONValue, targets: [BroadcastRequest.Target]) throws(WireError) {
            self.message = message
            self.header = try JSONValue(parsing: message.header).object ?? [:]
            self.metadata = metadata.object ?? [:]
            self.metadata["original_msg_id"] = .string(original.text)
            self.ids = Dictionary(targets.map { ($0.uuid, $0.id) }) { first, _ in first }
        }

        /// The copy's header has an id of its own; of the targets it names the one it is for, which is all that an engine and
        /// a record need: a thousand copies that each named a thousand would be most of what is sent.
        mutating func copy(_ copy: BroadcastScheduler.Copy, _ session: Session) -> Message {
            var parts = self.message.parts
            self.header["msg_id"] = .string(copy.id.text)
            parts.header = JSONValue.object(self.header).packed
            if case .engine(let uuid) = copy.outlet, let id = self.ids[uuid] {
                self.metadata["targets"] = ControllerService.pairs([BroadcastRequest.Target(uuid, id)])
            }
            parts.metadata = JSONValue.object(self.metadata).packed
            return session.signed(parts, identities: Array(self.message.identities), buffers: Array(self.message.buffers))
        }
    }

    private func forward(_ copy: BroadcastScheduler.Copy, _ request: Message, _ header: MessageHeader) {
        guard case .engine(let uuid) = copy.outlet, let identity = self.engines[uuid]?.identity else {
            // The client counts on an answer for each target, and learns of this engine's end by the notice.
            return
        }
        self.broadcastLeaves[self.leaves[uuid] ?? 0].send([identity] + self.lending(request, to: uuid, for: copy.id).frames)
        self.direct.submitted(copy.id, to: uuid)
        self.changes.append(
            .submitted(copy.id, request: request, client: header.session, date: header.date, queue: .direct, engine: uuid))
    }

    private func gather(_ gathering: BroadcastScheduler.Gathering) {
        guard let open = self.openBroadcasts.removeValue(forKey: gathering.request), let last = open.replies[gathering.last]
        else { return }
        var parts = last.parts
        var metadata = (try? JSONValue(parsing: parts.metadata))?.object ?? [:]
        metadata["original_msg_id"] = .string(gathering.request.text)
        metadata["broadcast_targets"] = Self.pairs(gathering.targets)
        parts.metadata = JSONValue.object(metadata).packed
        let reply = self.session.signed(
            parts, identities: [open.client], buffers: gathering.parts.flatMap { Array(open.replies[$0]?.buffers ?? []) })
        self.answer(reply.frames, on: .broadcastClient)
    }

    private func failBroadcast(_ id: MessageID, _ targets: [BroadcastRequest.Target]) {
        guard let open = self.openBroadcasts.removeValue(forKey: id) else { return }
        let error = ErrorContent(.engineError, "an engine that broadcast '\(id)' was for is gone")
        let reply = self.session.message(
            open.replyType, identities: [open.client], parent: open.header,
            metadata: [
                "status": "error", "is_broadcast": true, "is_coalescing": true, "original_msg_id": .string(id.text),
                "broadcast_targets": Self.pairs(targets),
            ], content: error.json)
        self.answer(reply.frames, on: .broadcastClient)
    }

    /// Answers a request whose copies have all been answered. It has no result of its own, so its status is the one with which
    /// ipyparallel's client expects neither a value nor output, and forgets the request.
    private func closeBroadcast(_ id: MessageID) {
        guard let open = self.openBroadcasts.removeValue(forKey: id) else { return }
        let reply = self.session.message(
            open.replyType, identities: [open.client], parent: open.header,
            metadata: ["status": "aborted", "is_broadcast": true, "is_coalescing": false, "original_msg_id": .string(id.text)],
            content: ["status": "aborted"])
        self.answer(reply.frames, on: .broadcastClient)
    }

    fileprivate static func pairs(_ targets: [BroadcastRequest.Target]) -> JSONValue {
        .array(targets.map { [.string($0.uuid.text), .int($0.id.number)] })
    }
}
