private import Crypto
package import NIOCore

/// Signs and checks messages with the session key that the connection files carry (protocol article, "Signature").
///
/// Without a key nothing is signed and everything is accepted: the cluster's network is then its only guard.
package struct Signer: Sendable {
    /// Absorbing the key costs two blocks of the digest; it is done once and the keyed state copied per message.
    private enum Keyed: Sendable {
        case none
        case md5(HMAC<Insecure.MD5>)
        case sha1(HMAC<Insecure.SHA1>)
        case sha256(HMAC<SHA256>)
        case sha384(HMAC<SHA384>)
        case sha512(HMAC<SHA512>)
    }

    private let keyed: Keyed

    package static let unsigned = Signer()
    package static let defaultScheme = "hmac-sha256"

    private init() { self.keyed = .none }

    /// - Throws: ``WireError`` when the scheme is not `hmac-` and a digest that we have.
    package init(key: String, scheme: String = Self.defaultScheme) throws(WireError) {
        if key.isEmpty {
            self.keyed = .none
            return
        }
        let key = SymmetricKey(data: Array(key.utf8))
        switch scheme {
        case "hmac-sha256": self.keyed = .sha256(HMAC(key: key))
        case "hmac-sha384": self.keyed = .sha384(HMAC(key: key))
        case "hmac-sha512": self.keyed = .sha512(HMAC(key: key))
        case "hmac-sha1": self.keyed = .sha1(HMAC(key: key))
        case "hmac-md5": self.keyed = .md5(HMAC(key: key))
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
            for byte in code { text.writeHexadecimal(byte) }
        }
    }

    /// Whether the text is the parts' signature, compared in a time that does not depend on where they differ.
    package func accepts(_ signature: ByteBuffer, for parts: MessageParts) -> Bool {
        guard self.signs else { return true }
        return self.withCode(of: parts) { code in
            signature.withUnsafeReadableBytes { text in
                guard text.count == code.count * 2 else { return false }
                var difference: UInt8 = 0
                for (index, byte) in code.enumerated() {
                    difference |= text[2 * index] ^ Self.digits[Int(byte >> 4)]
                    difference |= text[2 * index + 1] ^ Self.digits[Int(byte & 15)]
                }
                return difference == 0
            }
        }
    }

    private static let digits = Array("0123456789abcdef".utf8)

    private func withCode<Result>(of parts: MessageParts, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        func finish<Digest>(_ keyed: HMAC<Digest>) -> Result {
            var hmac = keyed
            for part in [parts.header, parts.parent, parts.metadata, parts.content] {
                part.withUnsafeReadableBytes { hmac.update(data: $0) }
            }
            return hmac.finalize().withUnsafeBytes(body)
        }
        switch self.keyed {
        case .none: return body(UnsafeRawBufferPointer(start: nil, count: 0))
        case .md5(let keyed): return finish(keyed)
        case .sha1(let keyed): return finish(keyed)
        case .sha256(let keyed): return finish(keyed)
        case .sha384(let keyed): return finish(keyed)
        case .sha512(let keyed): return finish(keyed)
        }
    }
}

/// The signatures that one role has taken, so that a message played again is known.
///
/// One memory per logical role: the scheduler and the hub of one process both see a task's signature once, and that is no
/// replay. The oldest are forgotten beyond the limit; a message older than 65,536 others could then be played again, as with
/// Python's peers.
package struct ReplayMemory: Sendable {
    private var seen: Set<Entry> = []
    /// The entries in order of arrival, used as a ring once full.
    private var order: [Entry] = []
    private var oldest = 0
    private let limit: Int

    /// The first half of a SHA-256 signature's text: only signatures that were verified come here, so nobody can aim at a clash.
    private struct Entry: Hashable, Sendable {
        let high: UInt64
        let low: UInt64
        let third: UInt64
        let fourth: UInt64
    }

    package init(limit: Int = 65536) { self.limit = limit }

    /// Remembers a verified signature. False when it was here before. An empty one (no key) is never a replay.
    package mutating func remember(_ signature: ByteBuffer) -> Bool {
        let start = signature.readerIndex
        guard let high = signature.getInteger(at: start, as: UInt64.self),
            let low = signature.getInteger(at: start + 8, as: UInt64.self),
            let third = signature.getInteger(at: start + 16, as: UInt64.self),
            let fourth = signature.getInteger(at: start + 24, as: UInt64.self)
        else { return true }
        let entry = Entry(high: high, low: low, third: third, fourth: fourth)
        guard self.seen.insert(entry).inserted else { return false }
        if self.order.count < self.limit {
            self.order.append(entry)
        } else {
            self.seen.remove(self.order[self.oldest])
            self.order[self.oldest] = entry
            self.oldest = (self.oldest + 1) % self.limit
        }
        return true
    }
}
