import NIOCore

/// The bytes that one peer has yet to be sent, in order.
///
/// Small frames are copied, headers between them, into one growing buffer, so that a batch of messages becomes one
/// write. Frames of at least ``largeFrame`` bytes are not copied: they become segments of their own.
struct OutgoingQueue {
    /// From this size on, a frame is cheaper to pass on than to copy.
    static let largeFrame = 16 * 1024
    /// A segment of small frames is closed when it is this large.
    static let segmentSize = 256 * 1024
    /// The largest buffer that is kept for reuse while there is nothing to send.
    private static let recycledCapacity = 8 * 1024

    private struct Segment {
        var bytes: ByteBuffer
        /// How many messages end in it.
        var messages: Int
    }

    /// Closed segments, oldest first.
    private var segments = CircularBuffer<Segment>()
    /// The buffer that small frames are appended to; follows all segments.
    private var open = ByteBuffer()
    private var messagesInOpen = 0
    /// The probable size of the next open buffer.
    private var expectedSize = 1024

    /// Messages not yet taken out; a message counts as taken out with its last byte.
    private(set) var messages = 0
    /// Bytes not yet taken out, headers included.
    private(set) var bytes = 0

    var isEmpty: Bool { self.bytes == 0 }

    /// Appends the frames of a message from `first` on.
    mutating func append(_ frames: Message, from first: Int = 0) {
        precondition(
            first < frames.count, "a message needs at least one frame, this has \(frames.count), \(first) of them skipped")
        var size = 0
        var isSmall = true
        for index in first..<frames.count {
            let length = frames[index].readableBytes
            size += FrameHeader.size(bodyLength: length) + length
            isSmall = isSmall && length < Self.largeFrame
        }
        if isSmall {
            self.appendSmall(frames, from: first, size: size)
        } else {
            self.appendLarge(frames, from: first)
        }
        self.bytes += size
        self.messages += 1
        self.messagesInOpen += 1
        if self.open.readableBytes >= Self.segmentSize || !isSmall { self.closeSegment() }
    }

    /// Appends encoded bytes: a greeting or a command.
    mutating func append(encoded: ByteBuffer) {
        self.reserve(encoded.readableBytes)
        self.open.writeImmutableBuffer(encoded)
        self.bytes += encoded.readableBytes
    }

    /// Takes out the next bytes to write.
    mutating func next() -> ByteBuffer? {
        let segment: Segment
        if let first = self.segments.popFirst() {
            segment = first
        } else if self.open.readableBytes > 0 {
            segment = Segment(bytes: self.open, messages: self.messagesInOpen)
            self.open = ByteBuffer()
            self.messagesInOpen = 0
            self.expectedSize = min(max(1024, segment.bytes.readableBytes), Self.segmentSize)
        } else {
            return nil
        }
        self.bytes -= segment.bytes.readableBytes
        self.messages -= segment.messages
        return segment.bytes
    }

    /// Gives back the buffer that `next` returned last, for reuse if it has no other owner.
    mutating func recycle(_ buffer: consuming ByteBuffer) {
        guard self.open.capacity == 0, buffer.capacity <= Self.recycledCapacity else { return }
        if buffer.modifyIfUniquelyOwned({ $0.clear() }) != nil { self.open = buffer }
    }

    private mutating func reserve(_ size: Int) {
        if self.open.capacity == 0 {
            self.open = ByteBufferAllocator().buffer(capacity: max(size, self.expectedSize))
        }
    }

    private mutating func appendSmall(_ frames: Message, from first: Int, size: Int) {
        self.reserve(size)
        self.open.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { target in
            var offset = 0
            for index in first..<frames.count {
                let more: UInt8 = index == frames.count - 1 ? 0 : FrameHeader.Flags.more.rawValue
                frames[index].withUnsafeReadableBytes { frame in
                    if frame.count <= FrameHeader.maximumShortLength {
                        target[offset] = more
                        target[offset + 1] = UInt8(truncatingIfNeeded: frame.count)
                        offset += 2
                    } else {
                        target[offset] = more | FrameHeader.Flags.long.rawValue
                        target.storeBytes(of: UInt64(frame.count).bigEndian, toByteOffset: offset + 1, as: UInt64.self)
                        offset += FrameHeader.maximumSize
                    }
                    if frame.count > 0 {
                        UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: frame)
                        offset += frame.count
                    }
                }
            }
            return offset
        }
    }

    private mutating func appendLarge(_ frames: Message, from first: Int) {
        for index in first..<frames.count {
            let frame = frames[index]
            self.reserve(FrameHeader.maximumSize)
            FrameHeader(flags: index == frames.count - 1 ? [] : .more, length: frame.readableBytes).write(to: &self.open)
            if frame.readableBytes < Self.largeFrame {
                self.open.writeImmutableBuffer(frame)
            } else {
                self.closeSegment()
                self.segments.append(Segment(bytes: frame, messages: 0))
            }
        }
    }

    /// Makes the open buffer a segment. If the buffer is empty, because a large frame was the last of its message, the
    /// segment of that frame counts the message.
    private mutating func closeSegment() {
        if self.open.readableBytes == 0, self.messagesInOpen > 0, let last = self.segments.indices.last {
            self.segments[last].messages += self.messagesInOpen
        } else if self.open.readableBytes > 0 {
            self.segments.append(Segment(bytes: self.open, messages: self.messagesInOpen))
            self.open = ByteBuffer()
        }
        self.messagesInOpen = 0
    }
}
