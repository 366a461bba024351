extension TextPattern {
    /// Compiles a regular expression, which matches anywhere in a text. `(?i)`, `(?s)` and `(?m)` may stand at its start.
    package init(expression: String) throws(Problem) {
        var parser = ExpressionParser(expression)
        let piece = try parser.readAll()
        var compiler = Compiler()
        try compiler.emit(piece)
        self = try compiler.finished()
    }

    /// Compiles a shell pattern, which matches a whole text: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`.
    package init(glob: String) throws(Problem) {
        var pieces: [Piece] = [.place(.textStart)]
        var rest = Array(glob.unicodeScalars)[...]
        while let letter = rest.popFirst() {
            switch letter {
            case "*": pieces.append(.repeated(.one(.any), 0, nil))
            case "?": pieces.append(.one(.any))
            case "[":
                // A bracket without an end stands for itself; a closing bracket that comes first does not end the set.
                let isInverted = rest.first == "!"
                let inner = isInverted ? rest.dropFirst() : rest
                guard let end = inner.dropFirst().firstIndex(of: "]") else {
                    pieces.append(.letter(letter))
                    continue
                }
                var members = inner[..<end]
                var set = Letters(isInverted: isInverted)
                while let first = members.popFirst() {
                    if members.count >= 2, members.first == "-" {
                        let last = members[members.startIndex + 1]
                        members = members.dropFirst(2)
                        if first <= last { set.ranges.append(first.value...last.value) }
                    } else {
                        set.ranges.append(first.value...first.value)
                    }
                }
                pieces.append(.one(set))
                rest = rest[(end + 1)...]
            default: pieces.append(.letter(letter))
            }
        }
        pieces.append(.place(.textEnd))
        var compiler = Compiler()
        try compiler.emit(.sequence(pieces))
        self = try compiler.finished()
    }

    indirect enum Piece {
        case one(Letters)
        case place(Place)
        case sequence([Piece])
        case choice([Piece])
        case repeated(Piece, Int, Int?)

        static func letter(_ letter: Unicode.Scalar) -> Piece { .one(Letters(ranges: [letter.value...letter.value])) }
    }
}

/// Lays the pieces of a pattern out as steps.
private struct Compiler {
    private var steps: [TextPattern.Step] = []
    /// How many pieces were laid out, repeats counted each time: a repeat of nothing takes no step, but takes time.
    private var pieceCount = 0

    mutating func finished() throws(TextPattern.Problem) -> TextPattern {
        try self.add(.end)
        return TextPattern(steps: self.steps)
    }

    private mutating func add(_ step: TextPattern.Step) throws(TextPattern.Problem) {
        guard self.steps.count < TextPattern.maximumStepCount else { throw Self.tooLarge }
        self.steps.append(step)
    }

    private static let tooLarge = TextPattern.Problem("the pattern is too large (a repeat of a repeat, perhaps)")

    mutating func emit(_ piece: TextPattern.Piece) throws(TextPattern.Problem) {
        self.pieceCount += 1
        guard self.pieceCount <= 4 * TextPattern.maximumStepCount else { throw Self.tooLarge }
        switch piece {
        case .one(let letters): try self.add(.one(letters))
        case .place(let place): try self.add(.check(place))
        case .sequence(let pieces): for piece in pieces { try self.emit(piece) }
        case .choice(let pieces):
            var jumps: [Int] = []
            for (index, piece) in pieces.enumerated() {
                guard index < pieces.count - 1 else {
                    try self.emit(piece)
                    break
                }
                let fork = self.steps.count
                try self.add(.end)
                try self.emit(piece)
                jumps.append(self.steps.count)
                try self.add(.end)
                self.steps[fork] = .either(fork + 1, self.steps.count)
            }
            for jump in jumps { self.steps[jump] = .jump(self.steps.count) }
        case .repeated(let piece, let minimum, let maximum):
            for _ in 0..<minimum { try self.emit(piece) }
            if let maximum {
                var forks: [Int] = []
                for _ in minimum..<max(minimum, maximum) {
                    forks.append(self.steps.count)
                    try self.add(.end)
                    try self.emit(piece)
                }
                for fork in forks { self.steps[fork] = .either(fork + 1, self.steps.count) }
            } else {
                let fork = self.steps.count
                try self.add(.end)
                try self.emit(piece)
                try self.add(.jump(fork))
                self.steps[fork] = .either(fork + 1, self.steps.count)
            }
        }
    }
}

/// Reads the syntax of regular expressions.
private struct ExpressionParser {
    private typealias Piece = TextPattern.Piece
    private typealias Letters = TextPattern.Letters
    typealias Problem = TextPattern.Problem

    private var rest: ArraySlice<Unicode.Scalar>
    private var ignoresCase = false
    private var dotIsAny = false
    private var isMultiline = false
    private var depth = 0

    init(_ text: String) { self.rest = Array(text.unicodeScalars)[...] }

    mutating func readAll() throws(Problem) -> TextPattern.Piece {
        try self.readFlags()
        let piece = try self.readChoice()
        guard self.rest.isEmpty else { throw Problem("a ) has no (") }
        return piece
    }

    /// `(?ims)` at the start.
    private mutating func readFlags() throws(Problem) {
        guard self.rest.starts(with: "(?".unicodeScalars), let end = self.rest.firstIndex(of: ")") else { return }
        let flags = self.rest[self.rest.index(self.rest.startIndex, offsetBy: 2)..<end]
        guard !flags.isEmpty, flags.allSatisfy({ "imsu".unicodeScalars.contains($0) }) else { return }
        self.ignoresCase = flags.contains("i")
        self.isMultiline = flags.contains("m")
        self.dotIsAny = flags.contains("s")
        self.rest = self.rest[(end + 1)...]
    }

    private mutating func readChoice() throws(Problem) -> Piece {
        var choices = [try self.readSequence()]
        while self.rest.first == "|" {
            self.rest.removeFirst()
            choices.append(try self.readSequence())
        }
        return choices.count == 1 ? choices[0] : .choice(choices)
    }

    private mutating func readSequence() throws(Problem) -> Piece {
        var pieces: [Piece] = []
        while let next = self.rest.first, next != "|", next != ")" {
            let piece = try self.readOne()
            pieces.append(try self.readRepeats(of: piece))
        }
        return .sequence(pieces)
    }

    private mutating func readRepeats(of piece: Piece) throws(Problem) -> Piece {
        var (minimum, maximum): (Int, Int?) = (0, nil)
        switch self.rest.first {
        case "*": self.rest.removeFirst()
        case "+":
            self.rest.removeFirst()
            minimum = 1
        case "?":
            self.rest.removeFirst()
            maximum = 1
        case "{":
            guard let counts = self.readCounts() else { return piece }
            (minimum, maximum) = counts
            guard minimum <= 1000, (maximum ?? 0) <= 1000, maximum ?? minimum >= minimum else {
                throw Problem("a repeat count is too large, or the greater comes first")
            }
        default: return piece
        }
        // Whether a repeat is lazy does not change whether there is a match.
        if self.rest.first == "?" { self.rest.removeFirst() }
        if let next = self.rest.first, "*+?".unicodeScalars.contains(next) { throw Problem("a repeat follows a repeat") }
        return .repeated(piece, minimum, maximum)
    }

    /// `{2}`, `{2,}`, `{,5}` or `{2,5}`; anything else in braces stands for itself.
    private mutating func readCounts() -> (Int, Int?)? {
        guard let end = self.rest.firstIndex(of: "}") else { return nil }
        let parts = self.rest[..<end].dropFirst().split(separator: ",", omittingEmptySubsequences: false)
        let numbers = parts.map { Int(String(String.UnicodeScalarView($0))) }
        guard (1...2).contains(parts.count), zip(parts, numbers).allSatisfy({ $0.isEmpty || $1.map { $0 >= 0 } == true }),
            numbers.contains(where: { $0 != nil })
        else { return nil }
        self.rest = self.rest[(end + 1)...]
        if parts.count == 1 { return (numbers[0] ?? 0, numbers[0]) }
        return (numbers[0] ?? 0, numbers[1])
    }

    private mutating func readOne() throws(Problem) -> Piece {
        let letter = self.rest.removeFirst()
        switch letter {
        case ".": return .one(self.dotIsAny ? .any : .notNewline)
        case "^": return .place(self.isMultiline ? .lineStart : .textStart)
        case "$": return .place(self.isMultiline ? .lineEnd : .textEndOrLastNewline)
        case "*", "+", "?": throw Problem("there is nothing to repeat before \(letter)")
        case "(": return try self.readGroup()
        case "[": return .one(try self.readSet())
        case "\\":
            switch self.rest.first {
            case "b": self.rest.removeFirst(); return .place(.wordEdge)
            case "B": self.rest.removeFirst(); return .place(.noWordEdge)
            case "A": self.rest.removeFirst(); return .place(.textStart)
            case "Z": self.rest.removeFirst(); return .place(.textEnd)
            default: return .one(try self.readEscape())
            }
        default: return .one(self.letters(letter.value...letter.value))
        }
    }

    private mutating func readGroup() throws(Problem) -> Piece {
        if self.rest.first == "?" {
            self.rest.removeFirst()
            switch self.rest.popFirst() {
            case ":": break
            case "P" where self.rest.first == "<":
                guard let end = self.rest.firstIndex(of: ">") else { throw Problem("a group's name does not end") }
                self.rest = self.rest[(end + 1)...]
            default: throw Problem("groups that look ahead or back, or change the rules, cannot be used here")
            }
        }
        self.depth += 1
        guard self.depth <= 100 else { throw Problem("groups are nested too deeply") }
        let piece = try self.readChoice()
        guard self.rest.popFirst() == ")" else { throw Problem("a ( has no )") }
        self.depth -= 1
        return piece
    }

    private mutating func readSet() throws(Problem) -> Letters {
        var set = Letters(ignoresCase: self.ignoresCase)
        if self.rest.first == "^" {
            self.rest.removeFirst()
            set.isInverted = true
        }
        var isFirst = true
        while let letter = self.rest.popFirst() {
            if letter == "]" && !isFirst { return set }
            isFirst = false
            var low = self.letters(letter.value...letter.value)
            if letter == "\\" { low = try self.readEscape() }
            let isRange = self.rest.count >= 2 && self.rest.first == "-" && self.rest.dropFirst().first != "]"
            guard isRange, let first = low.single else {
                // "Everything but digits" inside a set is the union of the ranges between the digits.
                set.ranges += low.isInverted ? low.complement : low.ranges
                continue
            }
            self.rest.removeFirst()
            let letter = self.rest.removeFirst()
            let high = letter == "\\" ? try self.readEscape() : self.letters(letter.value...letter.value)
            guard let last = high.single, first <= last else { throw Problem("a range in [ ] runs backwards") }
            set.ranges.append(first...last)
        }
        throw Problem("a [ has no ]")
    }

    /// Reads the letters that an escape stands for, after its backslash.
    private mutating func readEscape() throws(Problem) -> Letters {
        guard let letter = self.rest.popFirst() else { throw Problem("it ends with a backslash") }
        func inverted(_ letters: Letters) -> Letters { Letters(ranges: letters.ranges, isInverted: true) }
        switch letter {
        case "d": return .digit
        case "D": return inverted(.digit)
        case "w": return .word
        case "W": return inverted(.word)
        case "s": return .space
        case "S": return inverted(.space)
        case "n": return self.letters(10...10)
        case "t": return self.letters(9...9)
        case "r": return self.letters(13...13)
        case "f": return self.letters(12...12)
        case "v": return self.letters(11...11)
        case "x": return try self.readCode(digits: 2)
        case "u": return try self.readCode(digits: 4)
        case "0"..."9": throw Problem("it refers back to a group, which cannot be used here")
        case "a"..."z", "A"..."Z": throw Problem("\\\(letter) is no escape known here")
        default: return self.letters(letter.value...letter.value)
        }
    }

    private mutating func readCode(digits: Int) throws(Problem) -> Letters {
        let text = String(String.UnicodeScalarView(self.rest.prefix(digits)))
        guard text.unicodeScalars.count == digits, text.allSatisfy({ $0.isHexDigit }), let code = UInt32(text, radix: 16) else {
            throw Problem("an escape by number needs \(digits) hexadecimal digits")
        }
        self.rest = self.rest.dropFirst(digits)
        return self.letters(code...code)
    }

    private func letters(_ range: ClosedRange<UInt32>) -> Letters { Letters(ranges: [range], ignoresCase: self.ignoresCase) }
}

extension TextPattern.Letters {
    fileprivate var single: UInt32? {
        guard !self.isInverted, self.ranges.count == 1, let range = self.ranges.first, range.count == 1 else { return nil }
        return range.lowerBound
    }

    fileprivate var complement: [ClosedRange<UInt32>] {
        var gaps: [ClosedRange<UInt32>] = []
        var next: UInt32 = 0
        for range in self.ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if range.lowerBound > next { gaps.append(next...range.lowerBound - 1) }
            next = max(next, range.upperBound + 1)
        }
        gaps.append(next...0x10FFFF)
        return gaps
    }
}
