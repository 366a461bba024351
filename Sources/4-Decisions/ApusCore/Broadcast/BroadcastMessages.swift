package import ApusWire

/// A request as the broadcast scheduler needs it; the message itself stays with the scheduler's driver.
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

    /// The client's id of the request: metadata `original_msg_id`, or the header's `msg_id` where that is not set yet.
    package var id: MessageID
    package var targets: [Target]
    /// Whether the client wants one reply for all targets.
    package var isCoalescing: Bool
    /// Whether the client waits for a reply under the request's own id besides one for each copy. ipyparallel's client does, and
    /// counts the request as outstanding for ever if none comes (its issue #882).
    package var awaitsOwnReply: Bool

    package init(_ id: MessageID, to targets: [Target], isCoalescing: Bool, awaitsOwnReply: Bool = false) {
        self.id = id
        self.targets = targets
        self.isCoalescing = isCoalescing
        self.awaitsOwnReply = awaitsOwnReply
    }
}

/// A reply as the broadcast scheduler needs it.
package struct BroadcastReply: Sendable, Equatable {
    /// Metadata `original_msg_id`.
    package var request: MessageID
    /// The sender of the reply, by the identity of its socket.
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

/// A receiver of a broadcast scheduler's messages: an engine, or a scheduler below it in the tree.
package enum BroadcastOutlet: Sendable, Hashable {
    case engine(EngineUUID)
    /// A scheduler by its path: the parent's path with a 0 or 1 appended.
    case scheduler(String)

    /// The identity of the receiver's socket, which is also appended to the ids of messages to it.
    package var identity: String {
        switch self {
        case .engine(let uuid): uuid.text
        case .scheduler(let path): "sub_scheduler_" + path
        }
    }
}
