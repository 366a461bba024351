import ApusWire

/// The settings of a command line, in the form that ipyparallel's launchers and users write.
///
/// An argument is `--name=value`, `--name value` or a flag, for the names of a vocabulary, or `--Class.trait=value` for any other
/// trait. A name that is not in the vocabulary gives a warning.
struct TraitArguments: Sendable {
    private(set) var assignments: [TraitAssignment] = []
    private(set) var warnings: [String] = []
    /// Whether `--help`, `-h` or `--help-all` is among the arguments; the arguments behind it are not read.
    private(set) var asksForHelp = false

    /// The short names of one program's settings.
    struct Vocabulary: Sendable {
        /// Names that take a value, with the class and trait that each stands for.
        let aliases: [String: (String, String)]
        /// Names that need no value, with the settings that each stands for.
        let flags: [String: [(String, String, JSONValue)]]
    }

    /// - Throws: ``SettingsError`` for an option that has no value and needs one.
    init(_ arguments: [String], _ vocabulary: Vocabulary) throws(SettingsError) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            if ["--help", "-h", "--help-all"].contains(argument) {
                self.asksForHelp = true
                return
            }
            guard argument.hasPrefix("-"), argument.contains(where: { $0 != "-" }) else {
                self.warnings.append("'\(argument)' is no option and has no effect")
                continue
            }
            let parts = argument.drop { $0 == "-" }.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init)
            var value = parts.count > 1 ? parts[1] : nil
            let name = parts[0].contains(".") ? parts[0] : parts[0].replacing("_", with: "-")
            if let flag = vocabulary.flags[name], vocabulary.aliases[name] == nil || value == nil {
                // A name that is also an alias is a flag where no value follows.
                if value == nil, rest.first.map({ $0.hasPrefix("-") || vocabulary.aliases[name] == nil }) ?? true {
                    self.assignments += flag.map { TraitAssignment($0, $1, .literal($2), source: argument) }
                    continue
                }
                if let value {
                    guard flag.allSatisfy({ $0.2.bool != nil }) else {
                        throw SettingsError("\(argument): --\(name) takes no value")
                    }
                    self.assignments += flag.map { TraitAssignment($0.0, $0.1, .text(value), source: argument) }
                    continue
                }
            }
            let target: (String, String)
            if let alias = vocabulary.aliases[name] {
                target = alias
            } else if let dot = name.lastIndex(of: "."), dot != name.startIndex {
                target = (String(name[..<dot]), String(name[name.index(after: dot)...]))
            } else {
                self.warnings.append("\(argument): there is no such option, so it has no effect")
                // The value of an unknown option would give a second warning.
                if value == nil, let next = rest.first, !next.hasPrefix("-") { rest.removeFirst() }
                continue
            }
            if value == nil, let next = rest.first, !next.hasPrefix("--") { value = rest.popFirst() }
            guard let value else { throw SettingsError("\(argument) needs a value, as in \(argument)=…") }
            let source = parts.count > 1 ? argument : argument + " " + value
            self.assignments.append(TraitAssignment(target.0, target.1, .text(value), source: source))
        }
    }
}
