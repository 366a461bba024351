package import NIOCore
import NIOPosix
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Decodes frames (`channel.py`) as their bytes come.
package struct KernelFrameDecoder {
    private let lender: Int32
    private var buffer = ByteBuffer()
    /// How many bytes must have come before the next attempt to decode.
    private var wanted = 4
    /// A frame that is too long for one buffer, while its parts come.
    private var long: LongFrame?

    package struct Torn: Error {}

    private struct LongFrame {
        let lengths: [(length: Int, isLent: Bool)]
        var parts: [ByteBuffer] = []
        /// The bytes of the next part that have come.
        var part = ByteBuffer()
    }

    /// Longer frames are decoded part by part, because one part may have 4 GiB, as much as one buffer can hold.
    private static let longest = 1 << 26

    /// - Parameter lender: The socket that large parts are lent over.
    package init(lender: Int32) { self.lender = lender }

    package mutating func append(_ bytes: ByteBuffer) {
        if self.buffer.readableBytes == 0 {
            self.buffer = bytes
        } else {
            self.buffer.reserveCapacity(minimumWritableBytes: max(bytes.readableBytes, self.wanted - self.buffer.readableBytes))
            self.buffer.writeImmutableBuffer(bytes)
        }
    }

    /// Gives the next frame's parts; nil until the frame is whole. Parts share memory with each other, and not with later frames.
    ///
    /// - Throws: ``Torn`` when the bytes are no frame, or have a part of more than 4 GiB; nothing behind them can be decoded.
    package mutating func next() throws(Torn) -> [ByteBuffer]? {
        if self.long != nil { return try self.nextLong() }
        guard self.buffer.readableBytes >= self.wanted, let (lengths, size) = try self.readLengths() else { return nil }
        guard self.buffer.readableBytes >= size || size > Self.longest else {
            self.wanted = size
            return nil
        }
        self.wanted = 4
        self.buffer.moveReaderIndex(forwardBy: 4 + 8 * lengths.count)
        if size > Self.longest {
            self.long = LongFrame(lengths: lengths)
            return try self.nextLong()
        }
        var parts: [ByteBuffer] = []
        parts.reserveCapacity(lengths.count)
        for (length, isLent) in lengths {
            guard let part = isLent ? self.takeLoan(length) : self.buffer.readSlice(length: length) else { throw Torn() }
            parts.append(part)
        }
        self.letGoOfParts()
        return parts
    }

    /// Copies the rest to a new buffer: later bytes must not be written into, or be copied with, the memory that the parts hold.
    private mutating func letGoOfParts() {
        self.buffer = self.buffer.readableBytes == 0 ? ByteBuffer() : ByteBuffer(bytes: self.buffer.readableBytesView)
    }

    private mutating func nextLong() throws(Torn) -> [ByteBuffer]? {
        guard var frame = self.long else { return nil }
        self.long = nil
        while frame.parts.count < frame.lengths.count {
            let (length, isLent) = frame.lengths[frame.parts.count]
            if isLent {
                guard self.buffer.readableBytes >= 8 else { break }
                guard let part = self.takeLoan(length) else { throw Torn() }
                frame.parts.append(part)
                continue
            }
            let available = min(length - frame.part.readableBytes, self.buffer.readableBytes)
            if var piece = self.buffer.readSlice(length: available) { frame.part.writeBuffer(&piece) }
            guard frame.part.readableBytes == length else { break }
            frame.parts.append(frame.part)
            frame.part = ByteBuffer()
        }
        self.letGoOfParts()
        if frame.parts.count == frame.lengths.count { return frame.parts }
        self.long = frame
        return nil
    }

    /// Reads the lengths of the parts and of the whole frame from the start of the buffer; nil while not all lengths have come.
    private mutating func readLengths() throws(Torn) -> (lengths: [(length: Int, isLent: Bool)], size: Int)? {
        var head = self.buffer
        guard let count = head.readInteger(endianness: .little, as: UInt32.self), count < 1 << 24 else { throw Torn() }
        guard head.readableBytes >= 8 * Int(count) else {
            self.wanted = 4 + 8 * Int(count)
            return nil
        }
        var lengths: [(length: Int, isLent: Bool)] = []
        lengths.reserveCapacity(Int(count))
        var size = 4 + 8 * Int(count)
        for _ in 0..<count {
            guard let word = head.readInteger(endianness: .little, as: UInt64.self) else { throw Torn() }
            let (length, isLent) = (Int(word & ~KernelFrames.lent), word & KernelFrames.lent != 0)
            guard length <= UInt32.max else { throw Torn() }
            lengths.append((length, isLent))
            size += isLent ? 8 : length
        }
        return (lengths, size)
    }

    private mutating func takeLoan(_ length: Int) -> ByteBuffer? {
        self.buffer.readInteger(endianness: .little, as: UInt64.self).flatMap { Int(exactly: $0) }
            .flatMap { KernelMemory.take(length, at: $0, from: self.lender) }
    }
}

/// Reads a kernel's frames on the engine's event loop, which also sends the replies: with a thread between them, each reply would
/// wait for the thread to wake.
final class KernelReading: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private var decoder: KernelFrameDecoder
    private let take: @Sendable ([ByteBuffer]) -> Void
    private let whenEnded: @Sendable (_ isTorn: Bool) -> Void
    private var isTorn = false

    private init(
        lender: Int32, take: @escaping @Sendable ([ByteBuffer]) -> Void, whenEnded: @escaping @Sendable (_ isTorn: Bool) -> Void
    ) {
        self.decoder = KernelFrameDecoder(lender: lender)
        self.take = take
        self.whenEnded = whenEnded
    }

    /// Starts to read; from then on the kernel's socket does not block. `whenEnded` is called once, also if reading cannot begin;
    /// `isTorn` says whether reading ended because of bytes that are no frame.
    ///
    /// - Parameter eventLoop: An event loop of NIOPosix.
    static func start(
        _ child: KernelChild, on eventLoop: any EventLoop, take: @escaping @Sendable ([ByteBuffer]) -> Void,
        whenEnded: @escaping @Sendable (_ isTorn: Bool) -> Void
    ) {
        // A duplicate, because the channel closes its descriptor, and the child closes its own.
        let descriptor = fcntl(child.socket, F_DUPFD_CLOEXEC, 10)
        NIOPipeBootstrap(group: eventLoop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        KernelReading(lender: child.lender, take: take, whenEnded: whenEnded))
                }
            }
            .takingOwnershipOfDescriptor(input: descriptor)
            .whenFailure { _ in
                close(descriptor)
                whenEnded(false)
            }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.decoder.append(self.unwrapInboundIn(data))
        guard !self.isTorn else { return }
        do { while let parts = try self.decoder.next() { self.take(parts) } } catch {
            self.isTorn = true
            context.close(promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) { self.whenEnded(self.isTorn) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
