package import ApusWire

/// Spreads a request over many engines, and gathers their replies into one where the client wants one reply.
///
/// A value: events in, effects out. The scheduler stands alone, or is a node of a binary tree of schedulers; the protocol
/// (protocol article, "Broadcast") allows both, and clients and engines need not know which. Plain replies pass; a scheduler that
/// stands alone counts them, to know when a request has ended. Replies to be coalesced are counted. A coalesced answer cannot say
/// which engine is missing, so when an engine leaves that has not answered, the answer is an error at once; a scheduler inside a
/// tree answers for the other engines, and its parent sees which are missing.
package struct BroadcastScheduler: Sendable {
    package typealias Target = BroadcastRequest.Target

    /// The scheduler's position between clients and engines.
    package enum Position: Sendable, Equatable {
        /// Alone between clients and engines.
        case alone
        /// In a tree with 2^depth leaves: the root's path is 0, and children append 0 or 1.
        case node(path: String, depth: Int)
    }

    package enum Event: Sendable, Equatable {
        case engineJoined(EngineUUID)
        case engineLeft(EngineUUID)
        case requested(BroadcastRequest)
        case replied(BroadcastReply)
    }

    /// A copy of a request for one receiver: the request with the members named here changed, and signed anew. Metadata
    /// `original_msg_id` is set to the request's id.
    package struct Copy: Sendable, Equatable {
        package var outlet: BroadcastOutlet
        package var id: MessageID
        /// Metadata `targets`; nil leaves the request's.
        package var targets: [Target]?

        package init(outlet: BroadcastOutlet, id: MessageID, targets: [Target]?) {
            self.outlet = outlet
            self.id = id
            self.targets = targets
        }
    }

    /// One reply made of many. Header, parent and content are those of the last reply; metadata `broadcast_targets` is set;
    /// the buffers of all replies follow in the order of the parts.
    package struct Gathering: Sendable, Equatable {
        package var request: MessageID
        package var parts: [BroadcastOutlet]
        package var last: BroadcastOutlet
        /// In the order of the parts.
        package var targets: [Target]
        /// Whether `broadcast_targets` is a list of `[uuid, id]`, as clients read it, or of bare uuids, as a leaf writes it.
        package var asPairs: Bool

        package init(
            request: MessageID, parts: [BroadcastOutlet], last: BroadcastOutlet, targets: [Target], asPairs: Bool
        ) {
            self.request = request
            self.parts = parts
            self.last = last
            self.targets = targets
            self.asPairs = asPairs
        }
    }

    package enum Effect: Sendable, Equatable {
        case forward(Copy, of: MessageID)
        /// Pass the reply just received up, unchanged.
        case relay
        /// Keep the reply just received, as a part of the answer to this request.
        case keep(MessageID, from: BroadcastOutlet)
        /// Make one reply of the kept ones, pass it up, and forget them.
        case gather(Gathering)
        /// Pass up an EngineError as the reply to this request: there are targets that will not answer. Metadata
        /// `original_msg_id` and `broadcast_targets` are set all the same.
        case fail(MessageID, [Target])
        /// Answer the request itself: each copy has been answered, or its engine is gone. Comes before the last copy's reply, so
        /// that a client that has all the results has no outstanding request.
        case close(MessageID)
        /// Drop the request just received: one with this id is under way.
        case refuse(MessageID)
    }

    /// A request that has not been answered by all its targets.
    private struct Pending: Sendable {
        let isCoalescing: Bool
        let awaitsOwnReply: Bool
        /// The receivers in the order of the answer, each with its targets.
        var outlets: [(outlet: BroadcastOutlet, targets: [Target])] = []
        var index: [BroadcastOutlet: Int] = [:]
        /// Whether each outlet has answered.
        var answered: [Bool] = []
        /// Outlets that have not answered and are not gone.
        var awaited: Set<Int> = []
        var last: BroadcastOutlet?
    }

    private let position: Position
    private var engines: Set<EngineUUID> = []
    private var pending: [MessageID: Pending] = [:]
    /// Replies that were dropped because no request waits for them: late, repeated or invented ones.
    package private(set) var strayReplies = 0

    package init(_ position: Position = .alone) { self.position = position }

    /// Whether replies to the request are waited for.
    package func isPending(_ request: MessageID) -> Bool { self.pending[request] != nil }

    /// How many requests wait for replies.
    package var pendingCount: Int { self.pending.count }

    package mutating func handle(_ event: Event) -> [Effect] {
        switch event {
        case .engineJoined(let engine):
            self.engines.insert(engine)
            return []
        case .engineLeft(let engine): return self.leave(engine)
        case .requested(let request): return self.spread(request)
        case .replied(let reply): return self.take(reply)
        }
    }

    // MARK: Down

    private mutating func spread(_ request: BroadcastRequest) -> [Effect] {
        guard self.pending[request.id] == nil else { return [.refuse(request.id)] }
        let shares = self.shares(of: request.targets)
        var effects = shares.map { outlet, targets in
            let id = MessageID("\(request.id.text)_\(outlet.identity)")
            return Effect.forward(Copy(outlet: outlet, id: id, targets: self.isLeaf ? nil : targets), of: request.id)
        }
        // In a tree the replies to a plain request come through schedulers, several by the same one, and are not counted.
        guard request.isCoalescing || self.position == .alone else { return effects }
        var pending = Pending(isCoalescing: request.isCoalescing, awaitsOwnReply: request.awaitsOwnReply)
        for (outlet, targets) in shares {
            pending.index[outlet] = pending.outlets.count
            if self.mayAnswer(outlet) { pending.awaited.insert(pending.outlets.count) }
            pending.outlets.append((outlet, targets))
            pending.answered.append(false)
        }
        self.pending[request.id] = pending
        if self.isOver(pending) { effects += self.finish(request.id) }
        return effects
    }

    /// The receivers of the request, each with its targets, in the order of the answer.
    private func shares(of targets: [Target]) -> [(outlet: BroadcastOutlet, targets: [Target])] {
        guard case .node(let path, let depth) = self.position, !self.isLeaf else {
            // An engine that is named twice runs the request once.
            var named: Set<EngineUUID> = []
            return targets.filter { named.insert($0.uuid).inserted }.map { (.engine($0.uuid), [$0]) }
        }
        // The bit of the engine's id that decides between left and right at this depth; the root uses the highest bit.
        let bit = depth - path.utf8.count
        let (left, right) = targets.reduce(into: ([Target](), [Target]())) { halves, target in
            if (target.id.number >> bit) & 1 == 0 { halves.0.append(target) } else { halves.1.append(target) }
        }
        return [(.scheduler(path + "0"), left), (.scheduler(path + "1"), right)].filter { !$0.1.isEmpty }
    }

    private var isLeaf: Bool {
        switch self.position {
        case .alone: true
        case .node(let path, let depth): path.utf8.count == depth + 1
        }
    }

    private func mayAnswer(_ outlet: BroadcastOutlet) -> Bool {
        switch outlet {
        case .engine(let uuid): self.engines.contains(uuid)
        case .scheduler: true
        }
    }

    /// Whether no reply is waited for any more. A coalesced answer needs all targets, unless a scheduler above sees which are
    /// missing: without that, one missing target ends the wait.
    private func isOver(_ pending: Pending) -> Bool {
        if pending.awaited.isEmpty { return true }
        guard pending.isCoalescing, self.position == .alone else { return false }
        return pending.outlets.indices.contains { !pending.answered[$0] && !pending.awaited.contains($0) }
    }

    // MARK: Up

    private mutating func take(_ reply: BroadcastReply) -> [Effect] {
        guard reply.isCoalescing else { return self.takePlain(reply) + [.relay] }
        guard self.pending[reply.request]?.isCoalescing == true,
            let index = self.pending[reply.request]?.index[reply.sender], self.pending[reply.request]?.answered[index] == false
        else {
            self.strayReplies += 1
            return []
        }
        self.pending[reply.request]?.answered[index] = true
        self.pending[reply.request]?.awaited.remove(index)
        self.pending[reply.request]?.last = reply.sender
        if let answering = reply.targets {
            // A scheduler below leaves out engines that are gone.
            self.pending[reply.request]?.outlets[index].targets.removeAll { !answering.contains($0.uuid) }
        }
        let isComplete = self.pending[reply.request]?.awaited.isEmpty ?? false
        return [.keep(reply.request, from: reply.sender)] + (isComplete ? self.finish(reply.request) : [])
    }

    private mutating func takePlain(_ reply: BroadcastReply) -> [Effect] {
        guard let pending = self.pending[reply.request], !pending.isCoalescing, let index = pending.index[reply.sender] else {
            return []
        }
        self.pending[reply.request]?.answered[index] = true
        self.pending[reply.request]?.awaited.remove(index)
        return self.pending[reply.request]?.awaited.isEmpty ?? false ? self.finish(reply.request) : []
    }

    private mutating func leave(_ engine: EngineUUID) -> [Effect] {
        self.engines.remove(engine)
        var complete: [MessageID] = []
        for (id, pending) in self.pending {
            guard let index = pending.index[.engine(engine)], pending.awaited.contains(index) else { continue }
            self.pending[id]?.awaited.remove(index)
            if let left = self.pending[id], self.isOver(left) { complete.append(id) }
        }
        return complete.sorted().flatMap { self.finish($0) }
    }

    /// Answers with the kept replies, or with an error if replies are missing.
    private mutating func finish(_ id: MessageID) -> [Effect] {
        guard let pending = self.pending.removeValue(forKey: id) else { return [] }
        guard pending.isCoalescing else { return pending.awaitsOwnReply ? [.close(id)] : [] }
        let isWhole = self.position != .alone || pending.answered.allSatisfy { $0 }
        guard isWhole, let last = pending.last else { return [.fail(id, pending.outlets.flatMap(\.targets))] }
        let parts = pending.outlets.indices.filter { pending.answered[$0] }.map { pending.outlets[$0] }
        let gathering = Gathering(
            request: id, parts: parts.map(\.outlet), last: last, targets: parts.flatMap(\.targets),
            asPairs: !self.isLeaf || self.position == .alone)
        return [.gather(gathering)]
    }

    /// Looks for contradictions in what is kept; for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        for (id, pending) in self.pending {
            if self.isOver(pending) { throw BrokenInvariant(description: "broadcast \(id) is over and is kept") }
            guard pending.outlets.count == pending.answered.count, pending.index.count == pending.outlets.count else {
                throw BrokenInvariant(description: "broadcast \(id) miscounts its targets")
            }
            for index in pending.awaited {
                if pending.answered[index] { throw BrokenInvariant(description: "broadcast \(id) waits for who has answered") }
                if !self.mayAnswer(pending.outlets[index].outlet) {
                    throw BrokenInvariant(
                        description: "broadcast \(id) waits for \(pending.outlets[index].outlet), which is gone")
                }
            }
        }
    }
}
