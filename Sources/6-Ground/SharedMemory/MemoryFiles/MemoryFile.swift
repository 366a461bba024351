private import CSharedMemory
package import NIOCore
private import Locks

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Collects bytes as they arrive, and gives them in one piece.
///
/// A buffer that grows to a hundred megabytes costs more for its fresh memory, a page fault and zeroes for each 4 KiB, than for
/// the bytes put there. Pages that a write to a file in memory makes need neither. Linux only.
package final class MemoryFile: Sendable {
    private struct State {
        var file: Int32
        var count = 0
    }

    private let state: Mutex<State>
    /// A random text; the file's name is `apus-` and this text.
    private let token: String

    /// Nil when the system has no such files, or no descriptor.
    package init?() {
        self.token = String(UInt64.random(in: 0 ... .max), radix: 16)
        let file = apus_memory_create("apus-\(self.token)", nil, 0, false)
        guard file >= 0 else { return nil }
        self.state = Mutex(State(file: file))
    }

    deinit { self.state.withLock { if $0.file >= 0 { close($0.file) } } }

    /// Bytes so far.
    package var count: Int { self.state.withLock { $0.count } }

    /// Adds bytes at the end. False when there is no memory for them; earlier bytes are kept.
    package func append(_ bytes: ByteBuffer) -> Bool {
        self.state.withLock { state in
            let isWritten = bytes.withUnsafeReadableBytes { bytes in
                bytes.baseAddress.map { apus_memory_append(state.file, $0, bytes.count) } ?? true
            }
            if isWritten { state.count += bytes.readableBytes }
            return isWritten
        }
    }

    /// All bytes, not copied unless the system has no mapping to give. Nothing can be added from then on.
    package func finish() -> ByteBuffer {
        self.state.withLock { state in
            defer { state.file = -1 }
            let keeps = MappedMemory.mayKeepFile
            if let bytes = try? MappedMemory.buffer(
                of: state.file, at: 0, length: state.count,
                keeping: keeps ? .init(descriptor: state.file, token: self.token) : nil)
            {
                if !keeps { close(state.file) }
                return bytes
            }
            defer { close(state.file) }
            return Self.copy(state)
        }
    }

    /// All bytes so far, in ordinary memory.
    package func copy() -> ByteBuffer { self.state.withLock { Self.copy($0) } }

    private static func copy(_ state: State) -> ByteBuffer {
        var bytes = ByteBufferAllocator().buffer(capacity: state.count)
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: state.count) { space in
            var done = 0
            while done < state.count {
                let count = pread(state.file, space.baseAddress! + done, state.count - done, off_t(done))
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { break }
                done += count
            }
            return done
        }
        return bytes
    }
}
