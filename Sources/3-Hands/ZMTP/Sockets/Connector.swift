import NIOCore

/// An endpoint that a socket keeps itself connected to.
final class Connector {
    let host: String
    let port: Int
    /// Attempts in a row that did not end in a finished handshake.
    var failures = 0
    /// The next attempt, while waiting for it.
    var retry: Scheduled<Void>?
    /// The connection, while there is one.
    var connection: Connection?
    /// Whether the endpoint was given up.
    var isCancelled = false

    init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    func cancel() {
        self.isCancelled = true
        self.retry?.cancel()
        self.retry = nil
    }
}
