/// A compiled regular expression or shell pattern.
///
/// Any client of the hub may send it a pattern, so matching must never take more steps than the product of text and pattern:
/// all ways to match are followed at once (Thompson's construction), none is tried after another. Back-references and
/// look-around, which this cannot express, are refused. Otherwise the syntax is that of Python's `re`, without its rarer escapes.
package struct TextPattern: Sendable {
    /// An error in a pattern.
    package struct Problem: Error, CustomStringConvertible {
        package let description: String
        init(_ description: String) { self.description = description }
    }

    enum Step: Sendable {
        case one(Letters)
        case either(Int, Int)
        case jump(Int)
        case check(Place)
        case end
    }

    /// A place in the text that takes up no letter.
    enum Place: Sendable { case textStart, textEnd, lineStart, lineEnd, textEndOrLastNewline, wordEdge, noWordEdge }

    /// A set of letters (Unicode scalars).
    struct Letters: Sendable {
        var ranges: [ClosedRange<UInt32>] = []
        var isInverted = false
        /// Whether upper and lower case match each other.
        var ignoresCase = false

        func contains(_ letter: UInt32) -> Bool {
            var found = self.ranges.contains { $0.contains(letter) }
            if !found && self.ignoresCase, let scalar = Unicode.Scalar(letter) {
                found = [scalar.properties.lowercaseMapping, scalar.properties.uppercaseMapping].contains { mapped in
                    guard mapped.unicodeScalars.count == 1, let other = mapped.unicodeScalars.first?.value else { return false }
                    return self.ranges.contains { $0.contains(other) }
                }
            }
            return found != self.isInverted
        }
    }

    private let steps: [Step]
    static let maximumStepCount = 5000

    init(steps: [Step]) { self.steps = steps }

    /// Whether the pattern is found anywhere in the text.
    package func matches(_ text: String) -> Bool {
        let letters = text.unicodeScalars.map { $0.value }
        var current = StateSet(count: self.steps.count)
        var next = StateSet(count: self.steps.count)
        for position in 0...letters.count {
            // A match may begin at every place.
            if self.follow(0, at: position, in: letters, into: &current) { return true }
            guard position < letters.count else { break }
            for state in current.states {
                guard case .one(let set) = self.steps[state], set.contains(letters[position]) else { continue }
                if self.follow(state + 1, at: position + 1, in: letters, into: &next) { return true }
            }
            swap(&current, &next)
            next.removeAll()
        }
        return false
    }

    /// Adds a state and all states that are reached from it without a letter. True when the pattern's end is among them.
    private func follow(_ start: Int, at position: Int, in letters: [UInt32], into set: inout StateSet) -> Bool {
        var open = [start]
        while let state = open.popLast() {
            guard set.insert(state) else { continue }
            switch self.steps[state] {
            case .one: break
            case .jump(let target): open.append(target)
            case .either(let first, let second):
                open.append(second)
                open.append(first)
            case .check(let place): if place.isAt(position, in: letters) { open.append(state + 1) }
            case .end: return true
            }
        }
        return false
    }
}

extension TextPattern.Place {
    fileprivate func isAt(_ position: Int, in letters: [UInt32]) -> Bool {
        func isWord(_ index: Int) -> Bool {
            letters.indices.contains(index) && TextPattern.Letters.word.contains(letters[index])
        }
        switch self {
        case .textStart: return position == 0
        case .textEnd: return position == letters.count
        case .textEndOrLastNewline:
            return position == letters.count || position == letters.count - 1 && letters[position] == 10
        case .lineStart: return position == 0 || letters[position - 1] == 10
        case .lineEnd: return position == letters.count || letters[position] == 10
        case .wordEdge: return isWord(position - 1) != isWord(position)
        case .noWordEdge: return isWord(position - 1) == isWord(position)
        }
    }
}

/// The set of steps that are being followed, with fast look-up, insertion and removal of all.
private struct StateSet {
    private(set) var states: [Int] = []
    private var isMember: [Bool]

    init(count: Int) { self.isMember = Array(repeating: false, count: count) }

    mutating func insert(_ state: Int) -> Bool {
        if self.isMember[state] { return false }
        self.isMember[state] = true
        self.states.append(state)
        return true
    }

    mutating func removeAll() {
        for state in self.states { self.isMember[state] = false }
        self.states.removeAll(keepingCapacity: true)
    }
}

extension TextPattern.Letters {
    static let digit = Self(ranges: [48...57])
    static let word = Self(ranges: [
        48...57, 65...90, 95...95, 97...122, 0xAA...0xAA, 0xB5...0xB5, 0xBA...0xBA, 0xC0...0xD6, 0xD8...0xF6, 0xF8...0x2C1,
        0x370...0x1FFF, 0x3040...0xD7FF,
    ])
    static let space = Self(ranges: [
        9...13, 28...32, 0x85...0x85, 0xA0...0xA0, 0x2000...0x200A, 0x2028...0x2029, 0x3000...0x3000,
    ])
    static let any = Self(isInverted: true)
    static let notNewline = Self(ranges: [10...10], isInverted: true)
}
