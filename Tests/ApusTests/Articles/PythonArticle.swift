import Apus
import Foundation
import TestPython
import Testing

@Remote func doubled(_ x: Double) -> Double { 2 * x }

extension ArticlesTests {
    @Test("Python from Swift", .enabled(if: TestPython.exists), .timeLimit(.minutes(2)))
    func python() async throws {
        try await withTemporaryFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_test")
            let host = try await ControllerHost(files: ControllerHost.Files(profile: profile, clusterID: ""))
            let engine = try ProgramProcess(apusEngine: profile)
            let client = try await Client.connect(profileDirectory: profile.path)
            try await client.waitForEngines(1, timeout: .seconds(60))

            let root: Double = try await client[0].apply("math.sqrt", 2.0)
            let words: [String] = try await client[0].apply(.source("lambda text: text.split()"), "one two")
            let logarithms: [Double] = try await client.loadBalancedView().map("math.log", [1.0, 2, 4], chunkSize: 2)
            #expect(root == 2.0.squareRoot())
            #expect(words == ["one", "two"])
            #expect(logarithms[0] == 0)

            let reply = try await client[0].execute("import math\nprint('to one place:')\nround(math.pi, 1)", silent: false)
            print(reply.stdout, reply.result ?? "")
            try await client[0].push(["a": [1.0, 2], "label": "x"])
            let total: Double = try await client[0].apply(.source("lambda: sum(a)"))
            #expect(reply.stdout == "to one place:\n")
            #expect(reply.result?.description == "3.1")
            #expect(total == 3)

            let matrix = NDArray([1.0, 2, 3, 4, 5, 6], shape: [2, 3])
            let transposed = try await client[0].apply(.source("lambda m: m.T.copy()"), matrix, returning: NDArray.self)
            let elements = try transposed.elements(as: Double.self)
            #expect(transposed.shape == [3, 2])
            #expect(elements == [1, 4, 2, 5, 3, 6])

            let anything: PickleValue = try await client[0].apply(.source("lambda: {'f': 1 + 2j, 'n': None}"))
            #expect(anything.description.contains("None"))

            var options = Cluster.Options()
            options.python = .active
            let twice = try await withCluster(engines: 2, options: options) { client in
                let root: Double = try await client[0].apply("math.sqrt", 2.0)
                return try await client[0].apply($doubled, root)
            }
            #expect(twice == 2 * 2.0.squareRoot())

            try await client.shutdown(hub: true)
            await client.close()
            try await host.wait()
            #expect(await engine.result().status == 0)
        }
    }
}
