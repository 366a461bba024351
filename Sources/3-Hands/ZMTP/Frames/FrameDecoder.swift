import MemoryFiles
import NIOCore

/// Cuts a stream of bytes into messages and commands.
///
/// Bytes go in as they were read, in pieces of any size; frames come out as slices of them, not copied. Only a frame
/// whose bytes came in several reads is put together in a buffer of its own, which grows as the bytes arrive: a peer
/// that announces gigabytes and sends nothing costs ``initialFrameCapacity``.
struct FrameDecoder: Sendable {
    enum Unit: Sendable, Equatable {
        case message(Message)
        /// The body of a command.
        case command(ByteBuffer)
        /// The first frames of a message of a known peer that is larger than allowed; the rest of the message is passed over.
        case tooLarge(Message)
    }

    struct Limits: Sendable {
        /// Bytes of all frames of one message together.
        var messageSize: Int
        /// Frames in one message.
        var frames: Int
    }

    /// The first capacity of a frame's own buffer, which grows to at most `growth` times the bytes that have arrived.
    static let initialFrameCapacity = 64 * 1024
    static let growth = 8
    /// The smallest frame, in bytes, that is collected in a memory file.
    static let smallestFile = 1 << 20
    /// The most bytes that one `ByteBuffer` can hold.
    static let maximumFrameSize = Int(UInt32.max)

    var limits: Limits
    /// The limit for a known peer, and the check that makes a peer known; `nil` when the peer is known, or there are no
    /// strangers.
    var strangers: (knownMessageSize: Int, areKnown: @Sendable (Message) -> Bool)?
    /// Whether the peer has shown that it is no stranger.
    private(set) var isKnown = false
    /// A frame put before each message: the sender's identity, where the socket is a ROUTER.
    var envelope: ByteBuffer?

    /// Bytes that have been received and not yet decoded.
    private var input = ByteBuffer()
    /// A header of which only the first bytes have arrived; else empty.
    private var partialHeader = ByteBuffer()
    /// The bytes that have arrived of the frame under way, if `partialFrameHeader` is set.
    private var partialFrame = ByteBuffer()
    private var partialFrameHeader: FrameHeader?
    /// Collects the frame under way in place of `partialFrame`, if it is a large one.
    private var partialFile: MemoryFile?
    /// The frames of the message under way, the envelope included.
    private var frames: Message = []
    /// The bytes of these frames without the envelope.
    private var framesSize = 0
    /// The frame under way of a message that is too large: bytes still to be passed over, and whether the frame is the message's
    /// last.
    private var passedOver: (missing: Int, isLast: Bool)?

    init(limits: Limits) {
        self.limits = limits
    }

    /// The capacity allocated for the frame under way.
    var partialFrameCapacity: Int { self.partialFile?.count ?? self.partialFrame.capacity }

    /// Takes the next bytes of the stream. Everything of earlier bytes must have been taken out before.
    mutating func receive(_ bytes: ByteBuffer) {
        precondition(self.input.readableBytes == 0, "\(self.input.readableBytes) bytes were received and not decoded")
        self.input = bytes
    }

    /// Takes out the next message or command, or `nil` when more bytes are needed.
    mutating func next() throws(ProtocolViolation) -> Unit? {
        while true {
            if self.passedOver != nil {
                guard try self.passOver() else { return nil }
                continue
            }
            let header: FrameHeader
            let frame: ByteBuffer
            if let partial = self.partialFrameHeader {
                guard self.fillPartialFrame(length: partial.length) else { return nil }
                header = partial
                frame = self.partialFile?.finish() ?? self.partialFrame
                self.partialFrameHeader = nil
                self.partialFrame = ByteBuffer()
                self.partialFile = nil
            } else {
                if self.frames.isEmpty, self.partialHeader.readableBytes == 0 {
                    if let message = self.wholeMessage() {
                        self.getToKnow(message)
                        return .message(message)
                    }
                }
                guard let next = try self.nextHeader() else { return nil }
                guard try self.accepts(next) else {
                    self.passedOver = (next.length, !next.flags.contains(.more))
                    defer {
                        self.frames = []
                        self.framesSize = 0
                    }
                    return .tooLarge(self.frames)
                }
                header = next
                guard let slice = self.input.readSlice(length: header.length) else {
                    self.beginPartialFrame(header)
                    continue
                }
                frame = slice
            }
            if header.flags.contains(.command) { return .command(frame) }
            if self.frames.isEmpty, let envelope = self.envelope { self.frames.append(envelope) }
            self.frames.append(frame)
            self.framesSize += header.length
            if !header.flags.contains(.more) {
                let message = self.frames
                self.frames = []
                self.framesSize = 0
                self.getToKnow(message)
                return .message(message)
            }
        }
    }

    /// The message at the front of the input, if it is complete and valid; the usual case.
    ///
    /// Any other input is left in place, to be decoded frame by frame.
    private mutating func wholeMessage() -> Message? {
        let limits = self.limits
        let extent = self.input.withUnsafeReadableBytes { bytes -> (frames: Int, end: Int)? in
            var offset = 0
            var size = 0
            var frames = 0
            while true {
                guard offset + 2 <= bytes.count else { return nil }
                let flags = bytes[offset]
                // Only MORE and LONG.
                guard flags & 0xFC == 0 else { return nil }
                let length: Int
                if flags & FrameHeader.Flags.long.rawValue == 0 {
                    length = Int(bytes[offset + 1])
                    offset += 2
                } else {
                    guard offset + FrameHeader.maximumSize <= bytes.count else { return nil }
                    length = Int(clamping: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset + 1, as: UInt64.self)))
                    offset += FrameHeader.maximumSize
                }
                guard length <= bytes.count - offset else { return nil }
                offset += length
                size += length
                frames += 1
                guard size <= limits.messageSize, frames <= limits.frames else { return nil }
                if flags & FrameHeader.Flags.more.rawValue == 0 { return (frames, offset) }
            }
        }
        guard let extent else { return nil }
        var message = Message()
        if let envelope = self.envelope {
            message.reserveCapacity(extent.frames + 1)
            message.append(envelope)
        } else {
            message.reserveCapacity(extent.frames)
        }
        for _ in 0..<extent.frames {
            let start = self.input.readerIndex
            let isLong = self.input.getInteger(at: start, as: UInt8.self)! & FrameHeader.Flags.long.rawValue != 0
            let length: Int
            if isLong {
                length = Int(self.input.getInteger(at: start + 1, as: UInt64.self)!)
                self.input.moveReaderIndex(forwardBy: FrameHeader.maximumSize)
            } else {
                length = Int(self.input.getInteger(at: start + 1, as: UInt8.self)!)
                self.input.moveReaderIndex(forwardBy: 2)
            }
            message.append(self.input.readSlice(length: length)!)
        }
        return message
    }

    /// Takes the next header, which may have arrived in pieces.
    private mutating func nextHeader() throws(ProtocolViolation) -> FrameHeader? {
        if self.partialHeader.readableBytes == 0 {
            if let header = try FrameHeader(reading: &self.input) { return header }
        }
        while let byte: UInt8 = self.input.readInteger() {
            self.partialHeader.writeInteger(byte)
            if let header = try FrameHeader(reading: &self.partialHeader) {
                self.partialHeader.clear()
                return header
            }
        }
        return nil
    }

    /// Checks whether the frames of a message, as many as have arrived, make the peer known.
    private mutating func getToKnow(_ frames: Message) {
        guard let strangers = self.strangers, strangers.areKnown(frames) else { return }
        self.limits.messageSize = strangers.knownMessageSize
        self.strangers = nil
        self.isKnown = true
    }

    /// Passes over received bytes of a message that is too large. False: more bytes are needed.
    private mutating func passOver() throws(ProtocolViolation) -> Bool {
        guard let (missing, isLast) = self.passedOver else { return true }
        let count = min(missing, self.input.readableBytes)
        self.input.moveReaderIndex(forwardBy: count)
        self.passedOver = (missing - count, isLast)
        guard missing == count else { return false }
        if isLast {
            self.passedOver = nil
            return true
        }
        guard let next = try self.nextHeader() else { return false }
        // A command may come between two frames of the message.
        self.passedOver = (next.length, next.flags.isDisjoint(with: [.more, .command]))
        return true
    }

    /// Whether the frame of that header is accepted. False: the message is too large, and its sender is known.
    private mutating func accepts(_ header: FrameHeader) throws(ProtocolViolation) -> Bool {
        do throws(ProtocolViolation) {
            try self.check(header)
        } catch .messageTooLarge(let limit) {
            guard !header.flags.contains(.command), !self.frames.isEmpty else { throw .messageTooLarge(limit: limit) }
            self.getToKnow(self.frames)
            guard self.isKnown else { throw .messageTooLarge(limit: limit) }
            do throws(ProtocolViolation) { try self.check(header) } catch .messageTooLarge { return false }
        }
        return true
    }

    private func check(_ header: FrameHeader) throws(ProtocolViolation) {
        let size =
            header.flags.contains(.command) ? header.length : self.framesSize.addingReportingOverflow(header.length).partialValue
        guard header.length <= Self.maximumFrameSize, size >= 0, size <= self.limits.messageSize else {
            throw .messageTooLarge(limit: min(self.limits.messageSize, Self.maximumFrameSize))
        }
        let frames = self.frames.count - (self.envelope == nil || self.frames.isEmpty ? 0 : 1)
        guard frames < self.limits.frames || header.flags.contains(.command) else {
            throw .tooManyFrames(limit: self.limits.frames)
        }
    }

    private mutating func beginPartialFrame(_ header: FrameHeader) {
        self.partialFrameHeader = header
        if header.length >= Self.smallestFile {
            self.partialFile = MemoryFile()
            if self.partialFile != nil { return }
        }
        self.partialFrame = ByteBufferAllocator().buffer(capacity: min(header.length, Self.initialFrameCapacity))
    }

    /// Moves bytes from the input to the frame under way.
    ///
    /// - Returns: Whether the frame is complete.
    private mutating func fillPartialFrame(length: Int) -> Bool {
        if let file = self.partialFile {
            let count = min(length - file.count, self.input.readableBytes)
            if file.append(self.input.getSlice(at: self.input.readerIndex, length: count)!) {
                self.input.moveReaderIndex(forwardBy: count)
                return file.count == length
            }
            self.partialFrame = file.copy()
            self.partialFile = nil
        }
        while true {
            let missing = length - self.partialFrame.readableBytes
            if missing == 0 { return true }
            if self.input.readableBytes == 0 { return false }
            if self.partialFrame.writableBytes == 0 {
                self.partialFrame.reserveCapacity(min(length, self.partialFrame.readableBytes * Self.growth))
            }
            let count = min(missing, self.partialFrame.writableBytes, self.input.readableBytes)
            self.partialFrame.writeImmutableBuffer(self.input.readSlice(length: count)!)
        }
    }
}
