/// Finds functions by name.
///
/// A function is known by its qualified name ("MyProgram.Statistics.mean"), by that without the module ("Statistics.mean"),
/// and by its short name ("mean"). One of the last two may belong to several functions; looking it up then throws an error that
/// lists them.
package struct FunctionTable: Sendable {
    /// Two functions with one qualified name; a request could mean either.
    package struct DuplicateName: Error, CustomStringConvertible {
        package let first: RemoteDeclaration
        package let second: RemoteDeclaration

        package var description: String {
            """
            Two remote functions are named \(self.first.qualifiedName): \(self.first.signature) at \(self.first.sourceLocation), \
            and \(self.second.signature) at \(self.second.sourceLocation). Engines find functions by name, so rename one.
            """
        }
    }

    /// All functions by qualified name.
    private var records: [String: FunctionRecord] = [:]
    /// Declared functions by each of their shorter names, oldest first.
    private var shorter: [String: [FunctionRecord]] = [:]

    package init() {}

    /// Adds functions not yet known. A function of a known name, from the same place in the source, counts as the known one.
    ///
    /// - Throws: ``DuplicateName``; the functions before the duplicate are added.
    package mutating func add(_ new: some Sequence<FunctionRecord>) throws(DuplicateName) {
        for record in new {
            if let known = self.records[record.qualifiedName] {
                if known.declaration.sourceLocation == record.declaration.sourceLocation { continue }
                throw DuplicateName(first: known.declaration, second: record.declaration)
            }
            self.records[record.qualifiedName] = record
            guard record.declaration.closureID == nil else { continue }
            for name in Set([record.declaration.path, String(record.declaration.shortName)]) {
                self.shorter[name, default: []].append(record)
            }
        }
    }

    /// All functions, by qualified name.
    package var all: [FunctionRecord] {
        self.records.values.sorted { $0.qualifiedName < $1.qualifiedName }
    }

    /// The function of this name.
    ///
    /// - Throws: ``FunctionCallError`` with code `notFound` or `ambiguousName`.
    package func lookup(_ name: String) throws(FunctionCallError) -> FunctionRecord {
        if let record = self.records[name] { return record }
        guard let candidates = self.shorter[name] else { throw self.notFound(name) }
        guard candidates.count == 1 else {
            let names = candidates.map { "\($0.qualifiedName) (\($0.declaration.sourceLocation))" }
            throw FunctionCallError(
                .ambiguousName, "'\(name)' is the name of \(names.joined(separator: " and of ")); call it by its whole name",
                function: name, nearMatches: candidates.map(\.qualifiedName))
        }
        return candidates[0]
    }

    private func notFound(_ name: String) -> FunctionCallError {
        if name.contains("#") {
            return FunctionCallError(
                .notFound,
                "this engine has no closure \(name): it is another build of the program that made the request. "
                    + "Start engines from the same executable",
                function: name)
        }
        let near = self.nearMatches(to: name)
        let hint =
            near.isEmpty
            ? "Is the engine another build of the program, or is @Remote missing?"
            : "Did you mean \(near.joined(separator: " or "))?"
        return FunctionCallError(
            .notFound, "this engine has no remote function '\(name)'. \(hint)", function: name, nearMatches: near)
    }

    /// Known names that differ from this one by a few characters or by the prefix; the nearest first, three at most.
    private func nearMatches(to name: String) -> [String] {
        let short = name.split(separator: ".").last.map(String.init) ?? name
        let limit = max(1, short.count / 3)
        return self.shorter
            .flatMap { key, records in records.map { (key, $0.qualifiedName) } }
            .map { key, qualifiedName in (qualifiedName, min(editDistance(key, name), editDistance(key, short))) }
            .filter { $0.1 <= limit }
            .sorted { ($0.1, $0.0) < ($1.1, $1.0) }
            .reduce(into: []) { names, match in
                if names.count < 3, !names.contains(match.0) { names.append(match.0) }
            }
    }
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour to change one text into the other.
private func editDistance(_ first: String, _ second: String) -> Int {
    let (first, second) = (Array(first.lowercased()), Array(second.lowercased()))
    var beforePrevious: [Int] = []
    var previous = Array(0...second.count)
    for row in first.indices {
        var current = [row + 1]
        for column in second.indices {
            var cost = min(previous[column + 1] + 1, current[column] + 1)
            cost = min(cost, previous[column] + (first[row] == second[column] ? 0 : 1))
            if row > 0, column > 0, first[row] == second[column - 1], first[row - 1] == second[column] {
                cost = min(cost, beforePrevious[column - 1] + 1)
            }
            current.append(cost)
        }
        (beforePrevious, previous) = (previous, current)
    }
    return previous[second.count]
}
