import Apus
import Testing

struct Overdrawn: Error, Codable, CustomStringConvertible {
    let amount: Int
    var description: String { "\(self.amount) is more than there is" }
}

@Remote func withdraw(_ amount: Int) throws -> Int {
    if amount > 50 { throw Overdrawn(amount: amount) }
    return amount
}

extension ArticlesTests {
    @Test("Errors")
    func errors() async throws {
        try await withCluster(.inMemory, engines: 2) { client in
            do {
                _ = try await client.loadBalancedView().apply($withdraw, 70)
            } catch let error as Overdrawn {
                print(error.amount, client.remoteError(of: error)?.engineID ?? -1)
            } catch let error as RemoteError {
                print("the engine said:", error.name, error.value)
            } catch let error as ApusError {
                print(error.code, error.message)
            }
            let error = await #expect(throws: Overdrawn.self) { try await client[1].apply($withdraw, 51) }
            #expect(error?.amount == 51)

            do {
                _ = try await client.loadBalancedView().map($withdraw, [10, 70, 20, 80])
            } catch let error as CompositeError {
                for each in error.errors { print(each) }
            }
            let composite = await #expect(throws: CompositeError.self) {
                try await client.loadBalancedView().map($withdraw, [10, 70])
            }
            #expect(composite?.errors.count == 1)

            let outcomes = try await client[...].applyAsync($withdraw, 10).outcomes
            let each = try await client.loadBalancedView().mapAsync($withdraw, [10, 70, 20]).outcomes
            #expect(outcomes.count == 2)
            #expect(each.count == 3)
            #expect(each.compactMap { try? $0.get() } == [10, 20])

            let careful = client.loadBalancedView().with { $0.retries = 2 }
            let seven = try await careful.apply($withdraw, 7)
            #expect(seven == 7)
        }
    }
}
