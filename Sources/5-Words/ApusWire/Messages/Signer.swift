private import Crypto
private import FoundationEssentials
package import NIOCore

/// Signs and checks messages with the session key that the connection files carry (protocol article, "Signature").
///
/// Without a key nothing is signed and everything is accepted: only the network then protects the cluster.
package struct Signer: Sendable {
    private enum Keyed: Sendable {
        case none
        case md5(KeyedHash<Insecure.MD5>)
        case sha1(KeyedHash<Insecure.SHA1>)
        case sha256(KeyedHash<SHA256>)
        case sha384(KeyedHash<SHA384>)
        case sha512(KeyedHash<SHA512>)
    }

    private let keyed: Keyed

    package static let unsigned = Signer()
    package static let defaultScheme = "hmac-sha256"

    private init() { self.keyed = .none }

    /// - Throws: ``WireError`` when the scheme is not `hmac-` and the name of a supported digest.
    package init(key: String, scheme: String = Self.defaultScheme) throws(WireError) {
        if key.isEmpty {
            self.keyed = .none
            return
        }
        let key = Array(key.utf8)
        switch scheme {
        case "hmac-sha256": self.keyed = .sha256(KeyedHash(key: key))
        case "hmac-sha384": self.keyed = .sha384(KeyedHash(key: key))
        case "hmac-sha512": self.keyed = .sha512(KeyedHash(key: key))
        case "hmac-sha1": self.keyed = .sha1(KeyedHash(key: key))
        case "hmac-md5": self.keyed = .md5(KeyedHash(key: key))
        default:
            throw WireError(
                "the signature scheme '\(scheme)' is unknown; known are hmac-sha256, hmac-sha384, hmac-sha512, hmac-sha1 and hmac-md5"
            )
        }
    }

    package var signs: Bool { if case .none = self.keyed { false } else { true } }

    /// The signature's hexadecimal text; empty without a key.
    package func signature(of parts: MessageParts) -> ByteBuffer {
        var text = ByteBuffer()
        self.writeSignature(of: parts, into: &text)
        return text
    }

    package func writeSignature(of parts: MessageParts, into text: inout ByteBuffer) {
        self.withCode(of: parts) { code in
            _ = text.writeWithUnsafeMutableBytes(minimumWritableBytes: code.count * 2) { target in
                for index in code.indices {
                    target[2 * index] = Self.digit(code[index] >> 4)
                    target[2 * index + 1] = Self.digit(code[index] & 15)
                }
                return code.count * 2
            }
        }
    }

    /// Whether the text is the parts' signature, compared in a time that does not depend on where they differ.
    package func accepts(_ signature: ByteBuffer, for parts: MessageParts) -> Bool {
        guard self.signs else { return true }
        var isEqual = false
        self.withCode(of: parts) { code in
            signature.withUnsafeReadableBytes { text in
                guard text.count == code.count * 2 else { return }
                var difference: UInt8 = 0
                for index in code.indices {
                    difference |= text[2 * index] ^ Self.digit(code[index] >> 4)
                    difference |= text[2 * index + 1] ^ Self.digit(code[index] & 15)
                }
                isEqual = difference == 0
            }
        }
        return isEqual
    }

    /// The signature of a heart's answer to a ping, which ties the answer to the engine. The signed bytes begin as no message
    /// does, so the signature is valid for no message, and no message's signature for an answer.
    package func heartSignature(of uuid: String, ping: ByteBuffer) -> ByteBuffer {
        self.signature(of: Self.heartParts(uuid, ping))
    }

    /// Whether the frames of a message, as many as have arrived, show that their sender has the key.
    package func accepts(frames: [ByteBuffer]) -> Bool {
        guard let message = try? Message(frames: frames) else { return false }
        return self.accepts(message.signature, for: message.parts)
    }

    /// Whether the text is the engine's signature of its answer to the ping.
    package func accepts(heart signature: ByteBuffer, of uuid: String, ping: ByteBuffer) -> Bool {
        self.accepts(signature, for: Self.heartParts(uuid, ping))
    }

    private static func heartParts(_ uuid: String, _ ping: ByteBuffer) -> MessageParts {
        let empty = ByteBuffer()
        return MessageParts(header: ByteBuffer(string: "heart of \(uuid): "), parent: ping, metadata: empty, content: empty)
    }

    /// The hexadecimal digit of a number below sixteen, without a branch or a table, so that the time does not depend on the
    /// number.
    private static func digit(_ value: UInt8) -> UInt8 {
        // 'a' is 39 above '9' + 1; the shift gives 1 for numbers above nine.
        value &+ 48 &+ ((value &+ 6) >> 4) &* 39
    }

    private func withCode(of parts: MessageParts, _ body: (UnsafeRawBufferPointer) -> Void) {
        switch self.keyed {
        case .none: break
        case .md5(let keyed): keyed.withCode(of: parts, body)
        case .sha1(let keyed): keyed.withCode(of: parts, body)
        case .sha256(let keyed): keyed.withCode(of: parts, body)
        case .sha384(let keyed): keyed.withCode(of: parts, body)
        case .sha512(let keyed): keyed.withCode(of: parts, body)
        }
    }
}

/// HMAC (RFC 2104) over the library's digest, with the key absorbed once: that costs two blocks, as much as a short message.
///
/// The library's own HMAC takes data through generic collections, which for messages of some hundred bytes costs several times
/// the digest itself; the digest takes plain memory.
private struct KeyedHash<Digest: HashFunction & Sendable>: Sendable {
    private let inner: Digest
    private let outer: Digest

    init(key: [UInt8]) {
        var block = key.count > Digest.blockByteCount ? Array(Digest.hash(data: key)) : key
        block.append(contentsOf: repeatElement(0, count: Digest.blockByteCount - block.count))
        self.inner = Self.absorbing(block.map { $0 ^ 0x36 })
        self.outer = Self.absorbing(block.map { $0 ^ 0x5c })
    }

    private static func absorbing(_ block: [UInt8]) -> Digest {
        var digest = Digest()
        digest.update(data: block)
        return digest
    }

    func withCode(of parts: MessageParts, _ body: (UnsafeRawBufferPointer) -> Void) {
        var inner = self.inner
        parts.header.withUnsafeReadableBytes { inner.update(bufferPointer: $0) }
        parts.parent.withUnsafeReadableBytes { inner.update(bufferPointer: $0) }
        parts.metadata.withUnsafeReadableBytes { inner.update(bufferPointer: $0) }
        parts.content.withUnsafeReadableBytes { inner.update(bufferPointer: $0) }
        var outer = self.outer
        inner.finalize().withUnsafeBytes { outer.update(bufferPointer: $0) }
        outer.finalize().withUnsafeBytes(body)
    }
}

/// Remembers the signatures of accepted messages, so that a replayed message is recognised.
///
/// One memory serves all sockets of a process, so a message accepted at one of them is a replay at any other. Each lane forgets
/// its own oldest signatures beyond the limit: however much output engines send, requests are not forgotten for it. A message
/// older than 65,536 others of its lane could be replayed, as with Python's peers.
package struct ReplayMemory: Sendable {
    private var seen: Set<Entry> = []
    private var lanes: [Lane]
    private let limit: Int

    /// The entries of one lane in order of arrival, used as a ring once full.
    private struct Lane: Sendable {
        var order: [Entry] = []
        var oldest = 0
    }

    /// The first half of a SHA-256 signature's text: only signatures that were verified come here, so nobody can aim at a clash.
    private struct Entry: Hashable, Sendable {
        let high: UInt64
        let low: UInt64
        let third: UInt64
        let fourth: UInt64

        /// Nil if the text is too short to be a signature.
        init?(_ signature: ByteBuffer) {
            let start = signature.readerIndex
            guard let high = signature.getInteger(at: start, as: UInt64.self),
                let low = signature.getInteger(at: start + 8, as: UInt64.self),
                let third = signature.getInteger(at: start + 16, as: UInt64.self),
                let fourth = signature.getInteger(at: start + 24, as: UInt64.self)
            else { return nil }
            (self.high, self.low, self.third, self.fourth) = (high, low, third, fourth)
        }
    }

    /// - Parameter limit: How many signatures each lane remembers.
    package init(limit: Int = 65536, lanes: Int = 1) {
        self.limit = limit
        self.lanes = Array(repeating: Lane(), count: lanes)
    }

    /// Whether the signature is remembered.
    package func contains(_ signature: ByteBuffer) -> Bool { Entry(signature).map { self.seen.contains($0) } ?? false }

    /// Remembers a verified signature. False when it was here before, by whichever lane. An empty one (no key) is never a replay.
    package mutating func remember(_ signature: ByteBuffer, lane: Int = 0) -> Bool {
        guard let entry = Entry(signature) else { return true }
        guard self.seen.insert(entry).inserted else { return false }
        if self.lanes[lane].order.count < self.limit {
            self.lanes[lane].order.append(entry)
        } else {
            let oldest = self.lanes[lane].oldest
            self.seen.remove(self.lanes[lane].order[oldest])
            self.lanes[lane].order[oldest] = entry
            self.lanes[lane].oldest = (oldest + 1) % self.limit
        }
        return true
    }
}
