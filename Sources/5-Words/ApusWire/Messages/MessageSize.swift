private import FoundationEssentials

/// The default limits on the size of a message.
package enum MessageSize {
    /// The limit, in bytes, for a sender that has shown that it has the cluster's key: from the environment, else half of the
    /// memory that the machine, or the control group of this process, has.
    package static let standard: Int = {
        if let text = ProcessInfo.processInfo.environment[EnvironmentVariable.maximumMessageSize], let bytes = Int(text),
            bytes > 0
        {
            return bytes
        }
        return Self.memory / 2
    }()

    /// The limit, in bytes, for a peer that has not shown yet that it has the key.
    package static let strangers = 16 << 20

    /// Bytes that may wait for a client that does not read, before its connection is cut: a quarter of the memory.
    package static let unread = Self.memory / 4

    /// Bytes of memory that this process may use; at least 1 GiB is assumed.
    static let memory: Int = {
        let machine = Int(clamping: ProcessInfo.processInfo.physicalMemory)
        // The limit of an unlimited group reads "max", which is no number.
        let group = (try? String(contentsOfFile: "/sys/fs/cgroup/memory.max", encoding: .utf8))
            .flatMap { Int($0.filter { !$0.isWhitespace }) }
        return max(1 << 30, min(machine, group ?? machine))
    }()

    /// The text of the error that the sender of a too large message gets.
    package static func refusal(limit: Int) -> String {
        "a message is larger than \(limit) bytes, which is all that is taken here (--max-message-size, or the environment variable "
            + "\(EnvironmentVariable.maximumMessageSize))"
    }
}
