import ApusCore
import ApusWire
import NIOCore

/// Sends answers to requests of the controller before this one by one socket, to clients that connect again.
final class ReturningClientsOutlet {
    /// The connections of clients; nil if no request of an earlier controller was taken up.
    private var clients: ReturningClients<[ByteBuffer]>?
    private let outlet: Outlet
    private let recorder: Recorder

    /// How long clients may take to connect again.
    private static let patience = TimeAmount.minutes(10)

    init(_ outlet: Outlet, recorder: Recorder) {
        self.outlet = outlet
        self.recorder = recorder
    }

    /// Begins to hold answers for clients that connect again. Must be called before the socket is bound.
    ///
    /// After ten minutes the answers that are held are dropped. Further calls do nothing.
    func expectClients(on loop: any EventLoop) {
        guard self.clients == nil else { return }
        self.clients = ReturningClients()
        loop.assumeIsolated().scheduleTask(in: Self.patience) { [weak self] in self?.clients?.giveUp() }
    }

    /// Sends the answers that are held by a new connection.
    func connected(_ identity: ByteBuffer) {
        guard let answers = self.clients?.connected(identity), !answers.isEmpty else { return }
        for answer in answers { self.recorder.answer([identity] + answer, by: self.outlet) }
    }

    func disconnected(_ identity: ByteBuffer) { self.clients?.disconnected(identity) }

    /// Notes that a request of this session came by the connection.
    func spoke(_ identity: ByteBuffer, as session: String) { self.clients?.spoke(identity, as: session) }

    /// Answers a client that an earlier controller served.
    ///
    /// - Parameter frames: The answer without the client's identity.
    func answer(_ frames: [ByteBuffer], to session: String) {
        let byteCount = frames.reduce(0) { $0 + $1.readableBytes }
        for identity in self.clients?.take(frames, byteCount: byteCount, for: session) ?? [] {
            self.recorder.answer([identity] + frames, by: self.outlet)
        }
    }
}
