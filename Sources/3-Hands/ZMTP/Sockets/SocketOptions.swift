package import NIOCore

/// How a socket behaves. The defaults suit a controller on a trusted network.
package struct SocketOptions: Sendable {
    /// How much may wait for one peer before further messages to it are dropped; `nil` is no limit.
    ///
    /// A message is refused when either mark has been reached, so one message may overshoot the mark in bytes. Bytes that
    /// the operating system buffers are not counted, nor is up to a megabyte on its way there.
    package struct HighWaterMark: Sendable, Hashable {
        package var messages: Int?
        package var bytes: Int?

        package init(messages: Int? = nil, bytes: Int? = nil) {
            self.messages = messages
            self.bytes = bytes
        }

        package static let unlimited = HighWaterMark()
    }

    /// The waits between attempts to connect: doubling from `minimum` to `maximum`, each shortened by up to its fraction
    /// `jitter`, so that peers that lost a server together do not come back together.
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

    /// The identity that this socket announces, by which a ROUTER peer routes. Empty lets the peer choose one. At most 255 bytes,
    /// the first not zero.
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
    /// Whether a peer at the high-water mark loses its connection, which it notices, rather than single messages.
    package var closesAtHighWaterMark = false
    /// The largest message accepted, in bytes of all its frames; a single frame can never exceed 4 GiB - 1.
    package var maximumMessageSize = 1 << 40
    /// A lower limit for peers that are not known yet; `nil` makes no difference between peers.
    package var strangers: Strangers?

    /// The limit for peers that are not known yet. With such a limit, a message that is too large and whose first frames make its
    /// peer known does not end the connection: the first frames are reported, the rest is passed over.
    package struct Strangers: Sendable {
        /// The largest message accepted from a stranger.
        package var maximumMessageSize: Int
        /// Whether the frames of a message, as many as have arrived, show that the sender is known. Called on the event loop, for
        /// each message until it gives true, and when a message grows too large for a stranger.
        package var areKnown: @Sendable (_ frames: Message) -> Bool

        package init(maximumMessageSize: Int, areKnown: @escaping @Sendable (_ frames: Message) -> Bool) {
            self.maximumMessageSize = maximumMessageSize
            self.areKnown = areKnown
        }
    }
    /// The most frames accepted in one message.
    package var maximumFrames = 1 << 16
    /// Whether sent messages are flushed at the end of the event loop's tick without a call of `flush`.
    package var flushesAutomatically = true

    package init() {}
}
