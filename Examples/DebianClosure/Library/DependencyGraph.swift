/// The direct needs of all packages, as flat arrays of numbers, which are quick to send and to search.
///
/// Package `p` is the one at index `p` of the index's packages. Its direct needs stand in ``targets`` from `offsets[p]` up to
/// `offsets[p + 1]`.
public struct DependencyGraph: Sendable, Hashable, Codable {
    public var offsets: [Int32]
    public var targets: [Int32]
    /// How much each package takes on disk, in kibibytes.
    public var installedKiB: [Int32]

    public init(offsets: [Int32], targets: [Int32], installedKiB: [Int32]) {
        self.offsets = offsets
        self.targets = targets
        self.installedKiB = installedKiB
    }

    public var packageCount: Int { self.installedKiB.count }

    /// The direct needs of a package, in rising order.
    public func needs(of package: Int) -> ArraySlice<Int32> {
        self.targets[Int(self.offsets[package])..<Int(self.offsets[package + 1])]
    }

    /// Which packages to take where a dependency leaves a choice.
    public enum Choice: Sendable {
        /// The first alternative that exists; of several packages that provide a virtual one, that of the highest priority,
        /// then the first by name. This is close to what apt installs on an empty system.
        case first
        /// All alternatives, and every package that provides them: all packages that could be installed, as
        /// `apt-cache depends --recurse` lists them.
        case every
    }

    /// - Parameter withRecommended: Whether recommended packages come along too, as they do when apt installs.
    public init(_ index: PackageIndex, choosing choice: Choice = .first, withRecommended: Bool = false) {
        let packages = index.packages
        let numbers = Dictionary(uniqueKeysWithValues: zip(packages.map(\.name), packages.indices))
        var providers: [String: [(package: Int, version: DebianVersion?)]] = [:]
        for (number, package) in packages.enumerated() {
            for provided in package.provides {
                providers[provided.name, default: []].append((number, provided.condition?.version))
            }
        }

        /// The packages that satisfy the relation, the preferred one first: the package of that name, then providers.
        func candidates(_ relation: Relation) -> [Int] {
            var found: [Int] = []
            if let number = numbers[relation.name], relation.condition?.holds(packages[number].version) ?? true {
                found.append(number)
            }
            let substitutes = providers[relation.name, default: []].filter { _, version in
                // A name that is provided without a version satisfies no condition on its version.
                relation.condition.map { condition in version.map(condition.holds) ?? false } ?? true
            }
            return found + substitutes.map(\.package).sorted { (packages[$0].priority, $0) < (packages[$1].priority, $1) }
        }

        var offsets: [Int32] = [0]
        var targets: [Int32] = []
        for (number, package) in packages.enumerated() {
            var needs: Set<Int> = []
            for alternatives in package.dependencies + (withRecommended ? package.recommendations : []) {
                let satisfying = alternatives.lazy.map(candidates)
                switch choice {
                case .first:
                    if let chosen = satisfying.first(where: { !$0.isEmpty })?.first { needs.insert(chosen) }
                case .every:
                    for numbers in satisfying { needs.formUnion(numbers) }
                }
            }
            needs.remove(number)
            targets += needs.sorted().map { Int32($0) }
            offsets.append(Int32(targets.count))
        }
        self.init(offsets: offsets, targets: targets, installedKiB: packages.map { Int32(clamping: $0.installedKiB) })
    }
}
