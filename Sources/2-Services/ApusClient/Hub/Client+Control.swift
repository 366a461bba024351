import ApusCore
public import ApusWire

extension Client {
    /// Aborts tasks that have not started, at the controller and on engines. Their results throw ``ApusError`` with code
    /// `taskAborted`.
    ///
    /// - Parameters:
    ///   - tasks: The tasks to abort; nil: all that are outstanding.
    ///   - interrupting: Whether running tasks are interrupted too: asynchronous Swift functions are cancelled, Python gets its
    ///     `KeyboardInterrupt`. Synchronous Swift functions, tasks on engines of ipyparallel, and tasks that begin at this very
    ///     moment go on to their end.
    public func abort(_ tasks: [TaskID]? = nil, interrupting: Bool = false) async throws {
        if tasks == nil { for map in self.connection.maps { map.stop() } }
        let ids = tasks ?? Array(self.outstanding)
        guard !ids.isEmpty else { return }
        var content: JSONObject = ["msg_ids": .array(ids.map { .string($0.text) })]
        if interrupting { content[ApusMember.running] = true }
        if self.ids.isEmpty {
            // The controller aborts tasks that wait for an engine when it passes an abort request on. Here the request is for no
            // engine, so the answer is an error, which is ignored. Controllers of ipyparallel would not answer.
            guard self.connection.knows(.aborts) else { return }
            do {
                _ = try await self.connection.request(.abortRequest, content: content, on: .control, to: EngineUUID("none"))
            } catch is RemoteError {}
            return
        }
        try await self.control(.abortRequest, content, .all)
    }

    /// Empties the namespaces of the targets.
    public func clear(_ targets: Targets = .all) async throws { try await self.control(.clearRequest, [:], targets) }

    /// Sends a signal, by name (`SIGINT`) or number, to the targets' processes.
    public func sendSignal(_ signal: String, to targets: Targets = .all) async throws {
        try await self.control(.signalRequest, ["sig": Int(signal).map { .int($0) } ?? .string(signal)], targets)
    }

    /// Stops engines, or all engines and the controller.
    ///
    /// - Parameters:
    ///   - targets: The engines to stop; with `hub`, all engines.
    ///   - restart: Whether engines that run Python stay, with a new interpreter whose namespace is empty. A task that such an
    ///     engine was running ends with an error. Engines without Python stop.
    ///   - hub: Whether the controller stops too; the client cannot be used any more then.
    public func shutdown(_ targets: Targets = .all, restart: Bool = false, hub: Bool = false) async throws {
        if !self.ids.isEmpty {
            try await self.control(.shutdownRequest, ["restart": .bool(restart && !hub)], hub ? .all : targets)
        }
        if hub { _ = try await self.connection.request(.shutdownRequest, content: [:], on: .query) }
    }

    /// Sends a control request to each target and waits for every answer.
    private func control(_ type: MessageType, _ content: JSONObject, _ targets: Targets) async throws {
        let engines = try self.connection.resolve(targets)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for engine in engines {
                group.addTask { _ = try await self.connection.request(type, content: content, on: .control, to: engine.uuid) }
            }
            var errors: [any Error] = []
            while let outcome = await group.nextResult() {
                // An engine that ends while it is told to stop has obeyed, and an engine that is gone has nothing to abort.
                let isMet = type == .shutdownRequest || type == .abortRequest
                if case .failure(let error) = outcome, !isMet || !Self.saysEngineIsGone(error) { errors.append(error) }
            }
            if errors.count == 1 { throw errors[0] }
            if !errors.isEmpty {
                throw CompositeError(
                    "\(type) failed on \(errors.count) of \(engines.count) engines", errors.map { TaskFailure($0) })
            }
        }
    }

    private static func saysEngineIsGone(_ error: any Error) -> Bool {
        switch error {
        case let error as RemoteError: ErrorName(rawValue: error.name) == .engineError
        case let error as ApusError: error.code == .engineDied
        default: false
        }
    }
}
