@_spi(CustomByteBufferAllocator) package import NIOCore
private import Synchronization

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Files as the storage of buffers, which unmap them when the last of them goes.
package enum MappedMemory {
    /// So many bytes of the file, from the offset on, not copied. Whoever writes to them writes to a copy.
    ///
    /// The file must be a memory file and must not shrink; the descriptor may be closed.
    ///
    /// - Throws: ``WireError`` when the file is shorter, or the system has no more mappings to give.
    package static func buffer(of file: Int32, at offset: Int = 0, length: Int) throws(WireError) -> ByteBuffer {
        let start = offset % Int(getpagesize())
        var status = stat()
        // Reading behind the file's end would be the end of us.
        guard length > 0, length <= Int(UInt32.max), offset >= 0, fstat(file, &status) == 0,
            case (let end, false) = offset.addingReportingOverflow(length), Int(status.st_size) >= end
        else { throw WireError("shared memory has no \(length) bytes at \(offset)") }
        let address = mmap(nil, start + length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, off_t(offset - start))
        guard let address, address != MAP_FAILED else {
            throw WireError("\(length) bytes of shared memory cannot be mapped: \(String(cString: strerror(errno)))")
        }
        Self.sizes.withLock { $0[UInt(bitPattern: address)] = start + length }
        return ByteBuffer(
            takingOwnershipOf: UnsafeMutableRawBufferPointer(start: address, count: start + length), allocator: Self.allocator,
            readerIndex: start)
    }

    /// What is mapped, by its address: a deallocator is told no length.
    private static let sizes = Mutex<[UInt: Int]>([:])

    /// A buffer that grows moves to ordinary memory.
    private static let allocator = ByteBufferAllocator(
        allocate: { malloc($0) },
        reallocate: { old, oldSize, newSize in
            let new = malloc(newSize)
            if let old, let new {
                memcpy(new, old, min(oldSize, newSize))
                MappedMemory.release(old)
            }
            return new
        },
        deallocate: { MappedMemory.release($0) },
        copy: { $0.copyMemory(from: $1, byteCount: $2) })

    private static func release(_ address: UnsafeMutableRawPointer) {
        if let size = Self.sizes.withLock({ $0.removeValue(forKey: UInt(bitPattern: address)) }) {
            munmap(address, size)
        } else {
            free(address)
        }
    }
}
