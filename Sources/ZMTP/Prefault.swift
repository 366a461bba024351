import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

extension ByteBuffer {
    /// Has the system provide the memory behind the next bytes to be written, at most so many and never more than there is room for.
    ///
    /// Fresh memory costs a page fault for every 4 KiB that is touched, which is more than it costs to fill it; asked for in one
    /// piece it costs a third less. A hint: where the system knows it not (Linux before 5.14), the faults come as ever.
    mutating func prefault(_ count: Int) {
        #if os(Linux)
            self.withUnsafeMutableWritableBytes { bytes in
                guard let base = bytes.baseAddress else { return }
                let pageSize = 4096
                let start = UInt(bitPattern: base) / UInt(pageSize) * UInt(pageSize)
                let end = (UInt(bitPattern: base) + UInt(min(count, bytes.count))) / UInt(pageSize) * UInt(pageSize)
                guard end > start, let first = UnsafeMutableRawPointer(bitPattern: start) else { return }
                let populateForWriting: Int32 = 23  // MADV_POPULATE_WRITE of madvise(2).
                _ = madvise(first, Int(end - start), populateForWriting)
            }
        #endif
    }
}
