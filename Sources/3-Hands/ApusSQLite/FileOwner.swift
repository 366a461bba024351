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
/// SQLite lets several programs write one file, so two controllers would mix their tasks in it. The claim is a lock of the system
/// on a file beside the records, `<path>-owner`, which also holds the owner's process id for the error of a refused process. The
/// system drops the lock when the process ends in any way, so the file of a dead process claims nothing.
final class FileOwner: Sendable {
    private let descriptor: Int32

    /// Claims the file.
    ///
    /// - Throws: ``TaskStoreError`` with the id of the process that has the file, or why the claim cannot be made.
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
        // On a full disk the file stays without the process id; the lock holds all the same.
        if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, text, text.count, 0) }
        self.descriptor = descriptor
    }

    /// The process id that the owner wrote; nil if the file has none.
    private static func text(of descriptor: Int32) -> Int? {
        var bytes = Array(repeating: UInt8(0), count: 32)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        return Int(String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
    }

    // The file is not removed: otherwise a third process could lock a new file while a second still locks the old one.
    deinit { close(self.descriptor) }
}
