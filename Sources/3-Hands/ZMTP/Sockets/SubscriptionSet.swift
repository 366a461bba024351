import NIOCore

/// The topic prefixes one peer wants to receive.
struct SubscriptionSet: Sendable {
    /// The most bytes that a peer's subscriptions may take.
    static let maximumSize = 1024 * 1024
    /// The bytes counted for a prefix besides its own.
    private static let overhead = 64

    private(set) var prefixes: Set<ByteBuffer> = []
    /// The lengths that occur among the prefixes, shortest first, and how often each does.
    private var lengths: [(length: Int, count: Int)] = []
    private(set) var size = 0

    /// Adds a prefix.
    ///
    /// - Returns: Whether it is new.
    mutating func insert(_ prefix: ByteBuffer) -> Bool {
        guard !self.prefixes.contains(prefix) else { return false }
        let length = prefix.readableBytes
        // A copy, because a slice would keep in memory all bytes that were read together with it.
        self.prefixes.insert(ByteBuffer(bytes: prefix.readableBytesView))
        self.size += length + Self.overhead
        if let index = self.lengths.firstIndex(where: { $0.length >= length }) {
            if self.lengths[index].length == length {
                self.lengths[index].count += 1
            } else {
                self.lengths.insert((length, 1), at: index)
            }
        } else {
            self.lengths.append((length, 1))
        }
        return true
    }

    /// Removes a prefix.
    ///
    /// - Returns: Whether it was there.
    mutating func remove(_ prefix: ByteBuffer) -> Bool {
        guard self.prefixes.remove(prefix) != nil else { return false }
        let length = prefix.readableBytes
        self.size -= length + Self.overhead
        let index = self.lengths.firstIndex { $0.length == length }!
        self.lengths[index].count -= 1
        if self.lengths[index].count == 0 { self.lengths.remove(at: index) }
        return true
    }

    /// Whether a message with this first frame is wanted.
    func matches(_ topic: ByteBuffer) -> Bool {
        for (length, _) in self.lengths {
            if length == 0 { return true }
            guard let start = topic.getSlice(at: topic.readerIndex, length: length) else { return false }
            if self.prefixes.contains(start) { return true }
        }
        return false
    }
}
