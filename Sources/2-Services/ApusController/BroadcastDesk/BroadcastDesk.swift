import ApusCore
import ApusStore
import ApusWire
import NIOCore

/// Sends one message to many engines (protocol article, "Broadcast"). ipyparallel's controller has a tree of scheduler processes;
/// here a single scheduler does the same with fewer copies, with as many ports for engines as the tree has leaves.
final class BroadcastDesk {
    private var scheduler = BroadcastScheduler()
    /// The number of the leaf port to which each engine is connected.
    private var places: [EngineUUID: Int] = [:]
    /// Copies for registered engines that are not connected to a leaf port yet.
    private var heldCopies: [EngineUUID: [[ByteBuffer]]] = [:]
    private var open: [MessageID: OpenBroadcast] = [:]

    private let engines: EngineRoster
    private let direct: DirectDesk
    private let tasks: TaskDesk
    private let session: ControllerSession
    private let gate: Gate
    private let loans: BufferLoans
    private let recorder: Recorder
    private let clients: Outlet
    private let leaves: [Outlet]

    /// - Parameters:
    ///   - direct: Counts the copies as direct requests to their engines.
    ///   - tasks: Is told of engines that have run a copy.
    init(
        engines: EngineRoster, direct: DirectDesk, tasks: TaskDesk, session: ControllerSession, gate: Gate, loans: BufferLoans,
        recorder: Recorder, outlets: Outlets
    ) {
        self.engines = engines
        self.direct = direct
        self.tasks = tasks
        self.session = session
        self.gate = gate
        self.loans = loans
        self.recorder = recorder
        self.clients = outlets.broadcastClient
        self.leaves = outlets.leaves
        direct.onCopy = { [unowned self] in self.send($1, to: $0, as: $2) }
    }

    /// A broadcast that will be answered as a whole: its client, and the replies so far, which become one.
    private struct OpenBroadcast {
        let client: ByteBuffer
        let type: MessageType
        /// The request's header, which is the parent of its answer.
        let header: ByteBuffer
        var replies: [BroadcastOutlet: Message] = [:]

        var replyType: MessageType { self.type == .executeRequest ? .executeReply : .applyReply }
    }

    /// Handles a broadcast request: `[client, delimiter, …]`.
    func take(_ verified: VerifiedRequest) {
        let (message, header) = (verified.message, verified.header)
        guard let client = message.identities.first else { return self.gate.drop("no client is named", at: .broadcastClient) }
        self.direct.returningToBroadcasts.spoke(client, as: header.session)
        do {
            let metadata = try JSONValue(parsing: message.metadata)
            let asked = RequestMetadata.ForBroadcast(metadata)
            let targets = asked.targets.map { BroadcastRequest.Target($0.uuid, $0.id) }
            let id = asked.original ?? header.id
            let isCoalescing = asked.isCoalescing
            let ownReply = !isCoalescing && !asked.countsOnCopies
            var copies = try CopyMaker(message, original: id, metadata: metadata, targets: targets)
            let effects = self.scheduler.handle(
                .requested(BroadcastRequest(id, to: targets, isCoalescing: isCoalescing, awaitsOwnReply: ownReply)))
            // Before anything is kept of this request, so that the one under way loses nothing.
            if case .refuse = effects.first { throw WireError("broadcast '\(id)' is under way already") }
            if isCoalescing || ownReply {
                self.open[id] = OpenBroadcast(client: client, type: header.type, header: message.header)
            }
            for effect in effects {
                if case .forward(let copy, _) = effect {
                    self.forward(copy, copies.copy(copy, self.session), header)
                } else {
                    self.perform(effect, reply: nil)
                }
            }
        } catch {
            self.gate.drop("\(error)", at: .broadcastClient)
        }
    }

    // MARK: Connections

    func connected(_ identity: ByteBuffer, at leaf: Int) {
        let uuid = EngineUUID(String(buffer: identity))
        self.places[uuid] = leaf
        for frames in self.heldCopies.removeValue(forKey: uuid) ?? [] { self.leaves[leaf].send(frames) }
    }
    func disconnected(_ identity: ByteBuffer) { self.places[EngineUUID(String(buffer: identity))] = nil }
    /// Closes the engine's connections.
    func cut(_ identity: ByteBuffer) { for leaf in self.leaves { leaf.disconnect(identity) } }

    // MARK: Replies

    /// Handles an engine's reply to its copy: `[engine, client, delimiter, …]`.
    func takeReply(_ verified: VerifiedMessage) {
        let message = verified.message
        guard let engine = message.identities.first else { return self.gate.drop("no engine is named", at: .broadcastEngine) }
        let uuid = EngineUUID(String(buffer: engine))
        guard self.engines.isTimely(message, from: uuid) else { return }
        if let id = MessageHeader.messageID(scanning: message.parent) {
            defer { self.tasks.engineTouched(uuid) }
            // Nothing is open here of a broadcast that came to the controller before this one.
            if self.direct.takeUnknown(message, to: id, from: uuid) { return }
            if let returning = self.direct.noteReply(message, to: id, from: uuid)?.returning {
                return self.direct.sendBack(message, to: returning, by: .broadcast)
            }
        }
        do {
            let metadata = try JSONValue(parsing: message.metadata)
            let original = MessageID(metadata[MetadataMember.originalMessageID]?.string ?? "")
            let reply = BroadcastReply(
                to: original, from: .engine(uuid), isCoalescing: metadata[MetadataMember.isCoalescing]?.bool ?? false)
            for effect in self.scheduler.handle(.replied(reply)) { self.perform(effect, reply: message) }
        } catch {
            self.gate.drop("\(error)", at: .broadcastEngine)
        }
    }

    /// Answers a broadcast that is not sent with errors: one for each target, or one for all if the broadcast is coalescing.
    func refuse(_ request: VerifiedRequest, _ error: ErrorContent) {
        let (message, header) = (request.message, request.header)
        guard let client = message.identities.first, let metadata = try? JSONValue(parsing: message.metadata) else { return }
        let isCoalescing = metadata[MetadataMember.isCoalescing]?.bool ?? false
        let targets = metadata[MetadataMember.targets] ?? []
        let reply = ReplyMetadata.standIn(.error).answering(
            broadcast: .string(header.id.text), isCoalescing: isCoalescing, targets: isCoalescing ? targets : nil)
        var parents = [message.header]
        if !isCoalescing, var parent = (try? JSONValue(parsing: message.header))?.object {
            parents = (targets.array ?? []).compactMap { target in
                guard let uuid = target.array?.first?.string ?? target.string else { return nil }
                parent["msg_id"] = .string("\(header.id)_\(uuid)")
                return JSONValue.object(parent).packed
            }
        }
        for parent in parents {
            let answer = self.session.message(
                header.type.reply, identities: [client], parent: parent, metadata: reply, content: error.json)
            self.recorder.answer(answer.frames, by: self.clients)
        }
    }

    // MARK: Engines

    func engineJoined(_ engine: EngineUUID) { _ = self.scheduler.handle(.engineJoined(engine)) }

    func engineLeft(_ engine: EngineRegistry.Engine, _ departure: EngineRegistry.Departure) {
        self.heldCopies[engine.uuid] = nil
        for effect in self.scheduler.handle(.engineLeft(engine.uuid)) {
            if case .gather(let gathering) = effect { self.gather(gathering) }
            if case .fail(let id, let targets) = effect {
                self.fail(id, targets, "engine \(engine.id), for which broadcast '\(id)' was, is gone: \(departure)")
            }
            if case .close(let id) = effect { self.close(id) }
        }
        self.clients.flush()
    }

    /// Looks for contradictions in what the desk and its core keep; for tests.
    func checkInvariants() throws {
        try self.scheduler.checkInvariants()
        for id in self.open.keys where !self.scheduler.isPending(id) {
            throw BrokenInvariant(description: "broadcast \(id) is kept, which waits for nobody")
        }
        for engine in self.heldCopies.keys where self.places[engine] != nil || !self.engines.isRegistered(engine) {
            throw BrokenInvariant(description: "copies are held for \(engine), which is here or will not come")
        }
    }

    // MARK: Effects

    private func perform(_ effect: BroadcastScheduler.Effect, reply: Message?) {
        switch effect {
        // Effects of requests only, which are performed where a request comes in.
        case .forward, .refuse: break
        case .relay: if let reply { self.recorder.answer(Array(reply.frames.dropFirst()), by: self.clients) }
        case .keep(let id, let outlet): self.open[id]?.replies[outlet] = reply
        case .gather(let gathering): self.gather(gathering)
        case .fail(let id, let targets):
            self.fail(id, targets, "an engine that broadcast '\(id)' was for is not registered")
        case .close(let id): self.close(id)
        }
    }

    /// Makes the parts of each engine's copy of a request that was read once.
    private struct CopyMaker {
        private let message: Message
        private var header: JSONObject
        private var metadata: JSONObject
        private let ids: [EngineUUID: EngineID]
        /// White space for the end of each copy's metadata, made of the request's signature. A broadcast that is sent again, signed anew,
        /// has other copies; engines would take equal ones for the first played again, and not answer.
        private let mark: [UInt8]

        init(_ message: Message, original: MessageID, metadata: JSONValue, targets: [BroadcastRequest.Target]) throws(WireError) {
            self.message = message
            self.header = try JSONValue(parsing: message.header).object ?? [:]
            self.metadata = metadata.object ?? [:]
            self.metadata[MetadataMember.originalMessageID] = .string(original.text)
            self.ids = Dictionary(targets.map { ($0.uuid, $0.id) }) { first, _ in first }
            self.mark = message.signature.readableBytesView.prefix(32).map {
                $0 & 1 == 0 ? UInt8(ascii: " ") : UInt8(ascii: "\t")
            }
        }

        /// Makes one copy. Its header has an id of its own, and of all targets it names only its own, which is enough for an
        /// engine and a record: a thousand copies that each named a thousand targets would be most of the bytes that are sent.
        mutating func copy(_ copy: BroadcastScheduler.Copy, _ session: ControllerSession) -> Message {
            var parts = self.message.parts
            self.header["msg_id"] = .string(copy.id.text)
            parts.header = JSONValue.object(self.header).packed
            if case .engine(let uuid) = copy.outlet, let id = self.ids[uuid] {
                self.metadata[MetadataMember.targets] = BroadcastDesk.pairs([BroadcastRequest.Target(uuid, id)])
            }
            parts.metadata = JSONValue.object(self.metadata).packed
            parts.metadata.writeBytes(self.mark)
            return session.signedAgain(parts, identities: Array(self.message.identities), buffers: Array(self.message.buffers))
        }
    }

    private func forward(_ copy: BroadcastScheduler.Copy, _ request: Message, _ header: MessageHeader) {
        guard case .engine(let uuid) = copy.outlet else { return }
        guard self.engines.isRegistered(uuid) else { return self.refuse(copy.id, for: uuid, request, header) }
        self.send(request, to: uuid, as: copy.id)
        self.direct.noteSent(request, header, as: copy.id, to: uuid, port: .broadcast)
    }

    /// Sends a copy to its engine, now or when the engine has connected.
    private func send(_ copy: Message, to uuid: EngineUUID, as task: TaskID) {
        guard let identity = self.engines.identity(of: uuid) else { return }
        let frames = [identity] + self.loans.lending(copy, to: uuid, for: task).frames
        if let leaf = self.places[uuid] {
            self.leaves[leaf].send(frames)
        } else {
            // After a restart of the controller an engine's connections come back in any order.
            self.heldCopies[uuid, default: []].append(frames)
        }
    }

    /// Answers a copy for an engine that is not registered. There may be no notice of the engine's end, because this controller
    /// may never have had the engine. A coalescing broadcast gets no such answer: it fails as a whole.
    private func refuse(_ copy: MessageID, for engine: EngineUUID, _ request: Message, _ header: MessageHeader) {
        guard let asked = try? JSONValue(parsing: request.metadata), asked[MetadataMember.isCoalescing]?.bool != true else {
            return
        }
        let error = self.engines.undelivered(to: engine, copy, FunctionName.text(in: request.buffers.first))
        let reply = self.session.message(
            header.type.reply, identities: Array(request.identities), parent: request.header,
            metadata: ReplyMetadata.standIn(.error, for: engine).answering(
                broadcast: asked[MetadataMember.originalMessageID] ?? "", isCoalescing: false),
            content: error.json)
        self.recorder.answer(reply.frames, by: self.clients)
    }

    private func gather(_ gathering: BroadcastScheduler.Gathering) {
        guard let open = self.open.removeValue(forKey: gathering.request), let last = open.replies[gathering.last]
        else { return }
        var parts = last.parts
        var metadata = (try? JSONValue(parsing: parts.metadata))?.object ?? [:]
        metadata[MetadataMember.originalMessageID] = .string(gathering.request.text)
        metadata[MetadataMember.broadcastTargets] = Self.pairs(gathering.targets)
        parts.metadata = JSONValue.object(metadata).packed
        let reply = self.session.signed(
            parts, identities: [open.client], buffers: gathering.parts.flatMap { Array(open.replies[$0]?.buffers ?? []) })
        self.recorder.answer(reply.frames, by: self.clients)
    }

    private func fail(_ id: MessageID, _ targets: [BroadcastRequest.Target], _ reason: String) {
        guard let open = self.open.removeValue(forKey: id) else { return }
        let error = ErrorContent(.engineError, reason)
        let reply = self.session.message(
            open.replyType, identities: [open.client], parent: open.header,
            metadata: ReplyMetadata.standIn(.error).answering(
                broadcast: .string(id.text), isCoalescing: true, targets: Self.pairs(targets)),
            content: error.json)
        self.recorder.answer(reply.frames, by: self.clients)
    }

    /// Answers a request whose copies have all been answered. The request has no result of its own, so it gets the status with
    /// which ipyparallel's client expects neither a value nor output, and forgets the request.
    private func close(_ id: MessageID) {
        guard let open = self.open.removeValue(forKey: id) else { return }
        let reply = self.session.message(
            open.replyType, identities: [open.client], parent: open.header,
            metadata: ReplyMetadata.standIn(.aborted).answering(broadcast: .string(id.text), isCoalescing: false),
            content: ["status": "aborted"])
        self.recorder.answer(reply.frames, by: self.clients)
    }

    fileprivate static func pairs(_ targets: [BroadcastRequest.Target]) -> JSONValue {
        RequestMetadata.ForBroadcast.json(targets.map { ($0.uuid, $0.id) })
    }
}
