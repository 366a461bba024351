import ApusTransport
import NIOCore

/// Sends by one of the controller's sockets. Nothing can be received here, so that a desk may have the outlets it needs and no more.
///
/// On the event loop only. What is sent before the socket is open, or after it was closed, goes nowhere.
final class Outlet {
    let port: ControllerSocket
    private var socket: (any TransportSocket)?
    /// Whether anything was sent since the last flush.
    private var hasUnflushed = false

    init(_ port: ControllerSocket) { self.port = port }

    var isOpen: Bool { self.socket != nil }

    /// Queues a message; it leaves with the next ``flush()``, or at the end of the loop's turn.
    func send(_ frames: [ByteBuffer]) {
        self.hasUnflushed = true
        self.socket?.send(frames)
    }

    /// Lets what was sent leave now.
    func flush() {
        guard self.hasUnflushed else { return }
        self.hasUnflushed = false
        self.socket?.flush()
    }

    /// Closes the connection to the peer of this identity, if there is one.
    func disconnect(_ identity: ByteBuffer) { self.socket?.disconnect(identity) }

    /// Stops or resumes reading from the peers.
    func setReading(_ isReading: Bool) { self.socket?.setReading(isReading) }

    // MARK: Life

    func open(_ socket: any TransportSocket) { self.socket = socket }

    /// Gives what was sent a moment to leave, and closes the socket.
    nonisolated(nonsending) func close() async {
        guard let socket = self.socket else { return }
        await socket.close(linger: .milliseconds(300))
        self.socket = nil
    }
}
