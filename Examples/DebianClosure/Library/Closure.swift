/// The size of a package's closure: the package, the packages that it needs, those that these need, and so on.
public struct ClosureSize: Sendable, Hashable, Codable {
    public var packages: Int
    public var installedKiB: Int64

    public init(packages: Int, installedKiB: Int64) {
        self.packages = packages
        self.installedKiB = installedKiB
    }
}

/// The size of a package's closure, and the direct need of the package that adds most to it.
public struct ClosureReport: Sendable, Hashable, Codable {
    public var size: ClosureSize
    /// The direct need without which the closure would shrink most; nil when the package needs nothing, or no need's absence
    /// would shrink its closure.
    public var heaviestNeed: Int32?
    /// How much the closure would shrink without ``heaviestNeed``.
    public var saving: ClosureSize

    public init(size: ClosureSize, heaviestNeed: Int32?, saving: ClosureSize) {
        self.size = size
        self.heaviestNeed = heaviestNeed
        self.saving = saving
    }
}

extension DependencyGraph {
    /// The packages in the closure of a package, itself first, in the order of the search.
    public func closure(of package: Int) -> [Int32] {
        var walker = Walker(self)
        walker.walk(from: package)
        return walker.queue
    }

    /// The closures of some packages, in their order.
    ///
    /// Each closure is found anew by breadth-first search, once whole and once without each of the package's direct needs.
    public func closures(of packages: some Sequence<Int>) -> [ClosureReport] {
        var walker = Walker(self)
        return packages.map { package in
            let whole = walker.walk(from: package)
            var report = ClosureReport(size: whole, heaviestNeed: nil, saving: ClosureSize(packages: 0, installedKiB: 0))
            for need in self.needs(of: package) {
                let rest = walker.walk(from: package, without: need)
                let saved = whole.installedKiB - rest.installedKiB
                if saved > report.saving.installedKiB {
                    report.heaviestNeed = need
                    report.saving = ClosureSize(packages: whole.packages - rest.packages, installedKiB: saved)
                }
            }
            return report
        }
    }

    /// The state of a search, which the next search uses again, to save memory.
    private struct Walker {
        private let graph: DependencyGraph
        /// A bit for each package: seen in this search. All clear between searches.
        private var seen: [UInt64]
        /// The packages seen in this search, in order.
        private(set) var queue: [Int32] = []

        init(_ graph: DependencyGraph) {
            self.graph = graph
            self.seen = Array(repeating: 0, count: (graph.packageCount + 63) / 64)
        }

        /// - Parameter omitted: A direct need of the package to leave out; other packages may still need it.
        @discardableResult
        mutating func walk(from package: Int, without omitted: Int32? = nil) -> ClosureSize {
            self.queue.removeAll(keepingCapacity: true)
            self.see(Int32(package))
            for need in self.graph.needs(of: package) where need != omitted { self.see(need) }
            var next = 1
            while next < self.queue.count {
                for need in self.graph.needs(of: Int(self.queue[next])) { self.see(need) }
                next += 1
            }
            var installed: Int64 = 0
            for package in self.queue {
                self.seen[Int(package) >> 6] = 0
                installed += Int64(self.graph.installedKiB[Int(package)])
            }
            return ClosureSize(packages: self.queue.count, installedKiB: installed)
        }

        private mutating func see(_ package: Int32) {
            let bit = UInt64(1) << UInt64(package & 63)
            guard self.seen[Int(package) >> 6] & bit == 0 else { return }
            self.seen[Int(package) >> 6] |= bit
            self.queue.append(package)
        }
    }
}
