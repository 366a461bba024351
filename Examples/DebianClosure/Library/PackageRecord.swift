/// The index's entry for one binary package.
public struct PackageRecord: Sendable, Hashable {
    public var name: String
    public var version: DebianVersion
    public var priority: Priority
    /// How much the package takes on disk once installed, in kibibytes.
    public var installedKiB: Int
    /// The packages that must be there before this one is unpacked, or for it to work: `Pre-Depends` and `Depends`. One
    /// alternative of each is needed.
    public var dependencies: [[Relation]]
    /// The packages that apt installs with this one by default: `Recommends`.
    public var recommendations: [[Relation]]
    /// The virtual packages that this package provides, some with a version.
    public var provides: [Relation]

    public init(
        name: String, version: DebianVersion, priority: Priority = .optional, installedKiB: Int = 0,
        dependencies: [[Relation]] = [], recommendations: [[Relation]] = [], provides: [Relation] = []
    ) {
        self.name = name
        self.version = version
        self.priority = priority
        self.installedKiB = installedKiB
        self.dependencies = dependencies
        self.recommendations = recommendations
        self.provides = provides
    }

    /// How much a system needs a package, the most needed first.
    public enum Priority: String, Sendable, CaseIterable, Comparable {
        case required, important, standard, optional, extra

        public static func < (left: Priority, right: Priority) -> Bool {
            Self.allCases.firstIndex(of: left)! < Self.allCases.firstIndex(of: right)!
        }
    }
}

/// A package's name, perhaps with a condition on its version: `libc6 (>= 2.36)`.
public struct Relation: Sendable, Hashable {
    public enum Comparison: String, Sendable {
        case earlier = "<<"
        case atMost = "<="
        case exactly = "="
        case atLeast = ">="
        case later = ">>"

        func holds(_ version: DebianVersion, _ limit: DebianVersion) -> Bool {
            switch self {
            case .earlier: version < limit
            case .atMost: version <= limit
            case .exactly: version == limit
            case .atLeast: version >= limit
            case .later: version > limit
            }
        }
    }

    public struct Condition: Sendable, Hashable {
        public let comparison: Comparison
        public let version: DebianVersion

        public init(_ comparison: Comparison, _ version: DebianVersion) {
            self.comparison = comparison
            self.version = version
        }

        public func holds(_ version: DebianVersion) -> Bool { self.comparison.holds(version, self.version) }
    }

    public let name: String
    public let condition: Condition?

    public init(_ name: String, _ condition: Condition? = nil) {
        self.name = name
        self.condition = condition
    }

    /// Reads one relation; an architecture after the name (`python3:any`) means nothing where there is one architecture.
    private init?(_ text: Substring.UTF8View) {
        let parts = text.split { $0 <= 32 || $0 == UInt8(ascii: "(") || $0 == UInt8(ascii: ")") }
        guard let name = parts.first?.prefix(while: { $0 != UInt8(ascii: ":") }), !name.isEmpty else { return nil }
        self.name = String(Substring(name))
        if parts.count >= 3, let comparison = Comparison(rawValue: String(Substring(parts[1]))) {
            self.condition = Condition(comparison, DebianVersion(Substring(parts[2])))
        } else {
            self.condition = nil
        }
    }

    /// Reads a field: needs between commas, each with alternatives between bars.
    static func parse(_ field: Substring) -> [[Relation]] {
        field.utf8.split(separator: UInt8(ascii: ",")).compactMap { need in
            let alternatives = need.split(separator: UInt8(ascii: "|")).compactMap { Relation($0) }
            return alternatives.isEmpty ? nil : alternatives
        }
    }
}
