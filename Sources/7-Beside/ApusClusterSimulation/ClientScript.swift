internal import ApusClient
internal import ApusFunctions
internal import ApusWire
internal import Locks
internal import NIOCore

/// What one client of a simulated world does: it sends requests of many kinds, waits for each, and judges how it ended.
struct ClientScript: Sendable {
    private let name: String
    private let client: Client
    private let life: WorldLife
    private let numbers: Counter
    /// The last balanced results, for those that depend on them.
    private let earlier = Results()

    private final class Results: Sendable {
        let list = Mutex<[AsyncResult<Int>]>([])
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
        switch time.below(10) {
        case 0...4: await self.balanced(number, x)
        case 5:
            await self.request(number, "double(\(x)) at every engine") {
                let values = try await self.value(number, try self.client.directView().applyAsync(function, number, x))
                return values.allSatisfy { $0 == x * 2 } ? nil : "\(values)"
            }
        case 6:
            await self.request(number, "double(\(x)) at one engine") {
                let ids = self.client.ids
                guard !ids.isEmpty else { throw ApusError(.noEnginesRegistered, "none is there") }
                let view = self.client[ids[Int(time.below(Int64(ids.count)))]]
                let value = try await self.value(number, try view.applyAsync(function, number, x))
                return value == x * 2 ? nil : "\(value)"
            }
        case 7...8:
            let isCoalescing = time.chance(50)
            await self.request(number, "double(\(x)) by \(isCoalescing ? "coalescing " : "")broadcast") {
                let view = self.client.broadcastView(isCoalescing: isCoalescing)
                let values = try await self.value(number, try view.applyAsync(function, number, x))
                return values.allSatisfy { $0 == x * 2 } ? nil : "\(values)"
            }
        default:
            await self.request(number, "the hub's queues and history") {
                for _ in 0..<3 {
                    _ = try await self.client.queueStatus()
                    _ = try await self.client.hubHistory()
                }
                return nil
            }
        }
    }

    /// A task of the scheduler's, with whatever a view can say of one.
    private func balanced(_ number: Int, _ x: Int) async {
        let time = self.life.time
        var view = self.client.loadBalancedView()
        var text = ""
        if time.chance(40) {
            view.retries = Int(time.below(3))
            text += ", retries \(view.retries)"
        }
        let fails = time.chance(15)
        let before = self.earlier.list.withLock { $0 }
        let other = before.isEmpty ? nil : before[Int(time.below(Int64(before.count)))]
        let takes = other != nil && !fails && time.chance(25)
        var mayFail = fails || takes
        if let other, time.chance(20) {
            let dependency = TaskDependency(other, success: true, failure: time.chance(50))
            if time.chance(70) { view.after = dependency } else { view.follow = dependency }
            text += ", depends"
            mayFail = true
        }
        let isAborted = self.life.nature.hasAborts && time.chance(20)
        await self.request(
            number, "balanced \(takes ? "add(result, \(x))" : "double(\(fails ? -1 - x : x))")\(text)", runs: view.retries + 1,
            mayFail: mayFail
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
            if let task = result.messageIDs.first { self.life.results.withLock { $0.append((task, value)) } }
            if takes, let other { return try await value == other.value + x ? nil : "\(value)" }
            return value == x * 2 && !fails ? nil : "\(value)"
        }
    }

    /// The value of a result, as long as anybody may have to wait for one.
    private func value<Output>(_ number: Int, _ result: AsyncResult<Output>) async throws -> Output {
        self.life.chronicle.note(number, became: result.messageIDs)
        return try await result.value(timeout: .seconds(120))
    }

    /// Sends a request, waits for its end and judges it.
    ///
    /// - Parameter body: Gives what is wrong with the value; nil if it is right.
    private func request(
        _ number: Int, _ text: String, runs: Int? = nil, mayFail: Bool = false,
        _ body: @escaping @Sendable () async throws -> String?
    ) async {
        let chronicle = self.life.chronicle
        // Where each of several engines runs it, they are not counted.
        chronicle.began(number, "\(self.name): \(text)", runs: runs ?? 1000)
        do {
            if let wrong = try await body() { chronicle.violate("request \(number) gave \(wrong)") }
            chronicle.ended(number, "well")
        } catch {
            chronicle.ended(number, "\(error)")
            let isLate = (error as? ApusError)?.code == .timeout
            if !mayFail || isLate, !self.isExcused(error, number) {
                chronicle.violate("request \(number) failed without a cause: \(error)")
            }
        }
    }

    /// Whether something that happened explains the error.
    private func isExcused(_ error: any Error, _ number: Int) -> Bool {
        let chronicle = self.life.chronicle
        let lostController = chronicle.has(.controller) || chronicle.has(.clientConnection)
        switch error {
        case let error as CompositeError: return error.errors.allSatisfy { self.isExcused($0, number) }
        case let error as ApusError:
            switch error.code {
            case .engineDied, .noEnginesRegistered, .noSuchEngine: return chronicle.has(.engine) || lostController
            case .taskAborted: return chronicle.has(.abort)
            case .timeout: return chronicle.wasLostAtEngine(number)
            case .taskLost, .connectionLost, .controllerGone: return lostController
            default: return false
            }
        case let error as RemoteError: return error.name == "EngineError" && (chronicle.has(.engine) || lostController)
        default: return false
        }
    }
}
