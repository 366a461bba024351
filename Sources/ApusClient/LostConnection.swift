import ApusWire

// What becomes of requests whose answers a broken connection may have taken with it.
//
// A socket that connects again is a stranger to the controller, which has nowhere to send what it owed to the old one; and the
// controller may be another, started where the old one ended. So each task is looked up in the hub's database: its result is there,
// or will be, or nobody is left to bring one. Whoever waits is told in every case.
extension ClientConnection {
    /// How long engines may take to find a new controller, in which they do what they were told by the old one.
    private static let engineReturn = Duration.seconds(10)

    /// As many tasks as the hub is asked for at a time: their results come in one message.
    private static let askedAtOnce = 1000

    /// An answer to a question that was on its way when the connection broke.
    static let unanswered = ApusError(.connectionLost, "the connection to the controller broke before it answered")

    /// Looks for the results of tasks that were on their way.
    ///
    /// - Parameter earlierHub: Who the hub was then.
    func recover(_ tasks: [PendingTask], earlierHub: String?) async {
        let began = ContinuousClock.now
        var pause = PollingPause()
        do {
            // Also tells who the hub is now.
            try await self.refreshEngines()
            let isAnother = self.hubSession != earlierHub
            while true {
                let waiting = tasks.filter { !$0.isDone }
                if waiting.isEmpty { break }
                for start in stride(from: 0, to: waiting.count, by: Self.askedAtOnce) {
                    let some = Array(waiting[start..<min(start + Self.askedAtOnce, waiting.count)])
                    await self.fetchKnown(some, isAnother)
                    guard isAnother else { continue }
                    let engineMayReturn = began.duration(to: .now) < Self.engineReturn
                    try await self.failLost(some.filter { !$0.isDone }, engineMayReturn: engineMayReturn)
                }
                try await pause.wait()
            }
        } catch {
            // Whom a closed client or a controller out of reach concerns was told so already.
            for task in tasks where !task.isDone {
                task.fail(ApusError(.taskLost, "what became of task '\(task.id)' cannot be found out", cause: error))
            }
        }
        self.forget(tasks.map { $0.id })
    }

    /// Completes what the hub has results of, and fails what it does not know.
    private func fetchKnown(_ tasks: [PendingTask], _ isAnother: Bool) async {
        do { try await self.fetchResults(of: tasks) } catch {
            guard tasks.count == 1, let task = tasks.first else {
                for task in tasks where !task.isDone { await self.fetchKnown([task], isAnother) }
                return
            }
            guard let error = error as? RemoteError else {
                return task.fail(
                    error as? ApusError ?? ApusError(.badResult, "a result from the hub cannot be read", cause: error))
            }
            let why =
                isAnother ? "the controller that had it has ended, and the one there now has no record of it" : "\(error.value)"
            task.fail(
                ApusError(
                    .taskLost, "task '\(task.id)' was lost with the connection to the controller: \(why). Submit it again",
                    cause: error))
        }
    }

    /// Fails what no engine has that a new controller knows.
    private func failLost(_ tasks: [PendingTask], engineMayReturn: Bool) async throws {
        if tasks.isEmpty { return }
        let reply = try await self.request(
            .databaseRequest,
            content: ["query": ["msg_id": ["$in": .array(tasks.map { .string($0.id.text) })]], "keys": ["engine_uuid"]],
            on: .query)
        var engines: [TaskID: EngineUUID] = [:]
        for record in reply["records"]?.array ?? [] {
            guard let id = record["msg_id"]?.string, let engine = record["engine_uuid"]?.string else { continue }
            engines[TaskID(id)] = EngineUUID(engine)
        }
        for task in tasks {
            let why: String
            if let engine = engines[task.id] {
                if engineMayReturn || self.engineID(of: engine) != nil { continue }
                why = "its engine has not come to the one there now"
            } else {
                why = "it had not been given to an engine"
            }
            task.fail(
                ApusError(
                    .taskLost, "task '\(task.id)' was lost, for the controller that had it has ended and \(why). Submit it again")
            )
        }
    }
}
