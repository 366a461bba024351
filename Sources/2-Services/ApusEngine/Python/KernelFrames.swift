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
    /// Larger parts are written by themselves and not copied into the buffer.
    private static let copyLimit = 1 << 16
    /// The bit of a length that says that the part is lent; in the part's place stands its offset in its file.
    static let lent = UInt64(1) << 63
    /// At most this many parts of a frame are lent.
    private static let loans = 32
    /// The buffer is written once it is longer than this, because it may have no room for all of a frame of many small parts.
    private static let pieceLimit = 1 << 20

    /// Writes a frame, and blocks while the socket is full. False when the other end is gone.
    ///
    /// - Parameter lender: The socket that large parts are lent over; nil to send them as they are.
    static func write(_ parts: [ByteBuffer], to socket: Int32, lender: Int32? = nil) -> Bool {
        var lent: Set<Int> = []
        if let lender {
            let large = parts.indices.lazy.filter { parts[$0].readableBytes >= KernelMemory.threshold }
            for index in large.prefix(Self.loans) where KernelMemory.lend(parts[index], over: lender) { lent.insert(index) }
        }
        let copied = parts.reduce(0) { $0 + min($1.readableBytes, Self.copyLimit) }
        var pending = ByteBufferAllocator().buffer(capacity: 4 + 8 * parts.count + min(copied, Self.pieceLimit + Self.copyLimit))
        pending.writeInteger(UInt32(parts.count), endianness: .little)
        for (index, part) in parts.enumerated() {
            pending.writeInteger(UInt64(part.readableBytes) | (lent.contains(index) ? Self.lent : 0), endianness: .little)
        }
        for (index, part) in parts.enumerated() {
            if lent.contains(index) {
                pending.writeInteger(UInt64(0))
            } else if part.readableBytes <= Self.copyLimit {
                pending.writeImmutableBuffer(part)
                guard pending.readableBytes > Self.pieceLimit else { continue }
                guard self.send(pending, to: socket) else { return false }
                pending.clear()
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
                if count < 0 && errno == EAGAIN {
                    self.waitUntilWritable(socket)
                    continue
                }
                guard count > 0 else { return false }
                sent += count
            }
            return true
        }
    }

    /// Waits until the socket has room. Writing to the socket does not block, because an event loop reads from it.
    private static func waitUntilWritable(_ socket: Int32) {
        var waiting = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
        while poll(&waiting, 1, -1) < 0 && errno == EINTR {}
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
