import Apus
import Testing

@Remote func pressure(_ volume: Double, temperature: Double) -> Double {
    8.314 * temperature / volume
}

struct Sample: Codable, Sendable {
    var name: String
    var readings: [Double]
}

struct NoReadings: Error {
    let sample: String
}

@Remote func average(of sample: Sample) async throws -> Double {
    guard !sample.readings.isEmpty else { throw NoReadings(sample: sample.name) }
    return sample.readings.reduce(0, +) / Double(sample.readings.count)
}

@Remote func rootMeanSquare(_ samples: NDArray) throws -> Double {
    let samples = try samples.elements(as: Double.self)
    return (samples.reduce(0) { $0 + $1 * $1 } / Double(samples.count)).squareRoot()
}

@Remote func addToTally(_ count: Int) throws -> Int {
    guard let engine = EngineContext.current else { return count }
    let tally = (try engine.namespace.get("tally", as: Int.self) ?? 0) + count
    try engine.namespace.set("tally", to: tally)
    return tally
}

@Remote func countWays(_ steps: Int) async throws -> Int {
    if steps < 2 { return 1 }
    let view = try await EngineContext.client().loadBalancedView()
    async let one = view.apply($countWays, steps - 1)
    async let two = view.apply($countWays, steps - 2)
    return try await one + two
}

extension ArticlesTests {
    @Test("Remote functions and closures")
    func remoteFunctions() async throws {
        try await withCluster(.inMemory, engines: 2) { client in
            let here = pressure(0.024, temperature: 293)
            let there = try await client.loadBalancedView().apply($pressure, 0.024, 293)
            #expect(here == there)

            let sample = Sample(name: "a", readings: [1, 2, 6])
            #expect(try await client[0].apply($average, sample) == 3)
            let error = await #expect(throws: RemoteError.self) {
                try await client[0].apply($average, Sample(name: "b", readings: []))
            }
            #expect(error?.name == "NoReadings")

            let moles = 2.0
            let scaled = #remote { [moles = moles as Double] (volume: Double) in moles * 8.314 * 293 / volume }
            let pressures = try await client.loadBalancedView().map(scaled, [0.012, 0.024, 0.048])
            #expect(abs(pressures[1] - 2 * there) < 1e-6)

            let samples = NDArray((0..<100_000).map { Double($0 % 2) })
            let level = try await client.loadBalancedView().apply($rootMeanSquare, samples)
            #expect(abs(level - 0.5.squareRoot()) < 1e-9)

            let tallies = try await client[...].apply($addToTally, 3)
            let first = try await client[0].pull("tally", as: Int.self)
            #expect(tallies == [3, 3] && first == 3)

            let ways = try await client.loadBalancedView().apply($countWays, 6)
            #expect(ways == 13)

            try await withTemporaryFolder { folder in
                let library = try await ModuleTests.link(["SampleModule"], to: folder + "/libSample.so")
                let added = try await client.directView().loadModule(library)
                let tripled = try await client.loadBalancedView().apply(.named("SampleModule.triple"), 14, returning: Int.self)
                #expect(added.contains("SampleModule.triple") && tripled == 42)
            }

            let remotePressure = client.loadBalancedView().remote($pressure)
            let again = try await remotePressure(0.024, 293)
            #expect(again == here)
        }
    }
}
