/// How many primes a range of numbers has.
func countPrimes(_ range: Range<Int>) -> Int {
    range.count { n in n > 1 && !(2...).lazy.prefix { $0 * $0 <= n }.contains { n % $0 == 0 } }
}

@main
struct PrimeCounting {
    static func main() {
        print(countPrimes(0..<1_000_000), "primes below", 1_000_000)
    }
}
