@_spi(CustomByteBufferAllocator) package import NIOCore
private import Locks

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Maps memory files as the storage of buffers; a file is unmapped when the last buffer over it is freed.
package enum MappedMemory {
    /// Maps `length` bytes of the file, from the offset on, without a copy. A write to the buffer does not change the file.
    ///
    /// The file must be a memory file and must not shrink; the descriptor may be closed.
    ///
    /// - Throws: ``MemoryError`` when the file is shorter, or the system has no more mappings to give.
    package static func buffer(of file: Int32, at offset: Int = 0, length: Int) throws(MemoryError) -> ByteBuffer {
        try self.buffer(of: file, at: offset, length: length, keeping: nil)
    }

    /// The file of a mapping, open as long as that is.
    package struct KeptFile: Sendable {
        package let descriptor: Int32
        /// A random text; the file's name is `apus-` and this text.
        package let token: String
    }

    /// - Parameter kept: A file that is closed with the mapping.
    static func buffer(of file: Int32, at offset: Int, length: Int, keeping kept: KeptFile?) throws(MemoryError) -> ByteBuffer {
        let start = offset % Int(getpagesize())
        var status = stat()
        // Reading behind the file's end would kill the process with SIGBUS.
        guard length > 0, length <= Int(UInt32.max) - start, offset >= 0, fstat(file, &status) == 0,
            case (let end, false) = offset.addingReportingOverflow(length), Int(status.st_size) >= end
        else { throw MemoryError("shared memory has no \(length) bytes at \(offset)") }
        let address = mmap(nil, start + length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, off_t(offset - start))
        guard let address, address != MAP_FAILED else {
            throw MemoryError("\(length) bytes of shared memory cannot be mapped: \(String(cString: strerror(errno)))")
        }
        Self.mappings.withLock { mappings in
            mappings.sizes[UInt(bitPattern: address)] = start + length
            if let kept { mappings.files[UInt(bitPattern: address)] = kept }
        }
        return ByteBuffer(
            takingOwnershipOf: UnsafeMutableRawBufferPointer(start: address, count: start + length), allocator: Self.allocator,
            readerIndex: start)
    }

    /// The memory file that these bytes, and no others, were collected in (``MemoryFile``), if it is still open here.
    ///
    /// Another process that maps the file and writes to it changes the bytes, so only an owner who needs them no more may share
    /// it.
    package static func file(of bytes: ByteBuffer) -> KeptFile? {
        bytes.withUnsafeReadableBytes { bytes in
            bytes.baseAddress.flatMap { address in
                self.mappings.withLock { mappings in
                    mappings.sizes[UInt(bitPattern: address)] == bytes.count ? mappings.files[UInt(bitPattern: address)] : nil
                }
            }
        }
    }

    /// Whether a further mapping may keep its descriptor open: a process has few descriptors.
    static var mayKeepFile: Bool { self.mappings.withLock { $0.files.count < 64 } }

    private struct Mappings {
        /// Bytes by address: a deallocator is told no length.
        var sizes: [UInt: Int] = [:]
        var files: [UInt: KeptFile] = [:]
    }

    private static let mappings = Mutex(Mappings())

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
        let (size, file) = Self.mappings.withLock { mappings in
            (
                mappings.sizes.removeValue(forKey: UInt(bitPattern: address)),
                mappings.files.removeValue(forKey: UInt(bitPattern: address))
            )
        }
        if let file { close(file.descriptor) }
        if let size { munmap(address, size) } else { free(address) }
    }
}

/// Why memory cannot be had.
package struct MemoryError: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
