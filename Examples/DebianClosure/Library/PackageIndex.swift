public import Foundation

/// Debian's binary packages, as its `Packages` files list them.
public struct PackageIndex: Sendable {
    /// The newest version of each package, by name.
    public private(set) var packages: [PackageRecord]

    public init(_ packages: some Sequence<PackageRecord>) {
        var newest: [String: PackageRecord] = [:]
        for package in packages {
            if let known = newest[package.name], known.version >= package.version { continue }
            newest[package.name] = package
        }
        self.packages = newest.values.sorted { $0.name < $1.name }
    }

    /// Reads `Packages` files.
    public init(parsing files: some Sequence<Data>) {
        self.init(files.flatMap { Self.records(in: $0) })
    }

    /// The records of one file, as they come.
    ///
    /// An index has a million lines, nine of ten of no use here. So lines are read as bytes, and only fields that are wanted
    /// become text.
    private static func records(in file: Data) -> [PackageRecord] {
        var records: [PackageRecord] = []
        var fields = Fields()
        file.withUnsafeBytes { bytes in
            guard var start = bytes.baseAddress else { return }
            let end = start + bytes.count
            while start < end {
                let length = memchr(start, 0x0A, end - start).map { UnsafeRawPointer($0) - start } ?? end - start
                if length == 0 {
                    if let record = fields.record { records.append(record) }
                    fields = Fields()
                } else {
                    fields.read(UnsafeRawBufferPointer(start: start, count: length))
                }
                start += length + 1
            }
        }
        if let record = fields.record { records.append(record) }
        return records
    }

    /// The fields of the package that is being read.
    private struct Fields {
        private enum Name: String, CaseIterable {
            case package = "Package"
            case version = "Version"
            case priority = "Priority"
            case installedSize = "Installed-Size"
            case depends = "Depends"
            case preDepends = "Pre-Depends"
            case recommends = "Recommends"
            case provides = "Provides"

            static let byLine = Self.allCases.map { (name: $0, start: Array($0.rawValue.utf8) + [UInt8(ascii: ":")]) }
        }

        private var texts: [Name: Substring] = [:]
        /// The field that a line which begins with a space continues; nil when it is not wanted.
        private var current: Name?

        mutating func read(_ line: UnsafeRawBufferPointer) {
            if line[0] == UInt8(ascii: " ") || line[0] == UInt8(ascii: "\t") {
                if let current { self.texts[current]? += Substring(decoding: line, as: UTF8.self) }
                return
            }
            self.current = nil
            guard let field = Name.byLine.first(where: { Self.line(line, startsWith: $0.start) }) else { return }
            self.current = field.name
            self.texts[field.name] = Substring(decoding: line[field.start.count...], as: UTF8.self).drop { $0 == " " }
        }

        private static func line(_ line: UnsafeRawBufferPointer, startsWith start: [UInt8]) -> Bool {
            // The first letter alone rules out most lines.
            line[0] == start[0] && line.count >= start.count && memcmp(line.baseAddress!, start, start.count) == 0
        }

        /// The package, if the paragraph described one.
        var record: PackageRecord? {
            guard let name = self.texts[.package], let version = self.texts[.version] else { return nil }
            return PackageRecord(
                name: String(name), version: DebianVersion(version),
                priority: self.texts[.priority].flatMap { PackageRecord.Priority(rawValue: String($0)) } ?? .optional,
                installedKiB: self.texts[.installedSize].flatMap { Int($0) } ?? 0,
                dependencies: self.relations(.preDepends) + self.relations(.depends),
                recommendations: self.relations(.recommends), provides: self.relations(.provides).flatMap { $0 })
        }

        private func relations(_ field: Name) -> [[Relation]] { self.texts[field].map { Relation.parse($0) } ?? [] }
    }
}
