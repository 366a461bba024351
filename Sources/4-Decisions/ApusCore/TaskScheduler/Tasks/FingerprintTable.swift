/// Finds small numbers by 64-bit fingerprints: a hash table of one word per place, kept at most half full.
///
/// Half of the fingerprint is stored with the number, so that a search seldom looks at other memory. The caller checks
/// that a number is the right one. A dictionary of strings would hash and read them at each growth and each removal; with
/// a hundred thousand tasks this costs more than all the scheduling.
struct FingerprintTable: Sendable {
    /// The high half of the fingerprint, then the number plus one; zero is free. Searches go up from the home place and
    /// end at a free one.
    private var places = [UInt64](repeating: 0, count: 64)
    private(set) var count = 0

    private func home(_ place: UInt64) -> Int { Int(truncatingIfNeeded: place >> 32) & (self.places.count - 1) }

    /// The number entered under a fingerprint that the caller accepts.
    @inline(__always)
    func first(_ fingerprint: UInt64, where isRight: (Int32) -> Bool) -> Int32? {
        var index = self.home(fingerprint)
        while case let place = self.places[index], place != 0 {
            if place >> 32 == fingerprint >> 32 {
                let number = Int32(truncatingIfNeeded: place & 0xFFFF_FFFF) - 1
                if isRight(number) { return number }
            }
            index = (index + 1) & (self.places.count - 1)
        }
        return nil
    }

    mutating func insert(_ fingerprint: UInt64, _ number: Int32) {
        self.count += 1
        if self.count * 2 > self.places.count { self.grow() }
        self.enter((fingerprint >> 32) << 32 | UInt64(UInt32(number + 1)))
    }

    /// Removes an entry, which must be there, and closes the gap, at which searches would stop.
    mutating func remove(_ fingerprint: UInt64, _ number: Int32) {
        let mask = self.places.count - 1
        let entry = (fingerprint >> 32) << 32 | UInt64(UInt32(number + 1))
        var gap = self.home(entry)
        while self.places[gap] != entry {
            precondition(self.places[gap] != 0, "number \(number) is not in the table")
            gap = (gap + 1) & mask
        }
        var index = gap
        while true {
            index = (index + 1) & mask
            let place = self.places[index]
            if place == 0 { break }
            if (index &- self.home(place)) & mask >= (index &- gap) & mask {
                self.places[gap] = place
                gap = index
            }
        }
        self.places[gap] = 0
        self.count -= 1
    }

    private mutating func enter(_ entry: UInt64) {
        var index = self.home(entry)
        while self.places[index] != 0 { index = (index + 1) & (self.places.count - 1) }
        self.places[index] = entry
    }

    private mutating func grow() {
        let old = self.places
        self.places = [UInt64](repeating: 0, count: old.count * 2)
        for entry in old where entry != 0 { self.enter(entry) }
    }
}
