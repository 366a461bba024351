import Apus
import Foundation

/// A European call: the right to buy a share at the strike price when the term is over.
struct Call: Codable, Sendable {
    var price = 100.0
    var strike = 105.0
    /// Per year, as the interest rate.
    var volatility = 0.2
    var rate = 0.03
    /// In years.
    var term = 1.0

    /// The call's value by the formula of Black and Scholes.
    var exactValue: Double {
        let spread = self.volatility * self.term.squareRoot()
        let first = (log(self.price / self.strike) + (self.rate + self.volatility * self.volatility / 2) * self.term) / spread
        func normal(_ x: Double) -> Double { erfc(-x / 2.0.squareRoot()) / 2 }
        return self.price * normal(first) - self.strike * exp(-self.rate * self.term) * normal(first - spread)
    }
}

/// Sums over simulated paths, which can be added however the paths were divided.
struct Payoffs: Codable, Sendable {
    var count = 0
    var sum = 0.0
    var squares = 0.0

    static func + (left: Payoffs, right: Payoffs) -> Payoffs {
        Payoffs(count: left.count + right.count, sum: left.sum + right.sum, squares: left.squares + right.squares)
    }

    var mean: Double { self.sum / Double(self.count) }
    var standardError: Double { ((self.squares / Double(self.count) - self.mean * self.mean) / Double(self.count)).squareRoot() }
}

/// Simulates payoffs at the end of the term, as many as there are paths; the same ones for the same seed.
@Remote
func simulate(_ call: Call, seed: Int, paths: Int) -> Payoffs {
    var random = SplitMix(seed: UInt64(seed))
    var payoffs = Payoffs()
    let drift = (call.rate - call.volatility * call.volatility / 2) * call.term
    let spread = call.volatility * call.term.squareRoot()
    for _ in 0..<paths {
        let end = call.price * exp(drift + spread * random.nextNormal())
        let payoff = max(end - call.strike, 0) * exp(-call.rate * call.term)
        payoffs.count += 1
        payoffs.sum += payoff
        payoffs.squares += payoff * payoff
    }
    return payoffs
}

struct SplitMix {
    private var state: UInt64

    /// Neighbouring seeds must not start at neighbouring places of one sequence, or batches would repeat each other's paths.
    init(seed: UInt64) { self.state = Self.mixed(Self.mixed(seed &+ 1) ^ 0x5851_F42D_4C95_7F2D) }

    private static func mixed(_ value: UInt64) -> UInt64 {
        var bits = value
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return bits ^ (bits >> 31)
    }

    private mutating func nextUnit() -> Double {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        return Double(Self.mixed(self.state) >> 11) / Double(1 << 53)
    }

    mutating func nextNormal() -> Double {
        let (radius, angle) = ((-2 * log(1 - self.nextUnit())).squareRoot(), 2 * Double.pi * self.nextUnit())
        return radius * cos(angle)
    }
}

/// Prices an option by simulation on every engine, and compares with the formula: `option-pricing [batches]`.
@main
struct OptionPricing {
    static func main() async throws {
        let batches = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 200
        let call = Call()
        let payoffs = try await withCluster { client in
            // Each batch is a task. Its seed makes it a different part of one experiment, which can be repeated.
            let results = try client.loadBalancedView().mapAsync(
                $simulate, repeatElement(call, count: batches), 0..<batches, repeatElement(20_000, count: batches), ordered: false
            )
            return try await results.reduce(Payoffs(), +)
        }
        print("\(payoffs.count) paths: \(payoffs.mean) ± \(payoffs.standardError); by the formula \(call.exactValue)")
        guard abs(payoffs.mean - call.exactValue) < 5 * payoffs.standardError else {
            print("the simulation is wrong")
            exit(1)
        }
    }
}
