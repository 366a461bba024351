internal import ApusController
internal import ApusEngine
internal import ApusLaunchers
internal import ApusWire

/// Starts dask's scheduler as a process of this machine, which ends with this one.
struct LocalDaskLauncher: DaskLauncher {
    /// The interpreter, a path or a name; nil: the active environment's, else one on the path.
    let python: String?
    /// The file that the scheduler's log goes to; nil: nowhere.
    let log: String?

    func launch(_ arguments: JSONObject) -> DaskProcess {
        let (events, continuation) = AsyncStream.makeStream(of: DaskProcessEvent.self)
        let life = Task {
            let end = await self.run(arguments) { continuation.yield($0) }
            continuation.yield(.ended(end))
            continuation.finish()
        }
        return DaskProcess(events: events) { life.cancel() }
    }

    /// Runs the process until it ends; cancelled, ends it. Returns why it has ended.
    private func run(_ arguments: JSONObject, _ report: @escaping @Sendable (DaskProcessEvent) -> Void) async -> ErrorContent {
        guard let interpreter = PythonOptions.interpreters(self.python).first else {
            let problem =
                self.python.map { "there is no interpreter \($0)" }
                ?? "there is neither an active environment nor python3 on the path; name one with the controller's --python"
            return Self.error("dask's scheduler needs Python: \(problem)")
        }
        let process: LocalProcess
        do {
            process = try await LocalProcess.start(
                LocalCommand(
                    interpreter,
                    arguments: [
                        "-c", String(decoding: PackageResources.dask_scheduler_py, as: UTF8.self),
                        JSONValue.object(arguments).description,
                    ], output: self.log.map { .log($0) } ?? .discarded, parentWatch: .channel))
        } catch { return Self.error("dask's scheduler cannot be started: \(error)") }
        // The process has a channel because its command asks for one.
        guard let channel = process.channel else { return Self.error("dask's scheduler cannot be reached") }
        let reading = Task { () -> ErrorContent? in
            var refusal: ErrorContent?
            for await line in channel.lines {
                let words = try? JSONValue(parsing: line)
                if let ip = words?["ip"]?.string, let address = words?["address"]?.string, let port = words?["port"]?.int {
                    report(.listening(ip: ip, address: address, port: port))
                } else if let words, words["ename"] != nil {
                    refusal = ErrorContent(words)
                }
            }
            return refusal
        }
        let refusal = await withTaskCancellationHandler {
            await reading.value
        } onCancel: {
            channel.end()
        }
        let exit = await Self.end(process)
        return refusal ?? Self.error("dask's scheduler \(exit)")
    }

    /// Waits until a process has ended whose channel is closed; one that takes too long is stopped.
    private static func end(_ process: LocalProcess) async -> ProcessExit {
        // Not in the caller's task, which may be cancelled.
        let exit = await Task {
            await withTaskGroup(of: ProcessExit?.self) { group in
                group.addTask { await process.wait() }
                group.addTask {
                    try? await Task.sleep(for: .seconds(5))
                    return nil
                }
                let exit = await group.next() ?? nil
                group.cancelAll()
                return exit
            }
        }.value
        if let exit { return exit }
        return await process.stop()
    }

    private static func error(_ text: String) -> ErrorContent { ErrorContent(name: "RuntimeError", value: text) }
}
