package import NIOCore

/// How a socket behaves. The defaults suit a controller on a trusted network.
package struct SocketOptions: Sendable {
    /// How much may wait for one peer before further messages to it are dropped; `nil` is no limit.
    ///
    /// A message is refused when either mark has been reached, so one message may overshoot the mark in bytes. What
    /// the operating system buffers is not counted, nor is up to a megabyte that is on its way to it.
    package struct HighWaterMark: Sendable, Hashable {
        package var messages: Int?
        package var bytes: Int?

        package init(messages: Int? = nil, bytes: Int? = nil) {
            self.messages = messages
            self.bytes = bytes
        }

        package static let unlimited = HighWaterMark()
    }

    /// The waits between attempts to connect: doubling from `minimum` to `maximum`, each shortened by up to `jitter`
    /// of it, so that peers that lost a server together do not come back together.
    package struct Backoff: Sendable, Hashable {
        package var minimum: TimeAmount = .milliseconds(50)
        package var maximum: TimeAmount = .seconds(2)
        package var jitter: Double = 0.3

        package init(minimum: TimeAmount = .milliseconds(50), maximum: TimeAmount = .seconds(2), jitter: Double = 0.3) {
            self.minimum = minimum
            self.maximum = maximum
            self.jitter = jitter
        }

        /// The wait after the given number of failures in a row, the first being number 1.
        func wait(afterFailure number: Int, using generator: inout some RandomNumberGenerator) -> TimeAmount {
            let doublings = min(max(number - 1, 0), 30)
            let (grown, overflow) = self.minimum.nanoseconds.multipliedReportingOverflow(by: 1 << doublings)
            let longest = overflow ? self.maximum.nanoseconds : min(grown, self.maximum.nanoseconds)
            let kept = 1 - Double.random(in: 0...max(self.jitter, 0), using: &generator)
            return .nanoseconds(Int64(Double(longest) * max(kept, 0)))
        }
    }

    /// What this socket calls itself; a ROUTER peer routes by it. Empty lets the peer choose. At most 255 bytes, the
    /// first not zero.
    package var identity: [UInt8] = []
    package var sendHighWaterMark = HighWaterMark(bytes: 1 << 30)
    /// How long `close` waits for queued messages to be written; `nil` is for ever.
    package var linger: TimeAmount? = .seconds(1)
    package var reconnect = Backoff()
    /// The longest an attempt to connect may take.
    package var connectTimeout: TimeAmount = .seconds(10)
    /// How long a peer may take from connection to READY.
    package var handshakeTimeout: TimeAmount = .seconds(30)
    /// How often a PING is sent to a peer of ZMTP 3.1; `nil` is never.
    package var heartbeatInterval: TimeAmount?
    /// How long a peer that is sent PINGs may be silent before its connection is closed; `nil` is three intervals.
    package var heartbeatTimeout: TimeAmount?
    /// Whether a peer at the mark loses its connection, so that it notices, rather than single messages.
    package var closesAtHighWaterMark = false
    /// The largest message accepted, in bytes of all its frames; a single frame can never exceed 4 GiB - 1.
    package var maximumMessageSize = 1 << 40
    /// The same for a peer that is a stranger yet; `nil` makes no difference between peers.
    package var strangers: Strangers?

    /// What a peer may send before it has shown who it is. Where there are strangers, a message that is too large and whose first
    /// frames are a known peer's does not end the connection: its frames so far are told, the rest is passed over.
    package struct Strangers: Sendable {
        /// The largest message accepted of a stranger.
        package var maximumMessageSize: Int
        /// Whether a message, or the frames that have come of one, shows that its sender is no stranger. Asked on the event loop, for
        /// each message until it says yes, and when one grows too large for a stranger.
        package var areKnown: @Sendable (_ frames: Message) -> Bool

        package init(maximumMessageSize: Int, areKnown: @escaping @Sendable (_ frames: Message) -> Bool) {
            self.maximumMessageSize = maximumMessageSize
            self.areKnown = areKnown
        }
    }
    /// The most frames accepted in one message.
    package var maximumFrames = 1 << 16
    /// Whether what is sent is flushed at the end of the event loop's tick even if nobody calls `flush`.
    package var flushesAutomatically = true

    package init() {}
}
