import ApusCore
import ApusWire
import NIOCore

/// Why a request to the hub cannot be answered, under the name of a Python exception.
struct HubRequestError: Error {
    let content: ErrorContent
    init(_ name: ErrorName, _ text: String) { self.content = ErrorContent(name, text) }
}

/// Answers requests of clients about engines and their queues (protocol article, "Queries"), without changing anything.
struct HubQueries {
    let engines: EngineRoster
    let tasks: TaskDesk
    let direct: DirectDesk

    /// The answer to a connection request: which engines are registered, and what this controller can do.
    func connection(_ options: ControllerOptions) -> JSONObject {
        let all = self.engines.all
        let engines = all.map { ("\($0.id)", JSONValue.string($0.uuid.text)) }
        let places = all.compactMap { engine in engine.memoryPlace.map { ("\(engine.id)", JSONValue.string($0)) } }
        let limiting = all.filter { $0.abilities.keepsLimits }.map { JSONValue.int($0.id.number) }
        let features = ControllerFeature.allCases.filter { $0 != .restoration || self.tasks.restores }
        var apus: JSONObject = [
            "features": .array(features.map { JSONValue.string($0.rawValue) }),
            "memory": .object(JSONObject(uniqueKeysWithValues: places)), "limits": .array(limiting),
            "max_message": .int(options.maximumMessageSize ?? MessageSize.standard),
        ]
        if self.tasks.restores { apus["reports"] = .array(self.direct.reporting.map { .string($0.text) }) }
        // So that clients need not wait for engines that will not come.
        if let reason = self.tasks.noEngineIsComing { apus["no_engine_is_coming"] = .string(reason) }
        return ["status": "ok", "engines": .object(JSONObject(uniqueKeysWithValues: engines)), "apus": .object(apus)]
    }

    /// The engines that `targets` names: null for all, an id, a uuid, or a list of either.
    private func targets(_ content: JSONValue) throws(HubRequestError) -> [EngineRegistry.Engine] {
        guard let targets = content["targets"] else { throw HubRequestError(.keyError, "the request has no 'targets'") }
        let all = self.engines.all
        if targets.isNull { return all }
        let wanted = targets.array ?? [targets]
        guard !wanted.isEmpty else { throw HubRequestError(.indexError, "No Engines Registered") }
        let found = wanted.map { value in all.first { $0.id.number == value.int || $0.uuid.text == value.string } }
        let missing = zip(wanted, found).filter { $0.1 == nil }.map { $0.0 }
        guard missing.isEmpty else { throw HubRequestError(.indexError, "No Such Engine: \(JSONValue.array(missing))") }
        return found.compactMap { $0 }
    }

    func queueStatus(_ content: JSONValue) throws(HubRequestError) -> JSONObject {
        let verbose = content["verbose"]?.bool ?? false
        var reply: JSONObject = ["status": "ok"]
        func ids(_ tasks: [TaskID]) -> JSONValue { verbose ? .array(tasks.map { .string($0.text) }) : .int(tasks.count) }
        for engine in try self.targets(content) {
            reply["\(engine.id)"] = [
                "queue": ids(self.direct.queue(of: engine.uuid)), "tasks": ids(self.tasks.assigned(to: engine.uuid)),
                "completed": verbose
                    ? ids(self.direct.completed(of: engine.uuid)) : .int(self.direct.completedCount(of: engine.uuid)),
            ]
        }
        reply["unassigned"] = verbose ? ids(self.tasks.waiting) : .int(self.tasks.waitingCount)
        if self.tasks.waitingCount > 0 {
            // Why the tasks that the client asks for wait, or the first hundred.
            let asked = content[ApusMember.tasks]?.array?.prefix(10_000).compactMap { $0.string.map { TaskID($0) } }
            reply[ApusMember.waiting] = .object(self.tasks.reasons(for: asked ?? Array(self.tasks.waiting.prefix(100))))
        }
        return reply
    }

    /// How long the controller has run, and what it is (protocol article, "Uptime").
    func uptime(since began: NIODeadline) -> JSONObject {
        let seconds = Double((NIODeadline.now() - began).nanoseconds) / 1e9
        return ["status": "ok", "uptime": .double(seconds), "version": .string(ApusVersion.text)]
    }

    func loads(_ content: JSONValue) throws(HubRequestError) -> JSONObject {
        var reply: JSONObject = ["status": "ok"]
        for engine in try self.targets(content) {
            reply["\(engine.id)"] = .int(
                self.direct.queueCount(of: engine.uuid) + self.tasks.assigned(to: engine.uuid).count)
        }
        return reply
    }
}
