import Foundation
import Testing

@testable import DebianClosure

@Suite("Debian's packages")
struct DebianClosureTests {
    @Test(
        "Versions are ordered as dpkg orders them",
        arguments: [
            ("1.0", "1.1"), ("1.9", "1.10"), ("1.0~rc1", "1.0"), ("1.0~~", "1.0~"), ("1.0", "1.0-1"), ("1.0-1", "1.0-1+deb12u1"),
            ("9", "1:0"), ("1.0a", "1.0+"), ("1.0", "1.0a"), ("2.36-9+deb12u9", "2.36-9+deb12u10"), ("1-1~bpo12+1", "1-1"),
            ("0.99", "1"), ("1.2.3-4-1", "1.2.3-4-2"), ("7.6p2-4", "7.6-0"),
        ])
    func versionOrder(pair: (String, String)) {
        let (left, right) = pair == ("7.6p2-4", "7.6-0") ? (pair.1, pair.0) : pair
        #expect(DebianVersion(left) < DebianVersion(right))
        #expect(!(DebianVersion(right) < DebianVersion(left)))
    }

    @Test("Some versions are the same in other words", arguments: [("1.0", "0:1.0"), ("1.0-0", "1.0"), ("1.01", "1.1")])
    func sameVersion(left: String, right: String) {
        #expect(DebianVersion(left) == DebianVersion(right))
    }

    static let text = """
        Package: editor
        Version: 2:1.0-1
        Installed-Size: 100
        Maintainer: Somebody
        Pre-Depends: libc (>= 2)
        Depends: spell | no-such, awk, python:any (>= 3),
         fonts
        Description: edits
         Depends: not really

        Package: libc
        Version: 2.1
        Installed-Size: 1000

        Package: spell
        Version: 1
        Installed-Size: 10
        Depends: dictionary (>= 2)

        Package: mawk
        Version: 1
        Priority: required
        Installed-Size: 1
        Provides: awk, dictionary

        Package: gawk
        Version: 1
        Installed-Size: 5
        Provides: awk (= 5)
        Depends: spell

        Package: words
        Version: 1
        Installed-Size: 50
        Provides: dictionary (= 2.5), wordlist
        Depends: editor

        Package: python
        Version: 3.1
        Installed-Size: 2000

        Package: editor
        Version: 1.0-1
        Installed-Size: 7
        """

    static let index = PackageIndex(parsing: [Data(Self.text.utf8)])

    private func names(_ numbers: some Sequence<Int32>) -> [String] { numbers.map { Self.index.packages[Int($0)].name } }

    private func number(_ name: String) throws -> Int { try #require(Self.index.packages.firstIndex { $0.name == name }) }

    @Test("An index is read field by field; of two versions the newer counts")
    func parsing() throws {
        #expect(Self.index.packages.map(\.name) == ["editor", "gawk", "libc", "mawk", "python", "spell", "words"])
        #expect(
            Self.index.packages[0]
                == PackageRecord(
                    name: "editor", version: DebianVersion("2:1.0-1"), installedKiB: 100,
                    dependencies: [
                        [Relation("libc", .init(.atLeast, DebianVersion("2")))], [Relation("spell"), Relation("no-such")],
                        [Relation("awk")], [Relation("python", .init(.atLeast, DebianVersion("3")))], [Relation("fonts")],
                    ]))
        #expect(Self.index.packages[3].priority == .required)
        #expect(
            Self.index.packages[6].provides == [
                Relation("dictionary", .init(.exactly, DebianVersion("2.5"))), Relation("wordlist"),
            ])
    }

    @Test("Where there is a choice, the first that exists is taken, and what a system needs most provides for it")
    func firstChoice() throws {
        let graph = DependencyGraph(Self.index)
        #expect(try self.names(graph.needs(of: self.number("editor"))) == ["libc", "mawk", "python", "spell"])
        // The unversioned provider satisfies no condition on a version.
        #expect(try self.names(graph.needs(of: self.number("spell"))) == ["words"])
        #expect(try self.names(graph.needs(of: self.number("mawk"))) == [])
    }

    @Test("Every choice takes all alternatives and all that provide them")
    func everyChoice() throws {
        let graph = DependencyGraph(Self.index, choosing: .every)
        #expect(try self.names(graph.needs(of: self.number("editor"))) == ["gawk", "libc", "mawk", "python", "spell"])
        #expect(try self.names(graph.needs(of: self.number("gawk"))) == ["spell"])
    }

    @Test("A closure holds each package once, though they need each other")
    func closure() throws {
        let graph = DependencyGraph(Self.index)
        let all = ["editor", "libc", "mawk", "python", "spell", "words"]
        for name in ["editor", "spell", "words"] {
            #expect(try self.names(graph.closure(of: self.number(name))).sorted() == all)
        }
        #expect(try self.names(graph.closure(of: self.number("editor"))) == all)
    }

    @Test("Of a package's needs, the one is told without which most would be saved")
    func heaviestNeed() throws {
        let graph = DependencyGraph(Self.index)
        let reports = try graph.closures(of: ["editor", "mawk", "gawk", "words"].map(self.number))
        #expect(reports.map(\.size.packages) == [6, 1, 7, 6])
        #expect(reports.map(\.size.installedKiB) == [3161, 1, 3166, 3161])
        #expect(
            try reports.map(\.heaviestNeed) == [
                Int32(self.number("python")), nil, Int32(self.number("spell")), Int32(self.number("editor")),
            ])
        // A package that is needed by another way as well is not saved.
        #expect(reports.map(\.saving.packages) == [1, 0, 6, 5])
        #expect(reports.map(\.saving.installedKiB) == [2000, 0, 3161, 3111])
    }

    @Test("Summaries of chunks merge, in any order, into the summary of all", arguments: [1, 2, 3, 5])
    func merging(chunkSize: Int) {
        let graph = DependencyGraph(Self.index)
        let all = ClosureSummary(of: 0..<graph.packageCount, in: graph, limit: 3)
        #expect(all.packageCount == 7)
        #expect(all.total == ClosureSize(packages: 28, installedKiB: 15_650))
        #expect(all.largest.map { Self.index.packages[$0.package].name } == ["gawk", "editor", "spell"])
        #expect(all.costliest.map { Self.index.packages[$0.package].name } == ["gawk", "spell", "words"])
        var merged = ClosureSummary(limit: 3)
        for start in stride(from: 0, to: graph.packageCount, by: chunkSize).reversed() {
            merged.merge(ClosureSummary(of: start..<min(start + chunkSize, graph.packageCount), in: graph, limit: 3))
        }
        #expect(merged == all)
    }

    @Test("What is recommended comes along only when asked for")
    func recommended() {
        let text = "Package: a\nVersion: 1\nRecommends: c | b, d\n\nPackage: b\nVersion: 1"
        let index = PackageIndex(parsing: [Data(text.utf8)])
        #expect(DependencyGraph(index).closure(of: 0) == [0])
        #expect(DependencyGraph(index, withRecommended: true).closure(of: 0) == [0, 1])
    }

    @Test("Numbers are written for people")
    func numbers() {
        #expect([0, 999, 1000, 63666, -1_234_567].map(\.grouped) == ["0", "999", "1,000", "63,666", "-1,234,567"])
        #expect(Int64(7_168_512).mebibytes == "7,001")
        #expect(
            [Duration.milliseconds(1250), .milliseconds(4), .seconds(61)].map(\.inSeconds) == ["1.25 s", "0.00 s", "61.00 s"])
    }

    @Test("A table's columns are as wide as their widest cell")
    func table() {
        var table = TextTable([("Package", .left), ("MB", .right)])
        table.add("vim", "1,234.5")
        table.add("libreoffice", "6")
        #expect(table.description == "Package           MB\n-----------  -------\nvim          1,234.5\nlibreoffice        6")
    }
}

@Suite("Debian's own index", .enabled(if: hasIndex))
struct AptIndexTests {
    /// Apt's output, as on a system without any package.
    private func apt(_ arguments: [String]) throws -> String {
        try String(decoding: AptIndex.run("apt-cache", ["-o", "Dir::State::status=/dev/null"] + arguments), as: UTF8.self)
    }

    @Test("The index is found where apt keeps it, and read as it is compressed")
    func files() throws {
        let files = try AptIndex.files()
        let smallest = try #require(files.min { $0.count < $1.count })
        let names = try Set(self.apt(["pkgnames"]).split(separator: "\n").map(String.init))
        let packages = PackageIndex(parsing: [smallest]).packages
        #expect(!packages.isEmpty)
        #expect(packages.allSatisfy { names.contains($0.name) })
    }

    @Test("All that could come along with a package is what apt tells")
    func closures() throws {
        let roots = ["bash", "git", "python3-numpy"]
        let told = try roots.map { root in
            let text = try self.apt(
                ["depends", "--recurse"]
                    + ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"].map { "--no-\($0)" }
                    + [root])
            // A line without indentation begins a package; those in angle brackets are virtual.
            let names = text.split(separator: "\n").filter { !$0.hasPrefix(" ") && !$0.hasPrefix("<") }
            return Set(names.map { String($0.prefix { $0 != ":" }) })
        }
        // These packages, and a thousand others that must not come along.
        let others = try self.apt(["pkgnames"]).split(separator: "\n").enumerated().filter { $0.offset % 50 == 0 }
        let wanted = told.reduce(Set(others.map { String($0.element) })) { $0.union($1) }
        let index = try PackageIndex(parsing: [Data(self.apt(["show"] + wanted.sorted()).utf8)])
        let graph = DependencyGraph(index, choosing: .every)
        for (root, expected) in zip(roots, told) {
            let number = try #require(index.packages.firstIndex { $0.name == root })
            #expect(Set(graph.closure(of: number).map { index.packages[Int($0)].name }) == expected)
        }

        let policy = try self.apt(["policy", "libc6"]).split(separator: "\n").first { $0.contains("Candidate:") }
        let libc = index.packages.first { $0.name == "libc6" }
        #expect(libc?.version.description == policy?.split(separator: " ").last.map(String.init))
    }
}

private let hasIndex = ((try? AptIndex.run("apt-get", ["indextargets", "Created-By: Packages"]))?.isEmpty == false)
