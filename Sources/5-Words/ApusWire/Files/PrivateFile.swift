private import Foundation

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Files that hold a key: for their owner only, and never seen half-written.
package enum PrivateFile {
    /// Writes the text under a temporary name, mode 0600, and renames it, so that a reader finds the old file, the new, or none.
    package static func write(_ text: String, to path: String) throws(WireError) {
        let temporary = path + ".\(getpid()).\(UInt32.random(in: 0 ..< .max)).tmp"
        let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw WireError("\(path) cannot be written: \(Self.reason(errno))") }
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { unistdWrite(file, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                let reason = Self.reason(errno)
                close(file)
                unlink(temporary)
                throw WireError("\(path) cannot be written: \(reason)")
            }
            rest = rest.dropFirst(count)
        }
        close(file)
        guard rename(temporary, path) == 0 else {
            let reason = Self.reason(errno)
            unlink(temporary)
            throw WireError("\(path) cannot be written: \(reason)")
        }
    }

    package static func read(_ path: String) throws(WireError) -> String {
        // A connection file is a screenful; a larger file is something else.
        let limit = 4 << 20
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw WireError("\(path) cannot be read: \(Self.reason(errno))")
        }
        defer { try? handle.close() }
        let data: Data
        do { data = try handle.read(upToCount: limit + 1) ?? Data() } catch {
            throw WireError("\(path) cannot be read: \(error)")
        }
        guard data.count <= limit else { throw WireError("\(path) is larger than \(limit >> 20) MB: no connection file") }
        guard let text = String(data: data, encoding: .utf8) else { throw WireError("\(path) is no text") }
        return text
    }

    /// Reads a JSON object; the error names the file and what is wrong in it.
    package static func readJSON(_ path: String) throws(WireError) -> JSONValue {
        let text = try Self.read(path)
        let json: JSONValue
        do { json = try JSONValue(parsing: text) } catch {
            throw WireError("\(path) is torn or no JSON: \(error)")
        }
        guard json.object != nil else { throw WireError("\(path) holds no JSON object") }
        return json
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package static func remove(_ path: String) { unlink(path) }

    private static func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
}

/// POSIX `write`, under a name that does not collide with ``PrivateFile/write(_:to:)``.
private func unistdWrite(_ file: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(file, bytes, count) }
