import NIOCore

/// The commands of ZMTP 3.1 with the NULL mechanism (sections 3.4 and 4).
enum Command: Sendable, Equatable {
    case ready(Ready)
    case error(reason: String)
    case subscribe(ByteBuffer)
    case cancel(ByteBuffer)
    /// The receiver may close the connection after `timeToLive` tenths of a second without traffic; zero for never.
    case ping(timeToLive: UInt16, context: ByteBuffer)
    case pong(context: ByteBuffer)
    /// A command of a later version; ignored, as the specification asks.
    case unknown(name: String)

    /// The properties that each side announces before traffic begins.
    struct Ready: Sendable, Equatable {
        var socketType: String
        var identity: ByteBuffer = ByteBuffer()
    }

    /// The longest context that a PING may carry.
    static let maximumPingContext = 16

    /// Reads the body of a command frame.
    init(parsing body: ByteBuffer) throws(ProtocolViolation) {
        var body = body
        guard let nameLength: UInt8 = body.readInteger(), nameLength > 0, let name = body.readString(length: Int(nameLength))
        else {
            throw .malformedCommand("unnamed")
        }
        switch name {
        case "READY":
            self = .ready(try Ready(parsing: body))
        case "ERROR":
            guard let length: UInt8 = body.readInteger(), let reason = body.readString(length: Int(length)) else {
                throw .malformedCommand(name)
            }
            self = .error(reason: reason)
        case "SUBSCRIBE":
            self = .subscribe(body)
        case "CANCEL":
            self = .cancel(body)
        case "PING":
            guard let timeToLive: UInt16 = body.readInteger(), body.readableBytes <= Self.maximumPingContext else {
                throw .malformedCommand(name)
            }
            self = .ping(timeToLive: timeToLive, context: body)
        case "PONG":
            self = .pong(context: body)
        default:
            self = .unknown(name: name)
        }
    }

    /// The whole frame, header included.
    func encoded() -> ByteBuffer {
        var body = ByteBuffer()
        func name(_ name: String) {
            body.writeInteger(UInt8(name.utf8.count))
            body.writeString(name)
        }
        switch self {
        case .ready(let ready):
            name("READY")
            ready.write(to: &body)
        case .error(let reason):
            name("ERROR")
            let text = reason.utf8.prefix(255)
            body.writeInteger(UInt8(text.count))
            body.writeBytes(text)
        case .subscribe(let prefix):
            name("SUBSCRIBE")
            body.writeImmutableBuffer(prefix)
        case .cancel(let prefix):
            name("CANCEL")
            body.writeImmutableBuffer(prefix)
        case .ping(let timeToLive, let context):
            name("PING")
            body.writeInteger(timeToLive)
            body.writeImmutableBuffer(context)
        case .pong(let context):
            name("PONG")
            body.writeImmutableBuffer(context)
        case .unknown(let other):
            name(other)
        }
        var frame = ByteBufferAllocator().buffer(capacity: FrameHeader.maximumSize + body.readableBytes)
        FrameHeader(flags: .command, length: body.readableBytes).write(to: &frame)
        frame.writeImmutableBuffer(body)
        return frame
    }
}

extension Command.Ready {
    private static let socketTypeName = "Socket-Type"
    private static let identityName = "Identity"

    /// Reads the properties: name length (1 byte), name, value length (4 bytes), value. Names are compared without
    /// regard to case, and unknown properties are ignored.
    init(parsing body: ByteBuffer) throws(ProtocolViolation) {
        var body = body
        var socketType: String?
        var identity = ByteBuffer()
        while body.readableBytes > 0 {
            guard let nameLength: UInt8 = body.readInteger(), nameLength > 0,
                let name = body.readString(length: Int(nameLength)),
                let valueLength: UInt32 = body.readInteger(),
                let value = body.readSlice(length: Int(valueLength))
            else { throw .malformedCommand("READY") }
            switch name.lowercased() {
            case "socket-type": socketType = String(buffer: value)
            case "identity": identity = value
            default: break
            }
        }
        guard let socketType else { throw .malformedCommand("READY") }
        guard identity.readableBytes <= 255, identity.readableBytesView.first != 0 else { throw .invalidIdentity }
        // A copy of its own, because it outlives the bytes read with it.
        self.init(socketType: socketType, identity: ByteBuffer(bytes: identity.readableBytesView))
    }

    func write(to body: inout ByteBuffer) {
        func property(_ name: String, _ value: ByteBuffer) {
            body.writeInteger(UInt8(name.utf8.count))
            body.writeString(name)
            body.writeInteger(UInt32(value.readableBytes))
            body.writeImmutableBuffer(value)
        }
        property(Self.socketTypeName, ByteBuffer(string: self.socketType))
        property(Self.identityName, self.identity)
    }
}
