private import CSharedMemory
private import Foundation
@_spi(CustomByteBufferAllocator) package import NIOCore
private import Synchronization

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Bytes that processes of one machine have in common: written once, then mapped by whoever is told where they are.
///
/// Most of what it costs to move an array between two processes is the memory for the copy, not the copying. Here all receivers
/// have the sender's pages. The memory lives until the last of them lets go of it; the object only keeps it findable, so whoever
/// sends a ``Reference`` holds the object until the receivers have answered.
///
/// Linux only (`memfd_create`). The memory is sealed before anybody hears of it: it cannot change or shrink under a receiver.
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

    /// What has memory in common: the boot of a machine, a process namespace and a user. Nil where nothing has.
    ///
    /// `APUS_SHARED_MEMORY=off` in a process's environment makes it share nothing.
    package static let place: String? = findPlace()

    /// Copies the bytes to new memory. Nil when there is none, or no descriptor, to be had.
    package init?(copying bytes: ByteBuffer) {
        let token = String(UInt64.random(in: 0 ... .max), radix: 16)
        let file = bytes.withUnsafeReadableBytes { bytes in
            bytes.baseAddress.map { apus_memory_create(Self.name(token), $0, bytes.count) } ?? -1
        }
        guard file >= 0 else { return nil }
        self.reference = Reference(process: Int(getpid()), descriptor: Int(file), token: token, size: bytes.readableBytes)
    }

    deinit { close(Int32(self.reference.descriptor)) }

    /// The bytes, not copied.
    ///
    /// - Throws: ``WireError`` when they are not there any more, or are not what the reference says.
    package static func map(_ reference: Reference) throws(WireError) -> ByteBuffer {
        guard reference.size > 0, reference.size <= Int(UInt32.max) else {
            throw WireError("shared memory of \(reference.size) bytes cannot be")
        }
        let path = "/proc/\(reference.process)/fd/\(reference.descriptor)"
        // Looked at before it is opened: to open a pipe or a device may do something.
        guard Self.target(of: path) == "/memfd:\(Self.name(reference.token)) (deleted)" else {
            throw WireError("process \(reference.process) does not share this memory any more; send the value again")
        }
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            throw WireError(
                "the memory that process \(reference.process) shares cannot be opened: \(String(cString: strerror(errno))). "
                    + "APUS_SHARED_MEMORY=off in the client's environment makes it send everything by the network")
        }
        defer { close(file) }
        guard apus_memory_is_sealed(file, reference.size) else {
            throw WireError("the memory that process \(reference.process) shares is not what it said")
        }
        // Private, so that whoever gets the bytes may write to them without others noticing.
        guard let address = mmap(nil, reference.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0), address != MAP_FAILED
        else { throw WireError("\(reference.size) bytes of shared memory cannot be mapped: \(String(cString: strerror(errno)))") }
        Mappings.add(address, reference.size)
        return ByteBuffer(
            takingOwnershipOf: UnsafeMutableRawBufferPointer(start: address, count: reference.size),
            allocator: Mappings.allocator)
    }

    private static func name(_ token: String) -> String { "apus-\(token)" }

    private static func target(of link: String) -> String? { try? FileManager.default.destinationOfSymbolicLink(atPath: link) }

    private static func findPlace() -> String? {
        guard ProcessInfo.processInfo.environment["APUS_SHARED_MEMORY"] != "off",
            let boot = try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8),
            let processes = Self.target(of: "/proc/self/ns/pid"),
            // Whether one can be made, and found again.
            let probe = SharedMemory(copying: ByteBuffer(string: "apus")), (try? Self.map(probe.reference)) != nil
        else { return nil }
        return "\(boot.prefix(36))/\(processes)/\(geteuid())"
    }
}

/// Mapped memory as a buffer's storage.
private enum Mappings {
    /// Bytes by address: a buffer gives back the address alone.
    private static let sizes = Mutex<[UInt: Int]>([:])

    static let allocator = ByteBufferAllocator(
        allocate: { Mappings.allocate($0) },
        reallocate: { old, oldSize, newSize in
            let new = Mappings.allocate(newSize)
            if let old, let new {
                new.copyMemory(from: old, byteCount: min(oldSize, newSize))
                Mappings.free(old)
            }
            return new
        },
        deallocate: { Mappings.free($0) },
        copy: { $0.copyMemory(from: $1, byteCount: $2) })

    static func add(_ address: UnsafeMutableRawPointer, _ size: Int) {
        self.sizes.withLock { $0[UInt(bitPattern: address)] = size }
    }

    private static func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
        guard let address = mmap(nil, max(size, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            address != MAP_FAILED
        else { return nil }
        self.add(address, max(size, 1))
        return address
    }

    private static func free(_ address: UnsafeMutableRawPointer) {
        guard let size = self.sizes.withLock({ $0.removeValue(forKey: UInt(bitPattern: address)) }) else { return }
        munmap(address, size)
    }
}
