import NIOCore

/// A message's buffers as rows of the file: their number and sizes, then their bytes, cut where a row would grow too large.
///
/// The row's key is made of the task's serial, a bit for the reply, and the row's place, so that a task's rows are neighbours
/// and need no index.
enum Payload {
    private static let partBits: Int64 = 10
    /// Bytes of a row; SQLite allows a thousand million.
    private static let partSize = 256 << 20

    static func keys(task: Int64, isReply: Bool) -> ClosedRange<Int64> {
        let first = (task << 1 | (isReply ? 1 : 0)) << Self.partBits
        return first...(first | (1 << Self.partBits - 1))
    }

    /// All rows of a task.
    static func keys(task: Int64) -> ClosedRange<Int64> {
        Self.keys(task: task, isReply: false).lowerBound...Self.keys(task: task, isReply: true).upperBound
    }

    /// The rows that hold these buffers; none for no buffers.
    static func rows(_ buffers: some Collection<ByteBuffer>) -> [ByteBuffer] {
        if buffers.isEmpty { return [] }
        var bytes = ByteBufferAllocator().buffer(
            capacity: buffers.reduce(8 + 8 * buffers.count) { $0 + $1.readableBytes })
        bytes.writeInteger(UInt64(buffers.count))
        for buffer in buffers { bytes.writeInteger(UInt64(buffer.readableBytes)) }
        for buffer in buffers { bytes.writeImmutableBuffer(buffer) }
        var rows: [ByteBuffer] = []
        while let part = bytes.readSlice(length: min(bytes.readableBytes, Self.partSize)), part.readableBytes > 0 {
            rows.append(part)
        }
        return rows
    }

    /// The buffers in the joined rows; nil when the rows were not made by ``rows(_:)``.
    static func buffers(_ rows: ByteBuffer) -> [ByteBuffer]? {
        var bytes = rows
        guard let count = bytes.readInteger(as: UInt64.self), count <= bytes.readableBytes / 8 else { return nil }
        let sizes = (0..<count).compactMap { _ in bytes.readInteger(as: UInt64.self) }
        var buffers: [ByteBuffer] = []
        for size in sizes {
            guard size <= bytes.readableBytes, let buffer = bytes.readSlice(length: Int(size)) else { return nil }
            buffers.append(buffer)
        }
        return buffers
    }
}
