package import NIOCore

/// Holds messages for registered engines at a socket where those engines are not connected, until they are.
///
/// An engine is registered as soon as its heart has answered, and keeps its registration through a restart of the controller, while
/// its connections come, and come back, in any order. A socket drops what it is given for a peer that it does not have, and nobody
/// would ever answer that.
///
/// A value, one for each socket that sends to engines: events in, messages to be sent out.
package struct HeldMessages: Sendable {
    package enum Event: Sendable, Equatable {
        /// An engine is registered whose connections have this name.
        case registered(ByteBuffer)
        /// The engine is registered no more; nobody waits for what was held for it.
        case withdrawn(ByteBuffer)
        case connected(ByteBuffer)
        case disconnected(ByteBuffer)
    }

    /// The names of peers that are connected at the socket.
    private var connected: Set<ByteBuffer> = []
    private var registered: Set<ByteBuffer> = []
    /// The registered engines that are not connected, each with its messages in the order in which they were sent.
    private var held: [ByteBuffer: [[ByteBuffer]]] = [:]

    package init() {}

    /// - Returns: The messages to be sent now.
    package mutating func handle(_ event: Event) -> [[ByteBuffer]] {
        switch event {
        case .registered(let engine):
            self.registered.insert(engine)
            if !self.connected.contains(engine), self.held[engine] == nil { self.held[engine] = [] }
            return []
        case .withdrawn(let engine):
            self.registered.remove(engine)
            self.held[engine] = nil
            return []
        case .connected(let engine):
            self.connected.insert(engine)
            return self.held.removeValue(forKey: engine) ?? []
        case .disconnected(let engine):
            self.connected.remove(engine)
            if self.registered.contains(engine), self.held[engine] == nil { self.held[engine] = [] }
            return []
        }
    }

    /// Holds a message whose first frame names its peer, if the peer is an engine that is waited for.
    ///
    /// - Returns: False if the message is to be sent.
    package mutating func hold(_ message: [ByteBuffer]) -> Bool {
        // Nearly always every engine is connected.
        guard !self.held.isEmpty, let engine = message.first, self.held[engine] != nil else { return false }
        self.held[engine]?.append(message)
        return true
    }

    /// Looks for contradictions in what is kept; for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        guard self.registered.subtracting(self.connected) == Set(self.held.keys) else {
            throw BrokenInvariant(description: "messages are held for others than the registered engines that are not connected")
        }
    }
}
