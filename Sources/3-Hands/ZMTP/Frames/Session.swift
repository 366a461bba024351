import NIOCore

/// One peer's side of a conversation: greeting, READY, then messages and commands (ZMTP 3.1, section 2).
///
/// A session is a value without a socket. Give it the bytes that arrive, take the events out until there is none, and
/// write the bytes of its `reply` events. When it throws, the connection must be closed.
struct Session: Sendable {
    enum Event: Sendable, Equatable {
        /// Write these bytes.
        case reply(ByteBuffer)
        /// The handshake is over; from now on messages may be sent.
        case ready(Command.Ready)
        case message(Message)
        /// The frames so far of a message that is too large and whose rest is passed over.
        case tooLarge(Message)
        case subscribe(ByteBuffer)
        case cancel(ByteBuffer)
    }

    private enum Phase {
        /// Waiting for the peer's greeting. Becomes `handshake`.
        case greeting
        /// Waiting for its READY. Becomes `traffic`.
        case handshake
        case traffic
    }

    /// The largest command accepted before the handshake is over.
    static let maximumHandshakeCommand = 8 * 1024

    private let socketType: SocketType
    private let identity: ByteBuffer
    private let limits: FrameDecoder.Limits
    private let strangers: SocketOptions.Strangers?
    private var phase = Phase.greeting
    private var decoder: FrameDecoder
    /// Bytes of the greeting so far.
    private var greeting = ByteBuffer()
    /// Bytes received while the phase is `greeting`.
    private var input = ByteBuffer()

    /// The minor version of the peer's ZMTP 3, known with its greeting.
    private(set) var peerMinorVersion: UInt8 = 0
    /// The tenths of a second without traffic after which the peer wants its connection closed; zero for never.
    private(set) var peerTimeToLive: UInt16 = 0

    init(
        socketType: SocketType, identity: ByteBuffer, limits: FrameDecoder.Limits, strangers: SocketOptions.Strangers? = nil
    ) {
        self.strangers = strangers
        self.socketType = socketType
        self.identity = identity
        self.limits = limits
        self.decoder = FrameDecoder(limits: .init(messageSize: Self.maximumHandshakeCommand, frames: limits.frames))
    }

    /// The bytes to write first, before any are received.
    static var opening: ByteBuffer { Greeting().encoded() }

    /// A frame put before each message from now on.
    var envelope: ByteBuffer? {
        get { self.decoder.envelope }
        set { self.decoder.envelope = newValue }
    }

    /// Whether the peer understands commands of ZMTP 3.1: SUBSCRIBE, CANCEL, PING.
    var peerSpeaks31: Bool { self.peerMinorVersion >= 1 }

    /// Takes the next bytes of the stream. All events of earlier bytes must have been taken out before.
    mutating func receive(_ bytes: ByteBuffer) {
        switch self.phase {
        case .greeting: self.input = bytes
        case .handshake, .traffic: self.decoder.receive(bytes)
        }
    }

    /// Takes out the next event, or `nil` when more bytes are needed.
    mutating func next() throws(ProtocolViolation) -> Event? {
        switch self.phase {
        case .traffic: return try self.nextInTraffic()
        case .greeting: return try self.nextInGreeting()
        case .handshake: return try self.nextInHandshake()
        }
    }

    /// Takes out events up to one that is not a message, or all there are; the messages are appended to the list.
    mutating func next(appendingMessagesTo messages: inout [Message]) throws(ProtocolViolation) -> Event? {
        while let event = try self.next() {
            guard case .message(let message) = event else { return event }
            messages.append(message)
        }
        return nil
    }

    private mutating func nextInTraffic() throws(ProtocolViolation) -> Event? {
        while let unit = try self.decoder.next() {
            switch unit {
            case .message(let message):
                if self.socketType.takesSubscriptions, let event = Self.subscription(in: message) { return event }
                return .message(message)
            case .tooLarge(let frames): return .tooLarge(frames)
            case .command(let body):
                switch try Command(parsing: body) {
                case .subscribe(let prefix): return .subscribe(prefix)
                case .cancel(let prefix): return .cancel(prefix)
                case .ping(let timeToLive, let context):
                    self.peerTimeToLive = timeToLive
                    return .reply(Command.pong(context: context).encoded())
                case .error(let reason): throw .refusedByPeer(reason)
                case .ready: throw .malformedCommand("READY")
                case .pong, .unknown: break
                }
            }
        }
        return nil
    }

    /// The subscription in a message of one frame, 1 or 0 and then the prefix. Peers before ZMTP 3.1 send it so, and later ones
    /// may.
    private static func subscription(in message: Message) -> Event? {
        guard message.count == 1, let kind = message[0].getInteger(at: message[0].readerIndex, as: UInt8.self), kind <= 1 else {
            return nil
        }
        let prefix = message[0].getSlice(at: message[0].readerIndex + 1, length: message[0].readableBytes - 1)!
        return kind == 1 ? .subscribe(prefix) : .cancel(prefix)
    }

    private mutating func nextInGreeting() throws(ProtocolViolation) -> Event? {
        let missing = Greeting.size - self.greeting.readableBytes
        guard let bytes = self.input.readSlice(length: min(missing, self.input.readableBytes)) else { return nil }
        self.greeting.writeImmutableBuffer(bytes)
        guard let greeting = try Greeting.parse(self.greeting) else { return nil }
        // A peer of a later major version has to speak version 3.
        self.peerMinorVersion = greeting.majorVersion > 3 ? 1 : greeting.minorVersion
        self.phase = .handshake
        self.decoder.receive(self.input)
        self.input = ByteBuffer()
        return .reply(Command.ready(.init(socketType: self.socketType.rawValue, identity: self.identity)).encoded())
    }

    private mutating func nextInHandshake() throws(ProtocolViolation) -> Event? {
        guard let unit = try self.decoder.next() else { return nil }
        guard case .command(let body) = unit else { throw .handshakeExpected }
        switch try Command(parsing: body) {
        case .ready(let ready):
            guard self.socketType.accepts(peerType: ready.socketType) else {
                throw .incompatibleSocketType(ready.socketType, with: self.socketType)
            }
            self.phase = .traffic
            self.decoder.limits = self.limits
            if let strangers {
                self.decoder.limits.messageSize = min(strangers.maximumMessageSize, self.limits.messageSize)
                self.decoder.strangers = (self.limits.messageSize, strangers.areKnown)
            }
            return .ready(ready)
        case .error(let reason):
            throw .refusedByPeer(reason)
        default:
            throw .handshakeExpected
        }
    }
}
