/// Bytes from a peer, or from a file, that are not what the protocol says.
///
/// Answered where the protocol has an answer, else counted, logged with the peer's name and dropped. Never fatal.
package struct WireError: Error, Hashable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
