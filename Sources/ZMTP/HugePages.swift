import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

extension ByteBuffer {
    /// Asks the system for huge pages under a large buffer's free space: a hundred megabytes that are written once are twenty-five
    /// thousand page faults otherwise, which cost more than the bytes. A hint, without effect where the system has none.
    mutating func preferHugePages() {
        #if os(Linux)
            let pageSize = 4096
            guard self.writableBytes >= 1 << 20 else { return }
            self.withUnsafeMutableWritableBytes { space in
                guard let base = space.baseAddress else { return }
                let start = Int(bitPattern: base)
                let aligned = (start + pageSize - 1) / pageSize * pageSize
                let length = (start + space.count - aligned) / pageSize * pageSize
                _ = madvise(UnsafeMutableRawPointer(bitPattern: aligned), length, MADV_HUGEPAGE)
            }
        #endif
    }
}
