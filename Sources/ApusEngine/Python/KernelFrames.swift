import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Frames to and from the kernel (`channel.py`): the number of parts, the length of each, and the parts.
enum KernelFrames {
    /// Larger parts leave by themselves and not as a copy.
    private static let copyLimit = 1 << 16
    /// In a length: the part is lent, and in its place stands where in its file it begins.
    fileprivate static let lent = UInt64(1) << 63
    /// So many of a frame's parts are lent at most.
    private static let loans = 32

    /// Writes a frame to a blocking socket. False when the other end is gone.
    ///
    /// - Parameter lender: The socket that large parts are lent over; nil to send them as they are.
    static func write(_ parts: [ByteBuffer], to socket: Int32, lender: Int32? = nil) -> Bool {
        var lent: Set<Int> = []
        if let lender {
            let large = parts.indices.lazy.filter { parts[$0].readableBytes >= KernelMemory.threshold }
            for index in large.prefix(Self.loans) where KernelMemory.lend(parts[index], over: lender) { lent.insert(index) }
        }
        var pending = ByteBufferAllocator().buffer(
            capacity: 4 + 8 * parts.count + parts.reduce(0) { $0 + min($1.readableBytes, Self.copyLimit) })
        pending.writeInteger(UInt32(parts.count), endianness: .little)
        for (index, part) in parts.enumerated() {
            pending.writeInteger(UInt64(part.readableBytes) | (lent.contains(index) ? Self.lent : 0), endianness: .little)
        }
        for (index, part) in parts.enumerated() {
            if lent.contains(index) {
                pending.writeInteger(UInt64(0))
            } else if part.readableBytes <= Self.copyLimit {
                pending.writeImmutableBuffer(part)
            } else {
                guard self.send(pending, to: socket), self.send(part, to: socket) else { return false }
                pending.clear()
            }
        }
        return self.send(pending, to: socket)
    }

    private static func send(_ buffer: ByteBuffer, to socket: Int32) -> Bool {
        buffer.withUnsafeReadableBytes { bytes in
            var sent = 0
            while sent < bytes.count {
                let count = sendQuietly(socket, bytes.baseAddress! + sent, bytes.count - sent)
                if count < 0 && errno == EINTR { continue }
                guard count > 0 else { return false }
                sent += count
            }
            return true
        }
    }
}

/// Reads frames from a blocking socket.
struct KernelFrameReader {
    private let socket: Int32
    private let lender: Int32
    private var buffer = ByteBuffer()

    private static let chunk = 1 << 14

    /// - Parameter lender: The socket that large parts are lent over.
    init(socket: Int32, lender: Int32) {
        self.socket = socket
        self.lender = lender
    }

    /// The next frame's parts; nil at the end. They share memory with each other and with nothing that is still to come.
    mutating func next() -> [ByteBuffer]? {
        guard self.fill(4), let count = self.buffer.getInteger(at: self.buffer.readerIndex, endianness: .little, as: UInt32.self),
            count < 1 << 24, self.fill(4 + 8 * Int(count))
        else { return nil }
        self.buffer.moveReaderIndex(forwardBy: 4)
        var lengths: [(length: Int, isLent: Bool)] = []
        lengths.reserveCapacity(Int(count))
        var total = 0
        for _ in 0..<count {
            guard let word = self.buffer.readInteger(endianness: .little, as: UInt64.self) else { return nil }
            let (length, isLent) = (Int(word & ~KernelFrames.lent), word & KernelFrames.lent != 0)
            guard length <= UInt32.max else { return nil }
            lengths.append((length, isLent))
            total += isLent ? 8 : length
        }
        guard self.fill(total) else { return nil }
        var parts: [ByteBuffer] = []
        parts.reserveCapacity(Int(count))
        for (length, isLent) in lengths {
            guard let part = isLent ? self.takeLoan(length) : self.buffer.readSlice(length: length) else { return nil }
            parts.append(part)
        }
        // The next read must not write into, or copy, what the parts hold.
        self.buffer = ByteBuffer(bytes: self.buffer.readableBytesView)
        return parts
    }

    private mutating func takeLoan(_ length: Int) -> ByteBuffer? {
        self.buffer.readInteger(endianness: .little, as: UInt64.self).flatMap { Int(exactly: $0) }
            .flatMap { KernelMemory.take(length, at: $0, from: self.lender) }
    }

    /// Reads until so many bytes are there. Large amounts are read exactly, so that nothing of a later frame lies behind them.
    private mutating func fill(_ count: Int) -> Bool {
        while self.buffer.readableBytes < count {
            let missing = count - self.buffer.readableBytes
            let room = missing > Self.chunk ? missing : Self.chunk
            let socket = self.socket
            var isOpen = true
            self.buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { space in
                while true {
                    let received = recv(socket, space.baseAddress, min(room, space.count), 0)
                    if received < 0 && errno == EINTR { continue }
                    isOpen = received > 0
                    return max(0, received)
                }
            }
            guard isOpen else { return false }
        }
        return true
    }
}

/// `send` without a signal when the other end is gone.
private func sendQuietly(_ socket: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    #if canImport(Darwin)
        send(socket, bytes, count, 0)
    #else
        send(socket, bytes, count, Int32(MSG_NOSIGNAL))
    #endif
}
