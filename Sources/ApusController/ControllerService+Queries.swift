import ApusCore
import ApusStore
import ApusTransport
import ApusWire
import Logging
import NIOCore

// What the hub answers at the registration socket (protocol article, "Queries").
extension ControllerService {
    func takeHubRequest(_ request: VerifiedRequest) {
        let (message, header) = (request.message, request.header)
        guard let content = try? JSONValue(parsing: message.content) else {
            return self.dropped("a content is torn", at: .registration)
        }
        switch header.type {
        case .registrationRequest: self.register(message, content)
        case .unregistrationRequest: self.unregister(content)
        case .functionsRequest: self.answer(message, header) { try self.describe(content) }
        case .connectionRequest:
            let engines = self.registry.engines.map { ("\($0.id)", JSONValue.string($0.uuid.text)) }
            let places = self.registry.engines.compactMap { engine in
                engine.memoryPlace.map { ("\(engine.id)", JSONValue.string($0)) }
            }
            let limiting = self.registry.engines.filter { $0.abilities.keepsLimits }.map { JSONValue.int($0.id.number) }
            var apus: JSONObject = [:]
            // Nobody need wait for engines that will not come.
            apus["no_engine_is_coming"] = self.scheduler.noEngineIsComing.map { .string($0) }
            let features = ControllerFeature.allCases.map { JSONValue.string($0.rawValue) }
            self.answer(
                message, header,
                [
                    "status": "ok", "engines": .object(JSONObject(uniqueKeysWithValues: engines)),
                    "apus": .object(
                        apus.merging([
                            "features": .array(features), "memory": .object(JSONObject(uniqueKeysWithValues: places)),
                            "limits": .array(limiting),
                            "max_message": .int(self.options.maximumMessageSize ?? MessageSize.standard),
                        ]) { $1 }),
                ])
        case .queueRequest: self.answer(message, header) { try self.queueStatus(content) }
        case .loadRequest: self.answer(message, header) { try self.loads(content) }
        // Whether to start again is only asked of engines.
        case .shutdownRequest where content["restart"] != nil:
            self.dropped("a request to shut down is an engine's", at: .registration)
        case .shutdownRequest: self.shutDown(message, header)
        case .historyRequest, .resultRequest, .databaseRequest, .purgeRequest, .resubmitRequest:
            self.flushChanges()
            Task { await self.answerFromRecords(message, header, content) }
        case .becomeDaskRequest, .stopDistributedRequest:
            self.answer(
                message, header,
                ErrorContent(
                    .notImplementedError, "this controller cannot start a dask cluster yet; start dask on the engines by hand"
                ).json)
        default: self.answer(message, header, type: .hubError, Self.keyError("Bad Message Type: '\(header.type)'").json)
        }
    }

    static func keyError(_ text: String) -> ErrorContent { ErrorContent(.keyError, text) }

    func answer(
        _ request: Message, _ header: MessageHeader, type: MessageType? = nil, _ content: JSONObject, buffers: [ByteBuffer] = []
    ) {
        let reply = self.session.message(
            type ?? header.type.reply, identities: Array(request.identities), parent: request.header, content: content,
            buffers: buffers)
        self.send(reply.frames, on: .registration)
    }

    /// An answer that fails as a `hub_error`, as Python's does for bad targets.
    private func answer(_ request: Message, _ header: MessageHeader, _ make: () throws -> JSONObject) {
        do {
            self.answer(request, header, try make())
        } catch let error as HubRequestError {
            self.answer(request, header, type: .hubError, error.content.json)
        } catch {
            self.answer(request, header, type: .hubError, ErrorContent(name: "RuntimeError", value: "\(error)").json)
        }
    }

    // MARK: Queues

    /// A request that cannot be answered, under the name by which Python knows the reason.
    struct HubRequestError: Error {
        fileprivate let content: ErrorContent
        init(_ name: ErrorName, _ text: String) { self.content = ErrorContent(name, text) }
    }

    /// The engines that `targets` names: null for all, an id, a uuid, or a list of either.
    private func engines(_ content: JSONValue) throws -> [(id: EngineID, uuid: EngineUUID)] {
        guard let targets = content["targets"] else { throw HubRequestError(.keyError, "the request has no 'targets'") }
        let all = self.registry.engines.map { (id: $0.id, uuid: $0.uuid) }
        if targets.isNull { return all }
        let wanted = targets.array ?? [targets]
        guard !wanted.isEmpty else { throw HubRequestError(.indexError, "No Engines Registered") }
        let found = wanted.map { value in all.first { $0.id.number == value.int || $0.uuid.text == value.string } }
        let missing = zip(wanted, found).filter { $0.1 == nil }.map { $0.0 }
        guard missing.isEmpty else { throw HubRequestError(.indexError, "No Such Engine: \(JSONValue.array(missing))") }
        return found.compactMap { $0 }
    }

    private func queueStatus(_ content: JSONValue) throws -> JSONObject {
        let verbose = content["verbose"]?.bool ?? false
        var reply: JSONObject = ["status": "ok"]
        func ids(_ tasks: [TaskID]) -> JSONValue { verbose ? .array(tasks.map { .string($0.text) }) : .int(tasks.count) }
        for engine in try self.engines(content) {
            reply["\(engine.id)"] = [
                "queue": ids(self.direct.queue(of: engine.uuid)), "tasks": ids(self.scheduler.assigned(to: engine.uuid)),
                "completed": verbose
                    ? .array(self.direct.completed(of: engine.uuid)) : .int(self.direct.completedCount(of: engine.uuid)),
            ]
        }
        reply["unassigned"] = verbose ? ids(self.scheduler.waiting) : .int(self.scheduler.waitingCount)
        if self.scheduler.waitingCount > 0 {
            // Why tasks wait, for whoever asks; a hundred say it all.
            let asked = content["apus_tasks"]?.array?.prefix(10_000).compactMap { $0.string.map { TaskID($0) } }
            let context = self.reasonContext
            var reasons: JSONObject = [:]
            for task in asked ?? Array(self.scheduler.waiting.prefix(100)) {
                if let reason = self.scheduler.whyWaiting(task) { reasons[task.text] = .string(reason.text(context)) }
            }
            reply["apus_waiting"] = .object(reasons)
        }
        return reply
    }

    private func loads(_ content: JSONValue) throws -> JSONObject {
        var reply: JSONObject = ["status": "ok"]
        for engine in try self.engines(content) {
            reply["\(engine.id)"] = .int(
                self.direct.queue(of: engine.uuid).count + self.scheduler.assigned(to: engine.uuid).count)
        }
        return reply
    }

    // MARK: Shutdown

    private func shutDown(_ message: Message, _ header: MessageHeader) {
        self.logger.info("a client asked the controller to shut down")
        self.answer(message, header, ["status": "ok"])
        let notice = self.session.message(.shutdownNotification, parent: message.header, content: ["status": "ok"])
        self.send(notice.frames, on: .notification)
        self.flushSockets()
        // Python's peers expect about a second in which engines' last words and this notice are still delivered.
        self.eventLoop.assumeIsolated().scheduleTask(in: .seconds(1)) { self.stop() }
    }
}
