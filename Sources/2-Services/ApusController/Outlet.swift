import ApusCore
import ApusTransport
import NIOCore

/// The sending side of one of the controller's sockets, so that a desk can send by the sockets it needs and receive from none.
///
/// Use it on the event loop only. A message that is sent before the socket is open, or after it was closed, is dropped. A message for a
/// registered engine that is not connected to this socket waits until the engine is.
final class Outlet {
    let port: ControllerSocket
    private var socket: (any TransportSocket)?
    /// Whether anything was sent since the last flush.
    private var hasUnflushed = false
    private var held = HeldMessages()

    init(_ port: ControllerSocket) { self.port = port }

    var isOpen: Bool { self.socket != nil }

    /// Queues a message, which leaves with the next ``flush()``, or at the end of the loop's turn.
    func send(_ frames: [ByteBuffer]) {
        if self.held.hold(frames) { return }
        self.hasUnflushed = true
        self.socket?.send(frames)
    }

    /// Sends the queued messages now.
    func flush() {
        guard self.hasUnflushed else { return }
        self.hasUnflushed = false
        self.socket?.flush()
    }

    /// Closes the connection to the peer of this identity, if there is one.
    func disconnect(_ identity: ByteBuffer) {
        self.note(.disconnected(identity))
        self.socket?.disconnect(identity)
    }

    /// Stops or resumes reading from the peers.
    func setReading(_ isReading: Bool) { self.socket?.setReading(isReading) }

    // MARK: Engines

    /// Notes that an engine is registered or not, or a peer connected or not, and sends what has waited for that.
    func note(_ event: HeldMessages.Event) { for frames in self.held.handle(event) { self.send(frames) } }

    /// Looks for contradictions in what is held; for tests.
    func checkInvariants() throws { try self.held.checkInvariants() }

    // MARK: Life

    func open(_ socket: any TransportSocket) { self.socket = socket }

    /// Waits a moment for queued messages to leave, and closes the socket.
    nonisolated(nonsending) func close() async {
        guard let socket = self.socket else { return }
        await socket.close(linger: .milliseconds(300))
        self.socket = nil
    }
}
