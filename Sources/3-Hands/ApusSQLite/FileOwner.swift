import ApusStore
import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The claim of one process to a file of task records, which no other controller may write meanwhile.
///
/// SQLite lets several programs write one file, so two controllers would mix their tasks in it. The claim is a lock of the system on a file
/// beside the records, `<path>-owner`, which also holds the process's id for the one that is refused. The system drops the lock with the
/// process, however that ends, so a file that a dead process has left claims nothing.
final class FileOwner: Sendable {
    private let descriptor: Int32

    /// Claims the file.
    ///
    /// - Throws: ``TaskStoreError`` that names the process which has the file, or says why the claim cannot be made.
    init(of path: String) throws(TaskStoreError) {
        let lock = path + "-owner"
        let descriptor = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw TaskFile.error("\(lock) cannot be made: \(String(cString: strerror(errno)))") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let reason = errno
            let owner = Self.text(of: descriptor)
            close(descriptor)
            guard reason == EWOULDBLOCK else {
                throw TaskFile.error("\(lock) cannot be locked: \(String(cString: strerror(reason)))")
            }
            throw TaskFile.error(
                "\(path) belongs to a controller that runs\(owner.map { ", process \($0)" } ?? ""). Stop that one, or name another file"
            )
        }
        let text = Array("\(getpid())\n".utf8)
        // A disk that is full leaves the lock without the process's id, and it is as good a lock.
        if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, text, text.count, 0) }
        self.descriptor = descriptor
    }

    /// The process's id as its owner wrote it; nil if there is none.
    private static func text(of descriptor: Int32) -> Int? {
        var bytes = Array(repeating: UInt8(0), count: 32)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        return Int(String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
    }

    // The file stays: were it removed, a third process could lock a new one while a second still holds the old.
    deinit { close(self.descriptor) }
}
