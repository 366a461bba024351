/// A Debian version number, ordered as dpkg orders it (Debian policy manual, section 5.6.12).
public struct DebianVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let description: String

    public init(_ text: some StringProtocol) { self.description = String(text) }

    public static func < (left: DebianVersion, right: DebianVersion) -> Bool { Self.compare(left, right) < 0 }

    /// Two spellings may mean one version (`1.0` and `0:1.0-0`), so being equal is a matter of order, not of text.
    public static func == (left: DebianVersion, right: DebianVersion) -> Bool { Self.compare(left, right) == 0 }

    public func hash(into hasher: inout Hasher) { hasher.combine(self.parts.epoch) }

    private var parts: (epoch: Int, upstream: Substring, revision: Substring) {
        var rest = Substring(self.description)
        var epoch = 0
        if let colon = rest.firstIndex(of: ":") {
            epoch = Int(rest[..<colon]) ?? 0
            rest = rest[rest.index(after: colon)...]
        }
        guard let dash = rest.lastIndex(of: "-") else { return (epoch, rest, "0") }
        return (epoch, rest[..<dash], rest[rest.index(after: dash)...])
    }

    private static func compare(_ left: DebianVersion, _ right: DebianVersion) -> Int {
        let (a, b) = (left.parts, right.parts)
        if a.epoch != b.epoch { return a.epoch < b.epoch ? -1 : 1 }
        let upstream = Self.compare(a.upstream.utf8, b.upstream.utf8)
        return upstream != 0 ? upstream : Self.compare(a.revision.utf8, b.revision.utf8)
    }

    /// Compares parts without digits and numbers in turn.
    private static func compare(_ left: Substring.UTF8View, _ right: Substring.UTF8View) -> Int {
        var (a, b) = (left[...], right[...])
        func isDigit(_ byte: UInt8?) -> Bool { byte.map { 48...57 ~= $0 } ?? false }
        /// A tilde sorts before the end, letters before all else.
        func weight(_ byte: UInt8?) -> Int {
            switch byte {
            case UInt8(ascii: "~"): -1
            case nil: 0
            case let byte? where isDigit(byte): 0
            case let byte? where 65...90 ~= byte || 97...122 ~= byte: Int(byte)
            case let byte?: Int(byte) + 256
            }
        }
        while !a.isEmpty || !b.isEmpty {
            while !a.isEmpty && !isDigit(a.first) || !b.isEmpty && !isDigit(b.first) {
                let difference = weight(a.first) - weight(b.first)
                if difference != 0 { return difference }
                a = a.dropFirst()
                b = b.dropFirst()
            }
            let (first, second) = (a.prefix { isDigit($0) }, b.prefix { isDigit($0) })
            (a, b) = (a.dropFirst(first.count), b.dropFirst(second.count))
            // As numbers of any length: without leading zeros the longer is the larger.
            let (x, y) = (first.drop { $0 == 48 }, second.drop { $0 == 48 })
            if x.count != y.count { return x.count < y.count ? -1 : 1 }
            if let (p, q) = zip(x, y).first(where: { $0 != $1 }) { return p < q ? -1 : 1 }
        }
        return 0
    }
}
