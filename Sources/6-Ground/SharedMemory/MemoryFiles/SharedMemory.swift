private import CSharedMemory
private import Foundation
package import NIOCore

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Bytes that processes of one machine share: written once, then mapped by each process that gets their reference.
///
/// Most of the cost of moving an array between two processes is the memory for the copy, not the copying. Here all receivers
/// have the sender's pages. The memory lives until the last of them unmaps it; the object only keeps it findable, so the
/// sender of a ``Reference`` must hold the object until the receivers have answered.
///
/// Linux only (`memfd_create`). The memory is sealed before its reference is sent: it cannot change or shrink under a receiver.
package final class SharedMemory: Sendable {
    /// Where the bytes are, for another process.
    package struct Reference: Sendable, Hashable {
        package let process: Int
        package let descriptor: Int
        /// Random, so that another file under the same numbers is not taken for this one.
        package let token: String
        /// Bytes.
        package let size: Int

        package init(process: Int, descriptor: Int, token: String, size: Int) {
            self.process = process
            self.descriptor = descriptor
            self.token = token
            self.size = size
        }
    }

    package let reference: Reference
    /// The bytes whose mapping keeps the file open; nil if this object does.
    private let owner: ByteBuffer?

    /// Processes with equal places can map each other's memory: those of one user, one process namespace and one boot of a machine.
    /// Nil where nothing can be shared. ``disablingVariable`` set to "off" makes a process share nothing.
    package static let place: String? = findPlace()

    /// The environment variable that makes a process share nothing.
    package static let disablingVariable = "APUS_SHARED_MEMORY"

    /// Copies the bytes to new shared memory. Nil when the system has no memory or no descriptor for it.
    package init?(copying bytes: ByteBuffer) {
        let token = String(UInt64.random(in: 0 ... .max), radix: 16)
        let file = bytes.withUnsafeReadableBytes { bytes in
            bytes.baseAddress.map { apus_memory_create(Self.name(token), $0, bytes.count, true) } ?? -1
        }
        guard file >= 0 else { return nil }
        self.reference = Reference(process: Int(getpid()), descriptor: Int(file), token: token, size: bytes.readableBytes)
        self.owner = nil
    }

    /// Shares the memory file in which the bytes were collected as they came from the network (`MemoryFile`), and seals it. Nil
    /// for bytes that were not collected in one, or if the file is no longer open.
    package init?(of bytes: ByteBuffer) {
        guard let file = MappedMemory.file(of: bytes), apus_memory_seal(file.descriptor) else { return nil }
        self.reference = Reference(
            process: Int(getpid()), descriptor: Int(file.descriptor), token: file.token, size: bytes.readableBytes)
        self.owner = bytes
    }

    deinit { if self.owner == nil { close(Int32(self.reference.descriptor)) } }

    /// The bytes, not copied.
    ///
    /// - Throws: ``MemoryError`` when the memory is gone, or does not match the reference.
    package static func map(_ reference: Reference) throws(MemoryError) -> ByteBuffer {
        guard reference.size > 0, reference.size <= Int(UInt32.max) else {
            throw MemoryError("shared memory of \(reference.size) bytes cannot be")
        }
        let path = "/proc/\(reference.process)/fd/\(reference.descriptor)"
        // Looked at before it is opened: to open a pipe or a device may do something.
        guard Self.target(of: path) == "/memfd:\(Self.name(reference.token)) (deleted)" else {
            throw MemoryError("process \(reference.process) does not share this memory any more; send the value again")
        }
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            throw MemoryError(
                "the memory that process \(reference.process) shares cannot be opened: \(String(cString: strerror(errno))). "
                    + "\(Self.disablingVariable)=off in the client's environment makes it send everything by the network")
        }
        defer { close(file) }
        guard apus_memory_is_sealed(file, reference.size) else {
            throw MemoryError("the memory that process \(reference.process) shares is not what it said")
        }
        return try MappedMemory.buffer(of: file, length: reference.size)
    }

    private static func name(_ token: String) -> String { "apus-\(token)" }

    private static func target(of link: String) -> String? { try? FileManager.default.destinationOfSymbolicLink(atPath: link) }

    private static func findPlace() -> String? {
        guard ProcessInfo.processInfo.environment[Self.disablingVariable] != "off",
            let boot = try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8),
            let processes = Self.target(of: "/proc/self/ns/pid"),
            // Tests whether shared memory can be made, and found again.
            let probe = SharedMemory(copying: ByteBuffer(string: "apus")), (try? Self.map(probe.reference)) != nil
        else { return nil }
        return "\(boot.prefix(36))/\(processes)/\(geteuid())"
    }
}
