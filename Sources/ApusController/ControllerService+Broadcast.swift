import ApusCore
import ApusStore
import ApusTransport
import ApusWire
import Logging
import NIOCore

// One message to many engines (protocol article, "Broadcast"). The tree of Python's controller spreads work over processes; in one
// process a single scheduler does the same with fewer copies, behind as many engine-side ports as the tree would have leaves.
extension ControllerService {
    /// Broadcasts whose replies become one: who asked, and what has come.
    struct GatheredBroadcast {
        let client: ByteBuffer
        let request: Message
        var replies: [BroadcastOutlet: Message] = [:]
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
            var copies = try CopyMaker(message, original: id, metadata: metadata, targets: targets)
            let effects = self.broadcast.handle(.requested(BroadcastRequest(id, to: targets, isCoalescing: isCoalescing)))
            // What is kept of the one that is under way stays its own.
            if case .refuse = effects.first { throw WireError("broadcast '\(id)' is under way already") }
            if isCoalescing { self.gathered[id] = GatheredBroadcast(client: client, request: message) }
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
        if let id = MessageHeader.messageID(scanning: message.parent) {
            self.direct.replied(id, by: uuid, wasAborted: message.content.textMember("status") == "aborted")
            self.letGo(of: id)
            self.changes.append(.completed(id, reply: message, received: .now))
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

    func broadcastLost(_ engine: EngineUUID) {
        for effect in self.broadcast.handle(.engineLeft(engine)) {
            if case .gather(let gathering) = effect { self.gather(gathering) }
            if case .fail(let id, let targets) = effect { self.failBroadcast(id, targets) }
        }
        self.sockets[.broadcastClient]?.flush()
    }

    // MARK: Effects

    private func perform(_ effect: BroadcastScheduler.Effect, reply: Message?) {
        switch effect {
        // Only a request is spread or refused, and that is done where it comes in.
        case .forward, .refuse: break
        case .relay: if let reply { self.answer(Array(reply.frames.dropFirst()), on: .broadcastClient) }
        case .keep(let id, let outlet): self.gathered[id]?.replies[outlet] = reply
        case .gather(let gathering): self.gather(gathering)
        case .fail(let id, let targets): self.failBroadcast(id, targets)
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
        guard let gathered = self.gathered.removeValue(forKey: gathering.request), let last = gathered.replies[gathering.last]
        else { return }
        var parts = last.parts
        var metadata = (try? JSONValue(parsing: parts.metadata))?.object ?? [:]
        metadata["original_msg_id"] = .string(gathering.request.text)
        metadata["broadcast_targets"] = Self.pairs(gathering.targets)
        parts.metadata = JSONValue.object(metadata).packed
        let reply = self.session.signed(
            parts, identities: [gathered.client], buffers: gathering.parts.flatMap { Array(gathered.replies[$0]?.buffers ?? []) })
        self.answer(reply.frames, on: .broadcastClient)
    }

    private func failBroadcast(_ id: MessageID, _ targets: [BroadcastRequest.Target]) {
        guard let gathered = self.gathered.removeValue(forKey: id) else { return }
        let error = ErrorContent(.engineError, "an engine that broadcast '\(id)' was for is gone")
        let reply = self.session.message(
            .applyReply, identities: [gathered.client], parent: gathered.request.header,
            metadata: [
                "status": "error", "is_broadcast": true, "is_coalescing": true, "original_msg_id": .string(id.text),
                "broadcast_targets": Self.pairs(targets),
            ], content: error.json)
        self.answer(reply.frames, on: .broadcastClient)
    }

    fileprivate static func pairs(_ targets: [BroadcastRequest.Target]) -> JSONValue {
        .array(targets.map { [.string($0.uuid.text), .int($0.id.number)] })
    }
}
