import Apus
import Foundation
import NIOCore
import NIOPosix
import Testing

// The lines of Swift in docs/ComingFromIPyparallel.md. They are compiled and not run.

@Remote
private func hypotenuse(_ x: Double, _ y: Double) -> Double { (x * x + y * y).squareRoot() }

@Remote
private func totalOfDoubles(_ part: [Double]) -> [Double] { [part.reduce(0, +)] }

@Remote
private func hasLicence(_ product: String) -> Bool { product == "solver" }

private let samples = [1.0, 2, 3]
private let k = 3
private let group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton

/// Takes a line of code without running it.
private func line<Value>(_ body: () async throws -> Value) {}

private func aboutClient(_ client: Client, _ engine: EngineView, _ result: AsyncResult<[Double]>) {
    line { try await Client.connect() }
    line { try await Client.connect(file: "ipcontroller-client.json") }
    line { try await Client.connect(file: "ipcontroller-client.json", sshServer: "me@gate") }
    line { try await Client.connect(profile: "mpi", clusterID: "night", timeout: .seconds(30)) }
    line { try await Client.connect(profileDirectory: "/home/me/.ipython/profile_mpi") }
    line { try await Client.connect(eventLoopGroup: group) }
    line { client.ids }
    line { client.history }
    line { client.historyLimit = 100 }
    line { client.outstanding }
    line { try await client.getResult(client.history, as: Double.self) }
    line { client.metadata(of: client.history[0]) }
    line { try await client.abort() }
    line { try await client.abort(result.messageIDs) }
    line { try await client.abort(result.messageIDs, interrupting: true) }
    line { try await client.sendSignal("SIGINT", to: [0, 1]) }
    line { try client.activate() }
    line { try await client.becomeDask(workerArguments: ["memory_limit": "1GB"]) }
    line { try await client.stopDask() }
    line { try await client.clear([0, 1]) }
    line { await client.close(linger: .seconds(1)) }
    line { try await client.dbQuery(["completed": ["$ne": nil], "label": "fit"], keys: ["engine_uuid"]) }
    line { client.directView() }
    line { client[0] }
    line { client[...] }
    line { (client[0..<4], client[stride(from: 0, to: 8, by: 2)], client[[2, 0]]) }
    line { client.loadBalancedView([0, 1]) }
    line { client.broadcastView(isCoalescing: true) }
    line { client.executor() }
    line { try await client.getResult(client.history[0], as: Double.self) }
    line { try await client.hubHistory() }
    line { try await client.purgeResults(result.messageIDs) }
    line { try await client.purgeHubResults(result.messageIDs, of: [0, 1]) }
    line { try client.purgeLocalResults(result.messageIDs) }
    line { try await client.purgeEverything() }
    line { try await client.queueStatus() }
    line { try await client.queuedTasks() }
    line { try await client.queueStatus().waiting }
    line { try await result.whyWaiting() }
    line { try await client.resubmit(result.messageIDs, as: Double.self) }
    line { try await client.resultStatus(result.messageIDs) }
    line { try engine.applyAsync($squared, 3) }
    line { try engine.executeAsync("x = 3") }
    line { try await client.shutdown([0, 1]) }
    line { try await client.shutdown([0, 1], restart: true) }
    line { try await client.shutdown(hub: true) }
    line { try await client.wait(timeout: .seconds(10)) }
    line { try await client.wait(for: result.messageIDs, until: .firstCompleted) }
    line { try await client.waitInteractive() }
    line { try await client.waitForEngines(4, timeout: .seconds(60)) }
    line { try await client.sendSignal("SIGTERM", to: [3]) }
    line { try await withCluster(engines: 4) { client in client.ids } }
    line { Client.versionInfo }
    line { try await client.uptime() }
}

private func views(
    _ client: Client, _ view: DirectView, _ balanced: LoadBalancedView, _ broadcast: BroadcastView,
    _ result: AsyncResult<[Double]>
) {
    line { try await view.apply($squared, 3) }
    line { try view.applyAsync($squared, 3) }
    line { try await view.apply("math.sqrt", 2.0) as [Double] }
    line { try await view.apply(.source("lambda x: x + 1"), 2.0) as [Double] }
    line { try await view.execute("import numpy; a = numpy.arange(10)") }
    line { try await view.run(file: "setup.py") }
    line { try await view.push(["a": 1, "b": [2.5]]) }
    line { try await view["a"].set(1) }
    line { try await view.pull("a", as: Int.self) }
    line { try await view["a"].get(as: Int.self) }
    line { try await view.pull(["a", "b"]) }
    line { try await view.scatter("x", [1, 2, 3], .block) }
    line { try await view.scatter("rank", 0..<4, flatten: true) }
    line { try await view.scatter("m", NDArray([1.0, 2, 3, 4], shape: [2, 2])) }
    line { try await view.gather("x", as: Int.self, .roundRobin) }
    line { try await view.gatherArray("m") }
    line { try await view.map($squared, samples) }
    line { try await view.map("operator.pow", [2, 3], [10, 4]) as [Int] }
    line { try await balanced.map($squared, samples, chunkSize: 10) }
    line { try balanced.mapAsync($hypotenuse, samples, samples, ordered: false) }
    line { try balanced.lazyMap($squared, samples, maxOutstanding: 8) }
    line { balanced.with { $0.after = TaskDependency(result) } }
    line { TaskDependency(result, all: false, success: true, failure: true) }
    line { balanced.with { ($0.follow, $0.timeout) = (TaskDependency(result), .seconds(60)) } }
    line { balanced.with { $0.engineTimeout = .seconds(60) } }
    line { balanced.with { ($0.retries, $0.label) = (3, "fit") } }
    line { balanced.with { $0.retryRule = RetryRule(pause: .seconds(1), errors: ["EngineError"]) } }
    line { balanced.with { $0.resources = ["gpu": 1] } }
    line { try balanced.applyAsync($squared, .result(of: balanced.applyAsync($squared, 3))) }
    line { try balanced.applyAsync("math.pow", .result(of: result), .value(2), returning: Double.self) }
    line { balanced.with { $0.priority = 10 } }
    line { balanced.with { $0.runLimit = .seconds(30) } }
    line { try await view.syncImports("numpy", "scipy.linalg as la") }
    line { try await view.loadModule("libStatistics.so") }
    line { try await view.apply(.named("Statistics.mean"), samples, returning: Double.self) }
    line { try await view.usePickle() }
    line { try await view.useDill() }
    line { try await view.useCloudpickle() }
    line { try client.executor().submit($squared, 3) }
    line { try balanced.executor.map($squared, samples) }
    line { try await balanced.executor.shutdown(wait: true) }
    line { try await broadcast.apply($squared, 3) }
}

private func asyncResults(
    _ client: Client, _ balanced: LoadBalancedView, _ result: AsyncResult<[Double]>, _ mapped: AsyncMapResult<Double>
) {
    line { try await result.value }
    line { try await result.value(timeout: .seconds(10)) }
    line { try await result.wait(timeout: .seconds(10)) }
    line { try await result.wait(until: .firstError) }
    line { result.isReady }
    line { try result.isSuccessful }
    line { result.elements(ordered: false) }
    line { try await mapped.reduce(0, +) }
    line { [result, result].asCompleted() }
    line { result.metadata }
    line { result.metadata.map { ($0.submitted, $0.started, $0.completed, $0.received) } }
    line { result.metadata.map { ($0.engineID, $0.engineUUID, $0.status, $0.error) } }
    line { result.metadata.map { ($0.stdout, $0.stderr, $0.output.outputs) } }
    line { result.messageIDs }
    line { try await result.abort() }
    line { balanced.with { $0.whenCancelled = .abort } }
    line { (result.progress, result.count) }
    line { result.elapsed }
    line { result.serialTime }
    line { result.wallTime }
    line { try await result.valueByEngine() }
    line { try await result.printOutput() }
    line { result.streamOutput() }
    line { try await result.waitInteractive() }
    line { try await result.outcomes }
    line { try await mapped.value }
    line { try await client.getResult(result.messageIDs, as: Double.self).value }
    line { result.timeline.svg() }
}

private func remoteFunctions(_ view: DirectView, _ balanced: LoadBalancedView) {
    line { try await balanced.apply($squared, 3) }
    line { try await balanced.apply(#remote { [k = k as Int] (x: Int) in x * k }, 2) }
    line { [PythonFunction("math.sqrt"), PythonFunction.source("lambda x: 2 * x")] }
    line { try EngineContext.current?.namespace.get("a", as: Int.self) }
    line { try await EngineContext.client().loadBalancedView().map($squared, samples) }
    line { PythonFunction("norm").requiring("numpy") }
    line { try $squared.requiring(["a": 1]) }
    line { try $squared.depending(on: $hasLicence, "solver") }
    line { try await balanced.remote($squared)(3) }
    line { try await view.parallel($totalOfDoubles)(samples) }
    line { try await balanced.parallel($squared)(samples) }
}

private func errors(_ remoteError: RemoteError?, _ compositeError: CompositeError?) {
    line { remoteError.map { ($0.name, $0.value, $0.traceback, $0.engineID) } }
    line { compositeError.map { ($0.message, $0.errors) } }
    line { ApusError.Code.noEnginesRegistered }
    line { ApusError.Code.impossibleDependency }
    line { ApusError.Code.invalidDependency }
    line { ErrorName.unmetDependency }
    line { ApusError.Code.taskAborted }
    line { ApusError.Code.taskTimeout }
    line { ApusError.Code.engineDied }
    line { ApusError.Code.resultNotFound }
    line { ApusError.Code.timeout }
}

private func taskDatabase(_ client: Client) {
    line { ControllerOptions.Database.memory(records: 1_000_000, bytes: 256 << 20) }
    line { ControllerOptions.Database.sqlite(path: "tasks.db") }
    line { ControllerOptions.Database.none }
    line { try await client.dbQuery(["received": ["$gt": .string(WireDate.now.description)]]) }
    line { try await client.dbQuery(["label": ["$in": ["fit", "score"]], "stdout": ["$glob": "*warning*"]]) }
    line { try await client.dbQuery(["$or": [["queue": "mux"], ["label": "fit"]]]) }
}

private func clusters(_ cluster: Cluster) {
    line { try await withCluster(engines: 4) { client in client.ids } }
    line { try await Cluster() }
    line { try await cluster.startEngines(4) }
    line { try await cluster.restartEngines() }
    line { try await cluster.restartEngines([1]) }
    line { try await cluster.connect() }
    line { await cluster.stop() }
}

@Suite("Documentation")
struct ComingFromIPyparallelTests {
    @Test("Every line of Swift in the article for ipyparallel's users is compiled here, and no other")
    func article() throws {
        let here = URL(fileURLWithPath: #filePath)
        let root = here.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let article = try String(contentsOf: root.appending(path: "docs/ComingFromIPyparallel.md"), encoding: .utf8)
        let code = try String(contentsOf: here, encoding: .utf8)
        var written: Set<String> = []
        for row in article.split(separator: "\n") where row.hasPrefix("|") {
            // The right column, when it begins with code.
            guard let match = row.firstMatch(of: /^\|.* \| `([^`]+)`[^|]* \|$/) else { continue }
            written.insert(String(match.output.1))
        }
        // A long line is broken by the formatter, so blanks do not count.
        func squeezed(_ text: some StringProtocol) -> String { String(text.filter { !$0.isWhitespace }) }
        let compiled = Set(code.matches(of: /(?m)^    line \{\s([\s\S]*?)\s\}$/).map { squeezed($0.output.1) })
        #expect(written.filter { !compiled.contains(squeezed($0)) } == [], "in the article and not compiled")
        let squeezedArticle = Set(written.map { squeezed($0) })
        #expect(compiled.filter { !squeezedArticle.contains($0) } == [], "compiled and not in the article")
        #expect(written.count > 100)
    }
}
