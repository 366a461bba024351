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
    func takeBroadcast(_ verified: VerifiedRequest) {
        let (message, header) = (verified.message, verified.header)
        guard let client = message.identities.first else { return self.dropped("no client is named", at: .broadcastClient) }
        do {
            let metadata = try JSONValue(parsing: message.metadata)
            let targets = (metadata["targets"]?.array ?? []).compactMap { pair -> BroadcastRequest.Target? in
                guard let uuid = pair.array?.first?.string ?? pair.string else { return nil }
                return BroadcastRequest.Target(EngineUUID(uuid), EngineID(pair.array?.last?.int ?? -1))
            }
            let id = metadata["original_msg_id"]?.string.flatMap { $0.isEmpty ? nil : MessageID($0) } ?? header.id
            let isCoalescing = metadata["is_coalescing"]?.bool ?? false
            let ownReply = !isCoalescing && metadata["apus_copies"]?.bool != true
            var copies = try CopyMaker(message, original: id, metadata: metadata, targets: targets)
            let effects = self.broadcast.handle(
                .requested(BroadcastRequest(id, to: targets, isCoalescing: isCoalescing, awaitsOwnReply: ownReply)))
            // What is kept of the one that is under way stays its own.
            if case .refuse = effects.first { throw WireError("broadcast '\(id)' is under way already") }
            if isCoalescing || ownReply {
                self.openBroadcasts[id] = OpenBroadcast(client: client, type: header.type, header: message.header)
            }
            for effect in effects {
                if case .forward(let copy, _) = effect {
                    let request = copies.copy(copy, self.session)
                    self.gate.remember(own: request)
                    self.forward(copy, request, header)
                } else {
                    self.perform(effect, reply: nil)
                }
            }
        } catch {
            self.dropped("\(error)", at: .broadcastClient)
        }
    }

    func handleBroadcast(_ event: SocketEvent, leaf: Int) {
        switch event {
        case .received(let messages):
            for frames in messages { self.take(frames, at: .broadcastEngine) }
            self.sockets[.broadcastClient]?.flush()
            self.scheduleFlush()
        case .tooLarge(let frames, let limit): self.refuseTooLarge(frames, limit: limit, at: .broadcastEngine)
        case .peerConnected(let identity): self.leaves[EngineUUID(String(buffer: identity))] = leaf
        case .peerDisconnected(let identity): self.leaves[EngineUUID(String(buffer: identity))] = nil
        case .problem(let text): self.logger.debug("\(text)", metadata: ["socket": "broadcast \(leaf)"])
        }
    }

    /// `[engine, client, delimiter, …]`.
    func takeBroadcastReply(_ verified: VerifiedMessage) {
        let message = verified.message
        guard let engine = message.identities.first else { return self.dropped("no engine is named", at: .broadcastEngine) }
        let uuid = EngineUUID(String(buffer: engine))
        guard self.isTimely(message, from: uuid) else { return }
        if let id = MessageHeader.messageID(scanning: message.parent) {
            self.direct.replied(id, by: uuid, wasAborted: message.content.textMember("status") == "aborted")
            self.letGo(of: id)
            self.changes.append(.completed(id, reply: message, received: .now))
            self.noteTouch(of: uuid)
        }
        do {
            let metadata = try JSONValue(parsing: message.metadata)
            let original = MessageID(metadata["original_msg_id"]?.string ?? "")
            let reply = BroadcastReply(to: original, from: .engine(uuid), isCoalescing: metadata["is_coalescing"]?.bool ?? false)
            for effect in self.broadcast.handle(.replied(reply)) { self.perform(effect, reply: message) }
        } catch {
            self.dropped("\(error)", at: .broadcastEngine)
        }
    }

    /// Answers a broadcast that goes nowhere, as each of its targets, or all together, would have.
    func refuseBroadcast(_ request: VerifiedRequest, _ error: ErrorContent) {
        let (message, header) = (request.message, request.header)
        guard let client = message.identities.first, let metadata = try? JSONValue(parsing: message.metadata) else { return }
        let isCoalescing = metadata["is_coalescing"]?.bool ?? false
        var reply: JSONObject = [
            "status": "error", "is_broadcast": true, "is_coalescing": .bool(isCoalescing),
            "original_msg_id": .string(header.id.text), "broadcast_targets": metadata["targets"] ?? [],
        ]
        var parents = [message.header]
        if !isCoalescing, var parent = (try? JSONValue(parsing: message.header))?.object {
            reply["broadcast_targets"] = nil
            parents = (metadata["targets"]?.array ?? []).compactMap { target in
                guard let uuid = target.array?.first?.string ?? target.string else { return nil }
                parent["msg_id"] = .string("\(header.id)_\(uuid)")
                return JSONValue.object(parent).packed
            }
        }
        for parent in parents {
            let answer = self.session.message(
                header.type.reply, identities: [client], parent: parent, metadata: reply, content: error.json)
            self.answer(answer.frames, on: .broadcastClient)
        }
    }

    func broadcastLost(_ engine: EngineRegistry.Engine, _ departure: EngineRegistry.Departure) {
        for effect in self.broadcast.handle(.engineLeft(engine.uuid)) {
            if case .gather(let gathering) = effect { self.gather(gathering) }
            if case .fail(let id, let targets) = effect {
                self.failBroadcast(id, targets, "engine \(engine.id), for which broadcast '\(id)' was, is gone: \(departure)")
            }
            if case .close(let id) = effect { self.closeBroadcast(id) }
        }
        self.sockets[.broadcastClient]?.flush()
    }

    // MARK: Effects

    private func perform(_ effect: BroadcastScheduler.Effect, reply: Message?) {
        switch effect {
        // Only a request is spread or refused, and that is done where it comes in.
        case .forward, .refuse: break
        case .relay: if let reply { self.answer(Array(reply.frames.dropFirst()), on: .broadcastClient) }
        case .keep(let id, let outlet): self.openBroadcasts[id]?.replies[outlet] = reply
        case .gather(let gathering): self.gather(gathering)
        case .fail(let id, let targets):
            self.failBroadcast(id, targets, "an engine that broadcast '\(id)' was for is not registered")
        case .close(let id): self.closeBroadcast(id)
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
        self.direct.submitted(copy.id, to: uuid, by: DirectQueues.Asker(request, at: .broadcastClient))
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

    private func failBroadcast(_ id: MessageID, _ targets: [BroadcastRequest.Target], _ reason: String) {
        guard let open = self.openBroadcasts.removeValue(forKey: id) else { return }
        let error = ErrorContent(.engineError, reason)
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
