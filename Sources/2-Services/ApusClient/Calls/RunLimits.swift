import ApusCore
import ApusWire

// Engines of ipyparallel pass over a run limit and run on. Nobody who set one should wait for such an engine in silence.
extension ClientConnection {
    /// What is known of engines that a task with a run limit may run on; those not in it keep limits.
    private struct LimitKnowledge {
        var refusing: [EngineID] = []
        var unknown: [(id: EngineID, uuid: EngineUUID)] = []
    }

    private func limitKnowledge(of engines: [(id: EngineID, uuid: EngineUUID)]) -> LimitKnowledge {
        let controllerTells = self.knows(.limits)
        return self.withDirectory { directory in
            var knowledge = LimitKnowledge()
            for engine in engines {
                // It tells of those that do.
                switch directory.keepsLimits(engine.uuid) ?? (controllerTells ? false : nil) {
                case true: break
                case false: knowledge.refusing.append(engine.id)
                case nil: knowledge.unknown.append(engine)
                }
            }
            return knowledge
        }
    }

    /// Looks whether engines that are addressed directly keep run limits.
    ///
    /// - Throws: ``ApusError`` with code `notSupported` when one is known not to. One of which that is not known is asked, and
    ///   the limited tasks sent to it fail when it says no.
    func requireLimits(of engines: [(id: EngineID, uuid: EngineUUID)]) throws {
        let knowledge = self.limitKnowledge(of: engines)
        if let engine = knowledge.refusing.first { throw Self.noLimits(on: engine) }
        self.ask(knowledge.unknown)
    }

    /// Looks whether a scheduler will find an engine that keeps run limits for a task, and gives those that the task depends on
    /// for that.
    ///
    /// - Parameter engines: Those to choose among; empty for any that may yet come.
    /// - Throws: ``ApusError`` with code `notSupported`.
    func requireLimits(amongAnyOf engines: [(id: EngineID, uuid: EngineUUID)]) throws -> [EngineUUID] {
        let knowledge = self.limitKnowledge(of: engines)
        if self.knows(.limits) {
            // That controller chooses one that does.
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

    /// Asks engines what they are, by the way that is not held up by what they run.
    private func ask(_ engines: [(id: EngineID, uuid: EngineUUID)]) {
        for engine in engines {
            Task {
                let kind = MessageType(rawValue: "kernel_info_request")
                // One that does not answer may yet do what is asked of it.
                guard let about = try? await self.request(kind, content: [:], on: .control, to: engine.uuid) else { return }
                let keepsLimits = about["implementation"]?.string == "apus"
                self.handle(.engineTold(engine.uuid, keepsLimits: keepsLimits))
                if !keepsLimits { self.failLimitedTasks(on: engine) }
            }
        }
    }

    /// Looks whether the engine that answered a limited task knew of the limit: one may have come that nobody had asked.
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
        // To abort nothing in particular is to abort everything.
        guard !tasks.isEmpty else { return }
        self.handleOnLoop(.limitsAreNotKept(by: engine.id, tasks))
        // Those that wait in its queue need not run at all.
        let ids = JSONValue.array(tasks.map { .string($0.text) })
        Task { _ = try? await self.request(.abortRequest, content: ["msg_ids": ids], on: .control, to: engine.uuid) }
    }
}
