import CSharedMemory
import MemoryFiles
import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Passes large parts of frames in memory that the engine's process and its kernel share.
///
/// For a large array, getting fresh memory for a second copy takes longer than copying the bytes. So a large part is a file
/// without a name, and the other side gets a descriptor of the file. The file is gone with its last mapping, whichever process
/// dies.
enum KernelMemory {
    /// Smaller parts are cheaper to copy through the socket.
    static let threshold = 1 << 20

    /// Whether this system has such files.
    static let isAvailable: Bool = {
        let descriptor = Self.makeFile(ByteBuffer(string: "apus"))
        if descriptor >= 0 { close(descriptor) }
        return descriptor >= 0
    }()

    /// Gives the other end of the socket a copy of the part. False when the system refuses; then nothing was sent.
    static func lend(_ part: ByteBuffer, over socket: Int32) -> Bool {
        // A part that came from the network in a file of its own is given to the kernel as it is: nothing here reads it again.
        if let file = MappedMemory.file(of: part) { return apus_send_descriptor(socket, file.descriptor) }
        let descriptor = Self.makeFile(part)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return apus_send_descriptor(socket, descriptor)
    }

    /// Makes a file of the part's bytes. It is not sealed, because it becomes memory that the kernel may write to.
    private static func makeFile(_ part: ByteBuffer) -> Int32 {
        part.withUnsafeReadableBytes { bytes in bytes.baseAddress.map { apus_memory_create("apus", $0, bytes.count, false) } ?? -1
        }
    }

    /// Takes a part that the other end lent: so many bytes of the file, from the offset on.
    static func take(_ length: Int, at offset: Int, from socket: Int32) -> ByteBuffer? {
        let descriptor = apus_receive_descriptor(socket)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return try? MappedMemory.buffer(of: descriptor, at: offset, length: length)
    }
}
