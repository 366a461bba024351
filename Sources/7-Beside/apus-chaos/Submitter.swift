import Apus
import ApusCore
import ApusWire
import Foundation

/// Submits tasks of all kinds through one client, and follows each to its outcome.
actor Submitter {
    private let name: String
    private let folder: String
    private let journal: Journal
    private let client: Client
    /// How many clients of this name there were before.
    private let generation: Int
    private var random: SeededGenerator
    /// When each task that has no outcome yet was submitted.
    private var waiting: [String: ContinuousClock.Instant] = [:]
    /// The tasks of clients before this one that have no outcome yet, by id.
    private var asked: [TaskID: String] = [:]
    /// Load-balanced tasks that later ones can depend on.
    private var recent: [(name: String, id: TaskID)] = []
    /// Engines that have run a function of this program. Other engines of the cluster may not have the functions.
    private var able: Set<EngineID> = []
    private var count = 0

    /// Tasks that are under way at a time.
    private static let window = 12
    /// How long a task counts among those.
    private static let patience = Duration.seconds(15)

    init(name: String, folder: String, profile: String, seed: Int) async throws {
        self.name = name
        self.folder = folder
        self.journal = try Journal(path: "\(folder)/journals/\(name)")
        self.generation = self.journal.earlier.count { $0["do"] == "start" }
        self.random = SeededGenerator("\(seed) \(name) \(self.generation)")
        self.journal.note("start", "")
        let end = ContinuousClock.now + .seconds(120)
        while true {
            do {
                self.client = try await Client.connect(profileDirectory: profile, timeout: .seconds(8))
                return
            } catch  where ContinuousClock.now < end {
                // The controller may be away.
                try await Task.sleep(for: .milliseconds(300))
            }
        }
    }

    private var mayFinish: Bool { FileManager.default.fileExists(atPath: "\(self.folder)/finish") }

    func run() async {
        let search = Task { await self.takeUpEarlier() }
        while !self.mayFinish {
            let now = ContinuousClock.now
            if self.waiting.values.count(where: { now - $0 < Self.patience }) < Self.window, !self.client.ids.isEmpty {
                self.submit()
                await self.pause(.milliseconds(Int.random(in: 20...250, using: &self.random)))
            } else {
                await self.pause(.milliseconds(50))
            }
        }
        search.cancel()
        await search.value
        // A minute without an outcome ends the wait: a queue may take longer than that to drain.
        var end = ContinuousClock.now + .seconds(60)
        let last = ContinuousClock.now + .seconds(180)
        var missing = self.missing
        while ContinuousClock.now < min(end, last), missing > 0 {
            await self.pause(.milliseconds(100))
            if self.missing != missing { end = .now + .seconds(60) }
            missing = self.missing
        }
        if !self.waiting.isEmpty || !self.asked.isEmpty { self.journal.note("waiting", "", ["why": await self.reasons()]) }
        self.journal.note("finish", "")
    }

    /// How many outcomes there have yet to be.
    private var missing: Int { self.waiting.count + self.asked.count }

    private func pause(_ time: Duration) async { try? await Task.sleep(for: time) }

    /// Why tasks wait, in the controller's words.
    private func reasons() async -> JSONValue {
        let reasons = try? await withThrowingTaskGroup(of: [TaskID: String].self) { group in
            group.addTask { [client] in try await client.whyWaiting(Array(client.outstanding)) }
            group.addTask {
                try await Task.sleep(for: .seconds(15))
                return [:]
            }
            defer { group.cancelAll() }
            return try await group.next() ?? [:]
        }
        return ["apus_waiting": .object(Dictionary((reasons ?? [:]).map { ($0.text, .string($1)) }) { first, _ in first })]
    }

    // MARK: Tasks of this client

    private func submit() {
        self.count += 1
        let name = "\(self.name).\(self.generation).\(self.count)"
        var kind = self.random.choose([
            ("balanced", 20), ("retried", 18), ("flaky", 6), ("failing", 3), ("after", 10), ("follow", 6), ("argument", 7),
            ("direct", 18), ("broadcast", 8), ("gathered", 4),
        ])
        let seconds =
            Double.random(in: 0..<1, using: &self.random) < 0.06
            ? Double.random(in: 1...4, using: &self.random) : Double.random(in: 0...0.4, using: &self.random)
        // Engines without these functions refuse requests that name them.
        var targets = self.client.ids.filter { self.able.contains($0) }
        if targets.isEmpty, ["direct", "broadcast", "gathered"].contains(kind) { kind = "balanced" }
        if kind == "argument", self.recent.isEmpty { kind = "balanced" }
        if kind == "direct" { targets = [targets.randomElement(using: &self.random)!] }
        var (retries, failures) = (0, 0)
        var needs: [(name: String, id: TaskID)] = []
        switch kind {
        case "retried": retries = [1, 3, 5].randomElement(using: &self.random)!
        case "flaky": (retries, failures) = (4, Int.random(in: 1...2, using: &self.random))
        case "failing": (retries, failures) = (2, 1000)
        case "after", "follow", "argument":
            retries = [0, 3].randomElement(using: &self.random)!
            // Tasks that ran on different engines cannot both be followed.
            let most = kind == "after" ? [1, 1, 2].randomElement(using: &self.random)! : 1
            needs = Array(self.recent.shuffled(using: &self.random).prefix(most))
        default: break
        }
        let isBalanced = !["direct", "broadcast", "gathered"].contains(kind)
        self.journal.note(
            "begin", name,
            [
                "kind": .string(kind), "retries": .int(retries), "failures": .int(failures),
                "needs": .array(needs.map { .string($0.name) }), "seconds": .double(seconds),
                "copies": .int(kind == "broadcast" || kind == "gathered" ? targets.count : 1),
                "targets": .array(isBalanced ? [] : targets.map { .int($0.number) }),
            ])
        let runs = "\(self.folder)/runs"
        do {
            switch kind {
            case "direct":
                var view = self.client[targets[0]]
                view.label = name
                self.follow(name, try view.applyAsync($noteRun, runs, name, seconds, failures)) { $0 }
            case "broadcast":
                var view = self.client.broadcastView(.engines(targets))
                view.label = name
                self.follow(name, try view.applyAsync($noteRun, runs, name, seconds, failures)) { $0[0] }
            case "gathered":
                var view = self.client.broadcastView(.engines(targets), isCoalescing: true)
                view.label = name
                let copies = targets.count
                self.follow(name, try view.applyAsync($noteRun, runs, name, seconds, failures)) { values in
                    values.count == copies && Set(values).count == 1 ? values[0] : ["\(values)"]
                }
            default:
                var view = self.client.loadBalancedView()
                view.label = name
                view.retries = retries
                if kind == "after" { view.after = TaskDependency(needs.map { $0.id }) }
                if kind == "follow" { view.follow = TaskDependency(needs.map { $0.id }) }
                let result =
                    kind == "argument"
                    ? try view.applyAsync(
                        $noteRunGiven, .result(ofTask: needs[0].id), .value(needs[0].name), .value(runs), .value(name),
                        .value(seconds), .value(failures))
                    : try view.applyAsync($noteRun, runs, name, seconds, failures)
                self.follow(name, result) { $0 }
                self.recent = self.recent.suffix(9) + [(name, result.messageIDs[0])]
            }
        } catch {
            self.journal.note("refused", name, JSONObject(failure: error))
        }
    }

    /// Writes the outcome of each of the tasks of a result down once it is there.
    private func follow<Output>(
        _ name: String, _ result: AsyncResult<Output>, _ value: @escaping @Sendable (Output) -> [String]
    ) {
        self.journal.note("sent", name, ["ids": .array(result.messageIDs.map { .string($0.text) })])
        self.waiting[name] = .now
        Task {
            let outcomes = (try? await result.outcomes) ?? []
            for (id, outcome) in zip(result.messageIDs, outcomes) {
                switch outcome {
                case .success(let output):
                    self.noteOutcome(of: id, name, by: "reply", ["value": JSONValue(value(output))])
                case .failure(let error): self.noteOutcome(of: id, name, by: "reply", JSONObject(failure: error))
                }
            }
            self.able.formUnion(result.metadata.filter { $0.status == .ok }.compactMap { $0.engineID })
            self.waiting[name] = nil
        }
    }

    private func noteOutcome(of id: TaskID, _ name: String, by: String, _ outcome: JSONObject) {
        self.journal.note("outcome", name, ["id": .string(id.text), "by": .string(by)].merging(outcome) { $1 })
    }

    // MARK: Tasks of the clients before

    /// Asks for the tasks of the clients before this one that have no outcome. Those whose ids are not known are looked for until
    /// they are found, or a last time when the caller is cancelled: their requests may still be on their way.
    private func takeUpEarlier() async {
        var known: Set<String> = []
        // Tasks whose ids are not known, with their numbers of copies.
        var unsent: [String: Int] = [:]
        for line in self.journal.earlier {
            let name = line["task"]?.string ?? ""
            switch line["do"] {
            case "begin": unsent[name] = line["kind"] == "gathered" ? nil : line["copies"]?.int
            case "sent", "refused": unsent[name] = nil
            case "outcome": known.insert(line["id"]?.string ?? "")
            default: break
            }
        }
        for line in self.journal.earlier where line["do"] == "sent" {
            for id in line["ids"]?.array ?? [] where !known.contains(id.string ?? "") {
                self.ask(for: TaskID(id.string ?? ""), line["task"]?.string ?? "")
            }
        }
        while !unsent.isEmpty {
            let isLast = Task.isCancelled
            for (name, ids) in await self.find(Array(unsent.keys)) where ids.count == unsent[name] || isLast {
                self.journal.note("sent", name, ["ids": .array(ids.map { .string($0.text) }), "by": "label"])
                unsent[name] = nil
                for id in ids { self.ask(for: id, name) }
            }
            if isLast { return }
            await self.pause(.seconds(2))
        }
    }

    /// The ids of the tasks of these labels, as far as the hub knows them.
    private func find(_ labels: [String]) async -> [String: [TaskID]] {
        // In a task of its own, which is not cancelled with its caller.
        let query = Task { [client] in
            try await client.dbQuery(["label": ["$in": JSONValue(labels)]], keys: ["label", "metadata"])
        }
        // The hub cannot read its records while the disk is full.
        let records = (try? await query.value) ?? []
        return Dictionary(grouping: records) { $0.label ?? "" }.mapValues { $0.map { $0.id } }
    }

    private func ask(for id: TaskID, _ name: String) {
        self.asked[id] = name
        Task {
            // A request that was in the socket of a client that was killed may still come, or never.
            let end = ContinuousClock.now + .seconds(30)
            while self.asked[id] != nil {
                do {
                    let value = try await self.client.getResult(id, as: [String].self).value
                    self.noteOutcome(of: id, name, by: "hub", ["value": JSONValue(value)])
                    break
                } catch let error as ApusError where error.code == .resultNotFound {
                    if ContinuousClock.now > end { break }
                } catch let error as ApusError where [.hubError, .connectionLost, .controllerGone].contains(error.code) {
                    // The hub could not tell. That is no outcome of the task.
                } catch {
                    self.noteOutcome(of: id, name, by: "hub", JSONObject(failure: error))
                    break
                }
                await self.pause(.seconds(1))
            }
            self.asked[id] = nil
        }
    }
}
