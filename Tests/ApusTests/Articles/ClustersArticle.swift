import Apus
import Testing

@Remote func squareRootSum(_ x: Double) -> Double { x.squareRoot() + 1 }

extension ArticlesTests {
    @Test("Clusters")
    func clusters() async throws {
        let squares = try await withCluster(engines: 2) { client in
            try await client.loadBalancedView().map($squareRootSum, [1, 4, 9])
        }
        #expect(squares == [2, 3, 4])

        let cluster = try await Cluster()
        try await cluster.startEngines(1)
        try await cluster.startEngines(1, resources: ["gpu": 1])
        let client = try await cluster.connect()
        let sums = try await client[...].apply($squareRootSum, 4)
        await client.close()
        await cluster.stop()
        #expect(sums == [3, 3])

        try await withCluster(.inMemory, engines: 2) { client in
            try await client.waitForEngines(2, timeout: .seconds(30))
            print(client.ids)
            try await client.shutdown([1])
            #expect(try await client[0].apply($squareRootSum, 16) == 5)
        }
    }

    private func ownController() -> Cluster.Options {
        var options = Cluster.Options()
        options.controllerPlace = .ownProcess
        options.controller.database = .sqlite(path: nil)
        return options
    }

    /// Compiled only: these clusters are the user's own.
    private func joining() async throws -> [Client] {
        let client = try await Client.connect()
        let other = try await Client.connect(profile: "mpi", clusterID: "night")
        let third = try await Client.connect(file: "/shared/ipcontroller-client.json")
        return [client, other, third]
    }

    private func again(_ cluster: Cluster) async throws {
        try await cluster.restartEngines()
    }
}
