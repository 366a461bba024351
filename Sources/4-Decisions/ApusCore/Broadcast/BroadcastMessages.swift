package import ApusWire

/// What a broadcast scheduler must know of a request; the message itself stays with whoever drives it.
package struct BroadcastRequest: Sendable, Equatable {
    /// An engine that the request is for, as `targets` in its metadata names it.
    package struct Target: Sendable, Hashable {
        package var uuid: EngineUUID
        package var id: EngineID

        package init(_ uuid: EngineUUID, _ id: EngineID) {
            self.uuid = uuid
            self.id = id
        }
    }

    /// The id that the client gave it: metadata `original_msg_id`, or the header's `msg_id` where that is not set yet.
    package var id: MessageID
    package var targets: [Target]
    /// Whether the client wants one reply for all targets.
    package var isCoalescing: Bool
    /// Whether the client waits for a reply under the request's own id besides one for each copy. ipyparallel's does, and keeps
    /// the request among its outstanding ones for ever where none comes (its issue #882).
    package var awaitsOwnReply: Bool

    package init(_ id: MessageID, to targets: [Target], isCoalescing: Bool, awaitsOwnReply: Bool = false) {
        self.id = id
        self.targets = targets
        self.isCoalescing = isCoalescing
        self.awaitsOwnReply = awaitsOwnReply
    }
}

/// What a broadcast scheduler must know of a reply.
package struct BroadcastReply: Sendable, Equatable {
    /// Metadata `original_msg_id`.
    package var request: MessageID
    /// Whose reply it is, by the identity of the socket that it came from.
    package var sender: BroadcastOutlet
    /// Metadata `is_coalescing`.
    package var isCoalescing: Bool
    /// Metadata `broadcast_targets` of a reply that is coalesced already; nil in an engine's.
    package var targets: [EngineUUID]?

    package init(
        to request: MessageID, from sender: BroadcastOutlet, isCoalescing: Bool, targets: [EngineUUID]? = nil
    ) {
        self.request = request
        self.sender = sender
        self.isCoalescing = isCoalescing
        self.targets = targets
    }
}

/// Where a broadcast scheduler sends to: an engine, or a scheduler below it in the tree.
package enum BroadcastOutlet: Sendable, Hashable {
    case engine(EngineUUID)
    /// By its path: the parent's with a 0 or 1 appended.
    case scheduler(String)

    /// The identity of its socket, and what is appended to the message id of what it gets.
    package var identity: String {
        switch self {
        case .engine(let uuid): uuid.text
        case .scheduler(let path): "sub_scheduler_" + path
        }
    }
}
