/// The sums over the closures of many packages, and the few packages that stand out.
///
/// An engine sums up a chunk; the summaries of all chunks are merged.
public struct ClosureSummary: Sendable, Hashable, Codable {
    /// A package that stands out.
    public struct Entry: Sendable, Hashable, Codable {
        public var package: Int
        public var report: ClosureReport
    }

    public private(set) var packageCount = 0
    /// The sizes of all closures added up. A package counts in each closure that has it.
    public private(set) var total = ClosureSize(packages: 0, installedKiB: 0)
    /// The packages whose closures are the largest on disk, largest first.
    public private(set) var largest: [Entry] = []
    /// The packages to whose closures one direct need adds most, the costliest first.
    public private(set) var costliest: [Entry] = []
    /// How many packages each list may have.
    private let limit: Int

    public init(limit: Int = 12) { self.limit = limit }

    /// Sums up the closures of a range of packages.
    public init(of packages: Range<Int>, in graph: DependencyGraph, limit: Int = 12) {
        self.init(limit: limit)
        let reports = graph.closures(of: packages)
        self.packageCount = reports.count
        for report in reports {
            self.total.packages += report.size.packages
            self.total.installedKiB += report.size.installedKiB
        }
        let entries = zip(packages, reports).map { Entry(package: $0, report: $1) }
        self.keep(largest: entries, costliest: entries)
    }

    public mutating func merge(_ other: ClosureSummary) {
        self.packageCount += other.packageCount
        self.total.packages += other.total.packages
        self.total.installedKiB += other.total.installedKiB
        self.keep(largest: self.largest + other.largest, costliest: self.costliest + other.costliest)
    }

    /// Keeps the first of each list. Of equal packages the one with the lower number comes first, so that the order of merging
    /// changes nothing.
    private mutating func keep(largest: [Entry], costliest: [Entry]) {
        self.largest = Array(
            largest.sorted { ($1.report.size.installedKiB, $0.package) < ($0.report.size.installedKiB, $1.package) }
                .prefix(self.limit))
        self.costliest = Array(
            costliest.filter { $0.report.heaviestNeed != nil }
                .sorted { ($1.report.saving.installedKiB, $0.package) < ($0.report.saving.installedKiB, $1.package) }
                .prefix(self.limit))
    }
}
