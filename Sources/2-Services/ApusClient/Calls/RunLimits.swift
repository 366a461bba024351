import ApusCore
import ApusWire

// Engines of ipyparallel ignore a run limit. A caller who set one gets an error, and does not wait for such an engine.
extension ClientConnection {
    /// The engines that do not keep run limits, and the engines of which that is unknown, among those that a limited task may run
    /// on.
    private struct LimitKnowledge {
        var refusing: [EngineID] = []
        var unknown: [(id: EngineID, uuid: EngineUUID)] = []
    }

    private func limitKnowledge(of engines: [(id: EngineID, uuid: EngineUUID)]) -> LimitKnowledge {
        let controllerTells = self.knows(.limits)
        return self.withDirectory { directory in
            var knowledge = LimitKnowledge()
            for engine in engines {
                // A controller with this feature lists all engines that keep limits.
                switch directory.keepsLimits(engine.uuid) ?? (controllerTells ? false : nil) {
                case true: break
                case false: knowledge.refusing.append(engine.id)
                case nil: knowledge.unknown.append(engine)
                }
            }
            return knowledge
        }
    }

    /// Checks that engines that are addressed directly keep run limits.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` when an engine is known not to keep limits. An engine of which that is
    ///   unknown is asked, and the limited tasks sent to it fail when it answers that it keeps none.
    func requireLimits(of engines: [(id: EngineID, uuid: EngineUUID)]) throws {
        let knowledge = self.limitKnowledge(of: engines)
        if let engine = knowledge.refusing.first { throw Self.noLimits(on: engine) }
        self.ask(knowledge.unknown)
    }

    /// Checks that a scheduler will find an engine that keeps run limits, and gives the engines that must all keep the task's
    /// limit; none where the controller chooses an engine that does.
    ///
    /// - Parameter engines: The engines to choose among; empty for any engine that may yet come.
    /// - Throws: ``ApusError`` with code `notSupported` where the task would run, or might run, on an engine that keeps no
    ///   limits.
    func requireLimits(amongAnyOf engines: [(id: EngineID, uuid: EngineUUID)]) throws -> [EngineUUID] {
        let knowledge = self.limitKnowledge(of: engines)
        if self.knows(.limits) {
            // Such a controller chooses an engine that keeps limits.
            if let engine = knowledge.refusing.first, knowledge.refusing.count == engines.count {
                throw Self.noLimits(on: engine)
            }
            return []
        }
        if let engine = knowledge.refusing.first { throw Self.noLimits(on: engine) }
        self.ask(knowledge.unknown)
        return engines.map { $0.uuid }
    }

    static func noLimits(on engine: EngineID) -> ApusError {
        ApusError(
            .notSupported,
            "engine \(engine) keeps no run limits: Apus's engines do ('apus engine'), ipyparallel's run on. Set no runLimit, or choose "
                + "engines of Apus")
    }

    /// Asks engines what they are, on the control channel, which is not held up by tasks that run.
    private func ask(_ engines: [(id: EngineID, uuid: EngineUUID)]) {
        for engine in engines {
            Task {
                let kind = MessageType(rawValue: "kernel_info_request")
                // An engine that does not answer may still keep limits.
                guard let about = try? await self.request(kind, content: [:], on: .control, to: engine.uuid) else { return }
                let keepsLimits = about["implementation"]?.string == "apus"
                self.handle(.engineTold(engine.uuid, keepsLimits: keepsLimits))
                if !keepsLimits { self.failLimitedTasks(on: engine) }
            }
        }
    }

    /// Checks that the engine that answered a limited task knew of the limit: an engine that came later was not asked.
    ///
    /// - Throws: ``ApusError`` with code `notSupported`.
    func requireLimit(heededIn reply: Message, of task: PendingTask) throws(TaskFailure) {
        guard task.mustSayLimit else { return }
        let metadata = try? ReplyMetadata.ForClient(scanning: reply.metadata)
        if metadata?.saysLimit == true { return }
        let engine = (metadata?.engine ?? task.targets.first).flatMap { self.engineID(of: $0) }
        throw TaskFailure(
            ApusError(
                .notSupported,
                "task '\(task.id)' ran on engine \(engine.map { "\($0)" } ?? "?"), which keeps no run limits, so its result was dropped: "
                    + "Apus's engines keep them ('apus engine'), ipyparallel's do not. Set no runLimit, or choose engines of Apus"
            ))
    }

    private func failLimitedTasks(on engine: (id: EngineID, uuid: EngineUUID)) {
        let tasks = self.pendingTasks.filter { $0.limitedOn?.contains(engine.uuid) == true }.map { $0.id }
        // An abort request without ids would abort all tasks.
        guard !tasks.isEmpty else { return }
        self.handleOnLoop(.limitsAreNotKept(by: engine.id, tasks))
        // Tasks that wait in the engine's queue need not run at all.
        let ids = JSONValue.array(tasks.map { .string($0.text) })
        Task { _ = try? await self.request(.abortRequest, content: ["msg_ids": ids], on: .control, to: engine.uuid) }
    }
}
