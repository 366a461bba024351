import Apus
import ApusTestKit
import Foundation
import Testing

@Remote
private func triple(_ x: Int) -> Int { 3 * x }

@Remote
private func totalOfPart(_ part: [Int]) -> [Int] { [part.reduce(0, +)] }

@Remote
private func spoil(_ what: String) throws -> Int { throw Spoilt(what: what) }

private struct Spoilt: Error { let what: String }

private struct Burnt: Error {}

/// Fails as many times as the engine's namespace says.
@Remote
private func failUntilZero(_ error: String) throws -> Int {
    guard let namespace = EngineContext.current?.namespace else { return -1 }
    let failures = try namespace.get("failures", as: Int.self) ?? 0
    if failures == 0 { return 0 }
    try namespace.set("failures", to: failures - 1)
    if error == "Burnt" { throw Burnt() }
    throw Spoilt(what: "\(failures)")
}

@Remote
private func isEngine(_ id: Int) -> Bool { EngineContext.current?.engineID == id }

@Remote
private func whereAmI() -> Int { EngineContext.current?.engineID ?? -1 }

@Remote
private func readScale() throws -> Double { try EngineContext.current?.namespace.get("scale") ?? 0 }

@Remote
private func nap(_ seconds: Double) async throws -> Int {
    try await Task.sleep(for: .seconds(seconds))
    return 1
}

@Remote
private func block(_ seconds: Double) -> Int {
    Thread.sleep(forTimeInterval: seconds)
    return 1
}

@Suite("The client", .timeLimit(.minutes(1)))
struct ClientRowsTests {
    // MARK: Tasks and results

    @Test("A client remembers what it sent, as far back as it is told to")
    func history() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let first = try client.loadBalancedView().applyAsync($triple, 1)
            let second = try client[...].applyAsync($triple, 2)
            #expect(client.history == first.messageIDs + second.messageIDs)
            #expect(try await client.wait(for: client.history, timeout: .seconds(10)))
            #expect(client.metadata(of: first.messageIDs[0])?.status == .ok)
            #expect(client.metadata(of: TaskID("unheard_of")) == nil)
            client.historyLimit = 2
            #expect(client.history == second.messageIDs)
            _ = try await client[0].apply($triple, 3)
            #expect(client.history.count == 2)
            try client.purgeLocalResults()
            #expect(client.history == [])
        }
    }

    @Test("A wait for the first error ends at once when a task has failed already")
    func waitForError() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let failed = try client[0].applyAsync("no_such_function", returning: Int.self)
            #expect(try await failed.wait(timeout: .seconds(10)))
            let long = try client[1].applyAsync($nap, 30)
            #expect(try await client.wait(for: failed.messageIDs + long.messageIDs, until: .firstError, timeout: .seconds(10)))
            try await client.abort(interrupting: true)
        }
    }

    @Test("Any client can have any task's result")
    func getResult() async throws {
        try await withInMemoryCluster(engines: 2) { client, cluster in
            let one = try client.loadBalancedView().applyAsync($triple, 2)
            let chunks = try client.loadBalancedView().mapAsync($triple, 0..<4, chunkSize: 2)
            #expect(try await one.value == 6)
            #expect(try await chunks.value == [0, 3, 6, 9])
            #expect(try await client.getResult(one.messageIDs[0], as: Int.self).value == 6)

            let other = try await cluster.connect()
            let same = try await other.getResult(one.messageIDs[0], as: Int.self)
            #expect(try await same.value == 6)
            #expect(same.metadata[0].started != nil)
            #expect(try await other.getResult(chunks.whole.messageIDs, as: [Int].self).value == [[0, 3], [6, 9]])
            let missing = await #expect(throws: ApusError.self) {
                try await other.getResult([TaskID("unheard_of")], as: Int.self)
            }
            #expect(missing?.code == .resultNotFound)

            let failed = try client.loadBalancedView().applyAsync($spoil, "milk")
            _ = try await failed.wait()
            let error = await #expect(throws: RemoteError.self) {
                try await other.getResult(failed.messageIDs[0], as: Int.self).value
            }
            #expect(error?.name == "Spoilt")
            await other.close()
        }
    }

    @Test("A result can be asked for before it is there")
    func getResultEarly() async throws {
        try await withInMemoryCluster(engines: 1) { client, cluster in
            let other = try await cluster.connect()
            let slow = try client.loadBalancedView().applyAsync($nap, 0.1)
            while try await client.hubHistory().isEmpty { await Task.yield() }
            #expect(try await other.getResult(slow.messageIDs[0], as: Int.self).value(timeout: .seconds(10)) == 1)
            await other.close()
        }
    }

    @Test("A client finds the tasks of one that is gone by id, label and history, those that are queued among them")
    func tasksOfAnother() async throws {
        try await withInMemoryCluster(engines: 1) { client, cluster in
            let gone = try await cluster.connect()
            let view = gone.loadBalancedView().with { $0.label = "fit" }
            let ended = try view.applyAsync($triple, 2)
            #expect(try await ended.value == 6)
            let running = try view.applyAsync($nap, 0.2)
            let queued = try view.applyAsync($triple, 3)
            let ids = ended.messageIDs + running.messageIDs + queued.messageIDs
            while try await client.hubHistory().count < 3 { await Task.yield() }
            await gone.close()

            #expect(try await client.hubHistory() == ids)
            #expect(try await client.dbQuery(["label": "fit"], keys: []).map { $0.id } == ids)
            let result = try await client.getResult(ids, as: Int.self)
            #expect(try await result.value(timeout: .seconds(10)) == [6, 1, 9])
        }
    }

    @Test("Finished tasks run again under new ids, chunks of maps and closures among them")
    func resubmit() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let view = client.loadBalancedView()
            let offset = 100
            let shifted = #remote { [offset = offset as Int] (x: Int) in x + offset }
            let closure = try view.applyAsync(shifted, 1)
            let chunk = try view.mapAsync($triple, 1...2, chunkSize: 2)
            #expect(try await closure.value == 101)
            #expect(try await chunk.value == [3, 6])
            let again = try await client.resubmit(closure.messageIDs, as: Int.self)
            #expect(try await again.value == [101])
            #expect(again.messageIDs != closure.messageIDs)
            #expect(try await client.resubmit(chunk.whole.messageIDs, as: [Int].self).value == [[3, 6]])
            let missing = await #expect(throws: ApusError.self) {
                try await client.resubmit([TaskID("unheard_of")], as: Int.self)
            }
            #expect(missing?.code == .resultNotFound)
        }
    }

    @Test("The hub's database answers queries")
    func database() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let view = client.loadBalancedView().with { $0.label = "fit" }
            let good = try view.applyAsync($triple, 1)
            let bad = try view.applyAsync($spoil, "milk")
            try await client.wait()
            _ = try await client[...].apply($triple, 1)
            let records = try await client.dbQuery(["label": "fit"])
            #expect(Set(records.map { $0.id }) == Set(good.messageIDs + bad.messageIDs))
            let failed = try await client.dbQuery([
                "msg_id": ["$in": .array(records.map { .string($0.id.text) })], "error": ["$ne": nil],
            ])
            #expect(failed.map { $0.id } == bad.messageIDs)
            #expect(failed[0].status == .error)
            #expect(failed[0].error?.name == "Spoilt")
            #expect(failed[0].queue == "task")
            #expect(failed[0].submitted != nil && failed[0].completed != nil)
            let brief = try await client.dbQuery(
                ["msg_id": .string(good.messageIDs[0].text)], keys: ["engine_uuid", "result_buffers"])
            #expect(brief[0].engineUUID == good.metadata[0].engineUUID)
            #expect(brief[0].submitted == nil)
            #expect(brief[0].resultBufferSizes.count == 1)
            #expect(try await client.dbQuery(["queue": "mux"], keys: []).count == 2)
            let error = await #expect(throws: ApusError.self) { try await client.dbQuery(["label": ["$sounds_like": "fit"]]) }
            #expect(error?.code == .badArgument)
        }
    }

    @Test("What has ended can be forgotten, and what has not cannot")
    func purging() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let results = try (0..<3).map { try client.loadBalancedView().applyAsync($triple, $0) }
            _ = try await client.wait()
            let engine = try #require(results[1].metadata[0].engineID)
            try await client.purgeHubResults(results[0].messageIDs)
            #expect(try await client.hubHistory() == results[1].messageIDs + results[2].messageIDs)
            try await client.purgeHubResults(of: [engine])
            #expect(try await !client.hubHistory().contains(results[1].messageIDs[0]))
            let slow = try client.loadBalancedView().applyAsync($nap, 0.2)
            for forget in [
                { try client.purgeLocalResults() }, { try await client.purgeHubResults(slow.messageIDs) },
            ] as [@Sendable () async throws -> Void] {
                let error = await #expect(throws: ApusError.self) { try await forget() }
                #expect(error?.code == .badArgument)
            }
            _ = try await slow.wait()
            try await client.purgeEverything()
            #expect(try await client.hubHistory() == [])
            #expect(client.history == [])
        }
    }

    @Test("The hub says which tasks each engine has")
    func queues() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let done = try client[0].applyAsync($triple, 1)
            _ = try await done.wait()
            let slow = try client.loadBalancedView().applyAsync($nap, 0.2)
            var queues = try await client.queuedTasks()
            while queues.engines[0]?.tasks != slow.messageIDs { queues = try await client.queuedTasks(0) }
            #expect(queues.engines[0]?.completed == done.messageIDs)
            #expect(queues.unassigned == [])
            let status = try await client.resultStatus(done.messageIDs + slow.messageIDs)
            #expect(status.pending == slow.messageIDs)
            #expect(status.completed == done.messageIDs)
            _ = try await slow.wait()
        }
    }

    // MARK: Calling

    @Test("An executor takes work until it is shut down")
    func executor() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let executor = client.executor()
            let result = try executor.submit($triple, 2)
            var mapped: [Int] = []
            for try await value in try executor.map($triple, 0..<5, chunkSize: 2) { mapped.append(value) }
            #expect(mapped == [0, 3, 6, 9, 12])
            let slow = try executor.submit($nap, 0.05)
            try await executor.shutdown()
            #expect(result.isReady && slow.isReady)
            let error = #expect(throws: ApusError.self) { try executor.submit($triple, 1) }
            #expect(error?.code == .closed)
            #expect(client.ids.count == 2, "engines go on")
        }
    }

    @Test("Functions bound to a view are called like any other")
    func bound() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            let there = client.loadBalancedView().remote($triple)
            let twelve = try await there(4)
            #expect(twelve == 12)
            let one = try await client[1].remote($whereAmI)()
            #expect(one == 1)
            let all = try await client[...].remote($whereAmI)()
            #expect(all == [0, 1, 2])
            let each = try await client.loadBalancedView().parallel($triple)([1, 2])
            #expect(each == [3, 6])
            #expect(try await client[...].parallel($totalOfPart)(1...6) == [3, 7, 11])
            #expect(try await client[...].parallel($totalOfPart, .roundRobin)(1...6) == [5, 7, 9])
            #expect(try await client[...].parallel($totalOfPart)(1...2) == [1, 2])
            #expect(try await client[...].parallel($totalOfPart)([]) == [])
        }
    }

    @Test("A function runs where its condition holds")
    func conditions() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            let there = try $whereAmI.depending(on: $isEngine, 2)
            for _ in 0..<5 { #expect(try await client.loadBalancedView().apply(there) == 2) }
            let mapped = try $triple.depending(on: $isEngine, 1)
            let result = try client.loadBalancedView().mapAsync(mapped, 0..<4)
            #expect(try await result.value == [0, 3, 6, 9])
            #expect(Set(result.metadata.map { $0.engineID }) == [1])
            let error = await #expect(throws: RemoteError.self) { try await client[0].apply(there) }
            #expect(error?.name == "UnmetDependency")
            let scaled = try $readScale.requiring(["scale": 2.5])
            #expect(try await client[1].apply(scaled) == 2.5)
        }
    }

    @Test("A run-time limit cancels what can be cancelled and refuses what comes too late")
    func limits() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let view = client.loadBalancedView().with { $0.runLimit = .milliseconds(50) }
            let clock = ContinuousClock()
            let took = await clock.measure {
                let error = await #expect(throws: RemoteError.self) { try await view.apply($nap, 30) }
                #expect(error?.name == "RunLimitExceeded")
            }
            #expect(took < .seconds(10))
            let late = await #expect(throws: RemoteError.self) { try await view.apply($block, 0.1) }
            #expect(late?.name == "RunLimitExceeded")
            #expect(late?.value.contains("limit") == true)
            let quick = try await view.apply($triple, 1)
            #expect(quick == 3)
            var direct = client[0]
            direct.runLimit = .milliseconds(50)
            await #expect(throws: RemoteError.self) { try await direct.apply($nap, 30) }
        }
    }

    @Test("A task is tried again after the errors that its rule names, when its pause is over")
    func retryRule() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let view = client.loadBalancedView().with {
                $0.retries = 2
                $0.retryRule = RetryRule(pause: .milliseconds(30), factor: 2, errors: ["Spoilt"])
            }
            try await client[0].push("failures", 2)
            let clock = ContinuousClock()
            let start = clock.now
            #expect(try await view.apply($failUntilZero, "Spoilt") == 0)
            #expect(clock.now - start >= .milliseconds(90))
            try await client[0].push("failures", 2)
            let error = await #expect(throws: RemoteError.self) { try await view.apply($failUntilZero, "Burnt") }
            #expect(error?.name == "Burnt")
            #expect(try await client[0].pull("failures", as: Int.self) == 1, "it ran once")
        }
    }

    @Test("A task that needs a resource runs where it is")
    func resources() async throws {
        try await withInMemoryCluster(engines: 3, resources: [[:], ["gpu": 1]]) { client, _ in
            let view = client.loadBalancedView().with { $0.resources = ["gpu": 1] }
            let results = try (0..<10).map { _ in try view.applyAsync($whereAmI) }
            var places: Set<Int> = []
            for result in results { places.insert(try await result.value) }
            #expect(places.count == 1)
            let greedy = try view.with { $0.resources = ["gpu": 2] }.applyAsync($whereAmI)
            var waiting = try await client.queueStatus().waiting
            while waiting.isEmpty { waiting = try await client.queueStatus().waiting }
            #expect(waiting[greedy.messageIDs[0]] == "no engine owns gpu: 2.0")
            try await greedy.abort()
            let error = await #expect(throws: ApusError.self) { try await greedy.value }
            #expect(error?.code == .taskAborted)
        }
    }

    @Test("Tasks of a higher priority go first")
    func priorities() async throws {
        try await withInMemoryCluster(engines: 1) { client, _ in
            let view = client.loadBalancedView()
            let first = try view.applyAsync($nap, 0.1)
            let low = try (0..<10).map { _ in try view.applyAsync($nap, 0.002) }
            let high = try view.with { $0.priority = 5 }.applyAsync($nap, 0.002)
            _ = try await client.wait()
            #expect(first.isReady)
            let started = try #require(high.metadata[0].started)
            let before = low.count { result in result.metadata[0].started.map { $0 < started } ?? false }
            #expect(before < 10, "all but what the engine had already waits behind it")
        }
    }

    // MARK: Namespaces

    @Test("Arrays are spread by rows and stay arrays")
    func arrays() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            let view = client[...]
            let matrix = NDArray((0..<14).map { Double($0) }, shape: [7, 2])
            for partition in [Partition.block, .roundRobin] {
                try await view.scatter("m", matrix, partition)
                #expect(try await client[0].pull("m", as: NDArray.self).shape == [3, 2])
                #expect(try await view.gatherArray("m", partition) == matrix)
            }
            try await view.scatter("id", 10..<13, flatten: true)
            #expect(try await view.pull("id", as: Int.self) == [10, 11, 12])
        }
    }

    // MARK: For people

    @Test("A timeline is a chart with a lane for each engine and a bar for each task")
    func timeline() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            let result = try client.loadBalancedView().with { $0.label = "a < b & c" }.mapAsync($triple, 0..<6)
            _ = try await result.value
            let timeline = result.timeline
            #expect(timeline.bars.count == 6)
            #expect(timeline.bars.allSatisfy { $0.start <= $0.end && $0.end <= timeline.duration })
            let svg = timeline.svg()
            #expect(svg.hasPrefix("<svg ") && svg.hasSuffix("</svg>\n"))
            #expect(svg.components(separatedBy: "<rect ").count == 7)
            #expect(svg.contains("a &lt; b &amp; c"))
            let parser = XMLCheck(svg)
            #expect(parser.isBalanced)
            #expect(Timeline([]).svg().contains("</svg>"))
        }
    }

    @Test("Output of many engines is shown in whole lines, each with its engine's id")
    func outputLines() {
        var plain = OutputLines(isColoured: false)
        func printed(_ engine: EngineID, _ text: String, _ stream: PrintedText.Stream = .stdout) -> PrintedText {
            PrintedText(engineID: engine, task: TaskID("a"), stream: stream, text: text)
        }
        #expect(plain.take(printed(0, "hel")).isEmpty)
        #expect(plain.take(printed(1, "one\ntwo\nthr")).map { $0.line } == ["[1] one\n", "[1] two\n"])
        #expect(plain.take(printed(0, "lo\n")).map { $0.line } == ["[0] hello\n"])
        #expect(plain.take(printed(0, "oh\n", .stderr)).map { $0.stream } == [.stderr])
        #expect(plain.rest.map { $0.line } == ["[1] thr\n"])
        var coloured = OutputLines(isColoured: true)
        #expect(coloured.take(printed(1, "x\n")).map { $0.line } == ["\u{1B}[33m[1]\u{1B}[0m x\n"])
    }

    @Test("Errors of many engines are grouped, the same traceback shown once")
    func groupedErrors() async throws {
        try await withInMemoryCluster(engines: 3) { client, _ in
            let error = await #expect(throws: CompositeError.self) { try await client[...].apply($spoil, "milk") }
            let text = try #require(error).description
            #expect(text.hasPrefix("3 of 3 calls failed\n"))
            for engine in 0..<3 { #expect(text.contains("[\(engine):apply] Spoilt: ")) }
        }
    }

    @Test("Clients, views and results describe themselves")
    func descriptions() async throws {
        try await withInMemoryCluster(engines: 2) { client, _ in
            #expect("\(client)" == "client of 2 engines (0, 1)")
            #expect(
                "\(client[1]), \(client[...]), \(client.directView())"
                    == "view of engine 1, direct view of engines [0, 1], direct view of all engines")
            #expect(
                "\(client.loadBalancedView().with { ($0.retries, $0.label) = (3, "fit") })"
                    == "load-balanced view, retries 3, label fit")
            let result = try client[...].applyAsync($triple, 1)
            _ = try await result.wait()
            #expect("\(result)" == "result: 2 tasks ended, well")
            #expect("\(result.metadata[1])".contains(" ok on engine 1 in "))
            #expect("\(try await client.queueStatus())".hasPrefix("engine 0: 0 to do (0 direct), 1 completed\n"))
            await client.close()
            #expect("\(client)" == "client that cannot be used any more: the client was closed")
        }
    }

    @Test("The controller says how long it has run, and its version")
    func uptime() async throws {
        try await withInMemoryCluster(engines: 0) { client, _ in
            let first = try await client.uptime()
            #expect(first.version == Client.version)
            #expect(first.time >= .zero)
            #expect(try await client.uptime().time >= first.time)
        }
    }

    @Test("What does not exist here says so, and what to do instead")
    func unsupported() async throws {
        try await withInMemoryCluster(engines: 0) { client, _ in
            for attempt in [
                // There is no process in memory for dask's scheduler.
                { try client.activate() }, { _ = try await client.becomeDask() },
                { _ = try await Client.connect(file: "ipcontroller-client.json", sshServer: "me@gate") },
            ] as [@Sendable () async throws -> Void] {
                let error = await #expect(throws: ApusError.self) { try await attempt() }
                #expect(error?.code == .notSupported)
            }
        }
    }
}

/// Whether every element that is opened is closed.
private struct XMLCheck {
    let isBalanced: Bool

    init(_ text: String) {
        var open: [Substring] = []
        var isBalanced = true
        for tag in text.matches(of: /<(\/?)([a-z]+)[^>]*?(\/?)>/) {
            if !tag.output.3.isEmpty { continue }
            if tag.output.1.isEmpty { open.append(tag.output.2) } else if open.popLast() != tag.output.2 { isBalanced = false }
        }
        self.isBalanced = isBalanced && open.isEmpty
    }
}
