import CFunctionSection
import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

extension FuzzTarget {
    /// The file of a library or an executable: its section of conformances, by which remote functions are found, is looked for,
    /// and the hash of its build is read.
    static let libraryFiles = FuzzTarget(
        "library-files", of: ["CFunctionSection"], longestInput: 600, seeds: [exampleLibrary],
        words: ["\u{7f}ELF\u{2}\u{1}", "swift5_protocol_conformances", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}"]
    ) { input in
        try withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 16) { hash in
            try fenced(input) { bytes in
                var (address, size): (UInt64, UInt64) = (0, 0)
                _ = apus_find_function_section(bytes, input.readableBytes, &address, &size)
                let count = apus_hash_image(bytes, input.readableBytes, hash.baseAddress!, hash.count)
                try require(count == 0 || count == 16, "a hash is whole or none")
            }
        }
    }
}

/// Lends the bytes so that they end where memory ends, within an alignment of 16: C code that reads beyond them stops the program.
private func fenced(_ input: ByteBuffer, _ body: (UnsafePointer<UInt8>) throws -> Void) rethrows {
    let end = fence.advanced(by: fenceSize)
    let start = end - (input.readableBytes + 15) / 16 * 16
    input.withUnsafeReadableBytes { start.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(end), byteCount: $0.count) }
    try body(UnsafePointer(start.assumingMemoryBound(to: UInt8.self)))
}

private let fenceSize = 1 << 16

/// Memory behind which nothing may be read.
nonisolated(unsafe) private let fence: UnsafeMutableRawPointer = {
    let memory = mmap(nil, fenceSize + 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)!
    precondition(memory != MAP_FAILED && mprotect(memory + fenceSize, 1 << 16, PROT_NONE) == 0, "there is no memory")
    return memory
}()

/// The smallest ELF file with a section of our name: a header, one segment, three sections, their names.
private let exampleLibrary: ByteBuffer = {
    var file = ByteBuffer(bytes: Array("\u{7f}ELF".utf8) + [2, 1, 1] + Array(repeating: 0, count: 9))
    func write(_ values: any FixedWidthInteger...) {
        for value in values {
            switch value {
            case let value as UInt16: file.writeInteger(value, endianness: .little)
            case let value as UInt32: file.writeInteger(value, endianness: .little)
            case let value as UInt64: file.writeInteger(value, endianness: .little)
            default: preconditionFailure("\(type(of: value)) has no place in the file")
            }
        }
    }
    let names = "\0swift5_protocol_conformances\0.shstrtab\0"
    // Behind the header come one segment of 56 bytes, three sections of 64, and the names.
    write(UInt16(3), UInt16(62), UInt32(1), UInt64(0), UInt64(64), UInt64(120), UInt32(0))
    write(UInt16(64), UInt16(56), UInt16(1), UInt16(64), UInt16(3), UInt16(2))
    write(UInt32(1), UInt32(5), UInt64(0), UInt64(0), UInt64(0), UInt64(312), UInt64(312), UInt64(4096))
    for _ in 0..<8 { write(UInt64(0)) }
    write(UInt32(1), UInt32(1), UInt64(2), UInt64(0x1000), UInt64(312), UInt64(32), UInt32(0), UInt32(0), UInt64(8), UInt64(0))
    write(
        UInt32(30), UInt32(3), UInt64(0), UInt64(0), UInt64(312), UInt64(names.utf8.count), UInt32(0), UInt32(0), UInt64(1),
        UInt64(0))
    file.writeString(names)
    return file
}()
