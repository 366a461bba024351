internal import ApusClient
internal import ApusFunctions
internal import ApusWire
internal import Locks
internal import NIOCore

/// Sends requests of many kinds from one client of a simulated world, waits for each, and judges how it ended.
struct ClientScript: Sendable {
    private let name: String
    private let client: Client
    private let life: WorldLife
    private let numbers: Counter
    /// The longest time that a request may take, even with slow engines.
    private static let patience = Duration.seconds(240)
    /// The results of earlier load-balanced tasks, on which later tasks may depend.
    private let earlier = Results()

    private final class Results: Sendable {
        let list = Mutex<[AsyncResult<Int>]>([])
    }

    /// How often a request may run, and how it may end besides with its value.
    private struct Terms {
        /// How often the request's function may run; nil if the runs are not counted.
        var runs: Int?
        /// Whether the function, or a task on which the request depends, may fail.
        var mayFail = false
        /// How long the request may wait for the tasks on which it depends.
        var timeout: Duration?
        /// Whether the function may exceed its run limit: a value and an error are then both right.
        var mayExceed = false
        /// Whether the request changes nothing: the client then repeats it when a broken connection has lost the answer.
        var isQuestion = false
        /// Whether the request's function submits tasks, which may be lost.
        var isNested = false
        /// Whether the request is a broadcast, which a client does not send again to a controller that does not know it.
        var isBroadcast = false
        /// The task on which the request depends, if that task had ended well and its client had the value before the request was sent.
        var ended: TaskID?
    }

    init(_ client: SimulatedClient, _ life: WorldLife, _ numbers: Counter) {
        self.name = client.name
        self.client = client.client
        self.life = life
        self.numbers = numbers
    }

    func run() async {
        await withTaskGroup { group in
            for _ in 0..<self.life.nature.requests {
                await self.life.pause(below: 500_000_000)
                let number = self.numbers.next()
                group.addTask { await self.ask(number) }
            }
        }
    }

    private func ask(_ number: Int) async {
        let time = self.life.time
        let x = Int(time.below(1000))
        let function = self.life.functions.double
        switch time.below(20) {
        case 0...7: await self.balanced(number, x)
        case 8...9:
            await self.request(number, "double(\(x)) at every engine") {
                let values = try await self.value(number, try self.client.directView().applyAsync(function, number, x))
                return values.allSatisfy { $0 == x * 2 } ? nil : "\(values)"
            }
        case 10...11:
            await self.request(number, "double(\(x)) at one engine") {
                let ids = self.client.ids
                guard !ids.isEmpty else { throw ApusError(.noEnginesRegistered, "none is there") }
                let view = self.client[ids[Int(time.below(Int64(ids.count)))]]
                let value = try await self.value(number, try view.applyAsync(function, number, x))
                return value == x * 2 ? nil : "\(value)"
            }
        case 12...13:
            let isCoalescing = time.chance(50)
            let terms = Terms(isBroadcast: true)
            await self.request(number, "double(\(x)) by \(isCoalescing ? "coalescing " : "")broadcast", terms) {
                let view = self.client.broadcastView(isCoalescing: isCoalescing)
                let values = try await self.value(number, try view.applyAsync(function, number, x))
                return values.allSatisfy { $0 == x * 2 } ? nil : "\(values)"
            }
        case 14: await self.map(number)
        case 15: await self.nested(number, x)
        case 16: await self.limited(number)
        case 17:
            await self.request(number, "use(\(x)), which few engines may", Terms(runs: 1)) {
                let view = self.client.loadBalancedView().with { $0.resources = [SimulatedFunctions.resource: 1] }
                let value = try await self.value(number, try view.applyAsync(self.life.functions.use, number, x))
                return value == x * 2 ? nil : "\(value)"
            }
        case 18: await self.purge(number)
        default:
            await self.request(number, "the hub's queues and history", Terms(isQuestion: true)) {
                for _ in 0..<3 {
                    _ = try await self.client.queueStatus()
                    _ = try await self.client.hubHistory()
                }
                return nil
            }
        }
    }

    // MARK: Kinds of requests

    /// Sends a load-balanced task with a random choice of a view's options.
    private func balanced(_ number: Int, _ x: Int) async {
        let time = self.life.time
        var view = self.client.loadBalancedView()
        var text = ""
        if time.chance(40) {
            view.retries = Int(time.below(3))
            text += ", retries \(view.retries)"
        }
        if time.chance(10) {
            view.engineTimeout = .milliseconds(50 + time.below(3000))
            text += ", engine time-out"
        }
        view.priority = Int(time.below(3))
        let fails = time.chance(15)
        let before = self.earlier.list.withLock { $0 }
        let other = before.isEmpty ? nil : before[Int(time.below(Int64(before.count)))]
        let takes = other != nil && !fails && time.chance(25)
        var terms = Terms(runs: view.retries + 1, mayFail: fails || takes)
        if let other, time.chance(20) {
            let dependency = TaskDependency(other, success: true, failure: time.chance(50))
            if time.chance(70) { view.after = dependency } else { view.follow = dependency }
            text += ", depends"
            terms.mayFail = true
            terms.ended = other.messageIDs.first.flatMap { id in
                self.life.results.withLock { $0.contains { $0.0 == id } } ? id : nil
            }
        }
        if time.chance(20) {
            view.timeout = .milliseconds(10 + time.below(2000))
            terms.timeout = view.timeout
            text += ", time-out"
        }
        let isAborted = self.life.nature.hasAborts && time.chance(20)
        let isForgotten = time.chance(10)
        await self.request(
            number, "balanced \(takes ? "add(result, \(x))" : "double(\(fails ? -1 - x : x))")\(text)", terms
        ) { [view] in
            let result: AsyncResult<Int>
            if takes, let other {
                result = try view.applyAsync(self.life.functions.add, .value(number), .result(of: other), .value(x))
            } else {
                result = try view.applyAsync(self.life.functions.double, number, fails ? -1 - x : x)
            }
            self.earlier.list.withLock { $0.append(result) }
            if isAborted {
                await self.life.pause(below: 300_000_000)
                self.life.chronicle.note(.abort, "request \(number) is aborted")
                try await result.abort()
            }
            let value = try await self.value(number, result)
            if let task = result.messageIDs.first {
                if isForgotten {
                    self.life.noteForgotten(task)
                    try await self.client.purgeHubResults([task])
                } else {
                    self.life.results.withLock { $0.append((task, value)) }
                }
            }
            if takes, let other { return try await value == other.value + x ? nil : "\(value)" }
            return value == x * 2 && !fails ? nil : "\(value)"
        }
    }

    /// Sends a map, whose chunks have a fixed size, or a size that the client chooses by measuring.
    private func map(_ number: Int) async {
        let time = self.life.time
        let count = 1 + Int(time.below(40))
        let size = time.chance(50) ? 1 + Int(time.below(7)) : nil
        let retries = time.chance(30) ? 1 : 0
        let elements = (0..<count).map { number * SimulatedFunctions.elements + $0 }
        await self.request(
            number, "a map of \(count), \(size.map { "chunks of \($0)" } ?? "measured"), retries \(retries)",
            Terms(runs: count * (retries + 1))
        ) {
            let view = self.client.loadBalancedView().with { $0.retries = retries }
            let result = try view.mapAsync(self.life.functions.doubleElement, elements, chunkSize: size)
            defer { self.life.chronicle.note(number, became: result.messageIDs) }
            let values = try await result.value(timeout: Self.patience)
            return values == elements.map { $0 * 2 } ? nil : "\(values)"
        }
    }

    /// Sends a task whose function submits tasks and waits for them.
    private func nested(_ number: Int, _ x: Int) async {
        let depth = Int(self.life.time.below(3))
        await self.request(number, "nest(\(x)), \(depth) deep", Terms(isNested: true)) {
            let view = self.client.loadBalancedView()
            let value = try await self.value(number, try view.applyAsync(self.life.functions.nest, number, x, depth))
            return value == x << (depth + 1) ? nil : "\(value)"
        }
    }

    /// Sends a task whose function sleeps, perhaps beyond its run limit.
    private func limited(_ number: Int) async {
        let time = self.life.time
        let milliseconds = Int(time.below(3000))
        let limit = time.chance(60) ? 1 + Int(time.below(4000)) : nil
        var terms = Terms(runs: 1)
        // The engine may take up the function's end only after the limit, because the engine is slow or paused.
        if let limit { terms.mayExceed = milliseconds + 1 >= limit || self.life.nature.hangs > 0 || limit - milliseconds < 1500 }
        await self.request(number, "wait(\(milliseconds))\(limit.map { ", no longer than \($0)" } ?? "")", terms) {
            let view = self.client.loadBalancedView().with { $0.runLimit = limit.map { .milliseconds($0) } }
            let value = try await self.value(number, try view.applyAsync(self.life.functions.wait, number, milliseconds))
            if let limit, milliseconds > limit { return "a value beyond its limit" }
            return value == milliseconds ? nil : "\(value)"
        }
    }

    /// Asks the hub to forget a task that has ended.
    private func purge(_ number: Int) async {
        await self.request(number, "forget a task that has ended") {
            let task = self.life.results.withLock { results in
                results.isEmpty ? nil : results.remove(at: Int(self.life.time.below(Int64(results.count)))).0
            }
            guard let task else { return nil }
            self.life.noteForgotten(task)
            try await self.client.purgeHubResults([task])
            return nil
        }
    }

    // MARK: Judging

    /// Waits for a result, at most for the longest time that a request may take, and gives its value.
    private func value<Output>(_ number: Int, _ result: AsyncResult<Output>) async throws -> Output {
        self.life.chronicle.note(number, became: result.messageIDs)
        return try await result.value(timeout: Self.patience)
    }

    /// Sends a request, waits for its end and judges it.
    ///
    /// - Parameter body: Sends the request and waits for its value. Returns the value as a text if it is wrong, else nil.
    private func request(
        _ number: Int, _ text: String, _ terms: Terms = Terms(), _ body: @escaping @Sendable () async throws -> String?
    ) async {
        let chronicle = self.life.chronicle
        // Runs are not counted where the terms do not say how many there may be: a request to several engines runs at each.
        chronicle.began(number, "\(self.name): \(text)", runs: terms.runs ?? 1000, isNested: terms.isNested)
        let start = ContinuousClock.now
        do {
            if let wrong = try await body() { chronicle.violate("request \(number) gave \(wrong)") }
            chronicle.ended(number, "well")
        } catch {
            chronicle.ended(number, "\(error)")
            if !self.isExcused(error, number, terms, after: ContinuousClock.now - start) {
                chronicle.violate("request \(number) failed without a cause: \(error)")
            }
        }
    }

    /// Whether a misfortune, or the terms of the request, explains the error.
    private func isExcused(_ error: any Error, _ number: Int, _ terms: Terms, after duration: Duration) -> Bool {
        let chronicle = self.life.chronicle
        let losses = chronicle.losses
        let lostController = chronicle.has(.controller) || chronicle.has(.clientConnection)
        // A time-out breaks a promise whatever else has happened, except for the causes named here.
        switch (error as? ApusError)?.code {
        case .timeout:
            return chronicle.wasLostAtEngine(number) || losses.mayWaitForEver(chronicle.tasks(of: number))
                || terms.isNested && chronicle.mayHaveLostInnerTasks
        case .taskTimeout: return terms.timeout.map { duration >= $0 } ?? false
        default: break
        }
        // A durable store knows how the task ended, whichever controller had it.
        if (error as? ApusError)?.code == .invalidDependency, self.life.nature.isDurable, let ended = terms.ended {
            return self.life.isForgotten(ended)
        }
        if terms.mayFail { return true }
        // A function that submits tasks fails with an error of its own when one of these tasks fails.
        if terms.isNested, error is RemoteError, chronicle.has(.engine) || lostController { return true }
        switch error {
        case let error as CompositeError: return error.errors.allSatisfy { self.isExcused($0, number, terms, after: duration) }
        case let error as ApusError:
            switch error.code {
            case .engineDied, .noEnginesRegistered, .noSuchEngine: return chronicle.has(.engine) || lostController
            case .taskAborted: return chronicle.has(.abort)
            case .taskLost:
                let isSentAgain = self.life.nature.isDurable && !terms.isBroadcast
                return losses.excuses(.taskLost, isSentAgain: isSentAgain) || chronicle.has(.clientConnection)
            case .connectionLost: return lostController && !terms.isQuestion
            case .controllerGone: return lostController
            default: return false
            }
        case let error as RemoteError:
            if error.name == "RunLimitExceeded" { return terms.mayExceed }
            if losses.excuses(error) { return true }
            if error.name == LyingTransport.errorName {
                chronicle.noteDeceived(number)
                return true
            }
            return error.name == "EngineError" && (chronicle.has(.engine) || lostController)
        default: return false
        }
    }
}
