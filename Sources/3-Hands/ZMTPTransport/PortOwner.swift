import Foundation

/// Finds the process that listens on a port, so that an error can name it.
enum PortOwner {
    /// The process, such as "process 812 (apus controller)"; nil where the system does not tell, as for
    /// processes of other users and outside Linux.
    static func description(ofPort port: Int) -> String? {
        #if os(Linux)
            let sockets = Self.listeningSockets(port)
            guard !sockets.isEmpty, let processes = try? FileManager.default.contentsOfDirectory(atPath: "/proc") else {
                return nil
            }
            for process in processes where Int(process) != nil {
                let folder = "/proc/\(process)/fd"
                guard let descriptors = try? FileManager.default.contentsOfDirectory(atPath: folder) else { continue }
                let isOwner = descriptors.contains { descriptor in
                    (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\(descriptor)")).map(sockets.contains)
                        ?? false
                }
                if isOwner { return "process \(process)\(Self.command(process).map { " (\($0))" } ?? "")" }
            }
        #endif
        return nil
    }

    #if os(Linux)
        /// The sockets that listen on the port, as a process's table of open files names them.
        private static func listeningSockets(_ port: Int) -> Set<String> {
            var found: Set<String> = []
            for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
                for line in Self.read(table).split(separator: "\n").dropFirst() {
                    // Fields 2 (address and port, in hexadecimal digits), 4 (state, 0A for listening) and 10 (inode).
                    let fields = line.split(separator: " ")
                    guard fields.count > 9, fields[3] == "0A", let digits = fields[1].split(separator: ":").last,
                        Int(digits, radix: 16) == port
                    else { continue }
                    found.insert("socket:[\(fields[9])]")
                }
            }
            return found
        }

        /// The program and its subcommand. Further arguments may hold a key.
        private static func command(_ process: String) -> String? {
            let words = Self.read("/proc/\(process)/cmdline").split(separator: "\0")
            guard let program = words.first?.split(separator: "/").last else { return nil }
            let rest = words.dropFirst().prefix(1).filter { !$0.hasPrefix("-") }
            return ([program] + rest).joined(separator: " ")
        }

        private static func read(_ path: String) -> String {
            // Such files have no size that could be asked for, so they are read to their end.
            guard let file = FileHandle(forReadingAtPath: path) else { return "" }
            defer { try? file.close() }
            return String(decoding: (try? file.readToEnd()) ?? Data(), as: UTF8.self)
        }
    #endif
}
