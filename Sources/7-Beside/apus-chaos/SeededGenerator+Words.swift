import ApusCore

extension SeededGenerator {
    /// A generator that a text decides.
    init(_ text: String) {
        // FNV-1a, which is the same in every process; Swift's own hashes are not.
        self.init(seed: text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
    }

    /// One of the words, each as often as its weight says.
    mutating func choose(_ words: [(word: String, weight: Int)]) -> String {
        var place = Int.random(in: 0..<words.reduce(0) { $0 + $1.weight }, using: &self)
        for (word, weight) in words {
            if place < weight { return word }
            place -= weight
        }
        return words[0].word
    }
}
