public import ApusWire

extension Client {
    /// Makes Python engines a cluster of dask.distributed, and gives the address of its scheduler, which dask's clients connect to.
    ///
    /// The scheduler is started at the controller, and a worker in each engine, where tasks of this client run as before. There is one
    /// scheduler for all clients: a second call adds workers. The engines and the controller need `distributed`, the engines
    /// `ipyparallel` too.
    ///
    /// ```swift
    /// let address = try await client.becomeDask(workerArguments: ["memory_limit": "1GB"])
    /// // In Python: distributed.Client(address)
    /// try await client.stopDask()
    /// ```
    ///
    /// - Parameters:
    ///   - targets: The engines that become workers.
    ///   - nanny: Whether a worker is a process of its own, which its nanny starts again when it dies.
    ///   - schedulerArguments: Arguments of `distributed.Scheduler`, such as `port`; without effect where a scheduler runs already.
    ///   - workerArguments: Arguments of `distributed.Worker`, or of `distributed.Nanny`; `nthreads` is 1 unless told.
    /// - Throws: ``ApusError`` with code `hubError` when the scheduler cannot be started, and `notSupported` from a controller that
    ///   starts no processes; ``RemoteError`` or ``CompositeError`` when workers cannot.
    public func becomeDask(
        _ targets: Targets = .all, nanny: Bool = false, schedulerArguments: JSONObject = [:], workerArguments: JSONObject = [:]
    ) async throws -> String {
        let reply = try await self.hubRequest(.becomeDaskRequest, ["scheduler_args": .object(schedulerArguments)])
        guard let address = reply["address"]?.string else {
            throw ApusError(.hubError, "the controller's answer about dask's scheduler makes no sense: \(reply)")
        }
        var arguments = workerArguments
        if arguments["nthreads"] == nil { arguments["nthreads"] = 1 }
        let start: PythonFunction = .source(
            """
            lambda address, nanny, arguments: __import__("importlib").import_module("ipyparallel.util").become_dask_worker(
                address, nanny=nanny, **__import__("json").loads(arguments))
            """)
        _ = try await self.directView(targets).apply(
            start, address, nanny, JSONValue.object(arguments).description, returning: IgnoredValue.self)
        return address
    }

    /// Ends the scheduler of ``becomeDask(_:nanny:schedulerArguments:workerArguments:)`` and the workers in these engines.
    public func stopDask(_ targets: Targets = .all) async throws {
        _ = try await self.hubRequest(.stopDistributedRequest, [:])
        _ = try await self.directView(targets).apply("ipyparallel.util.stop_distributed_worker", returning: IgnoredValue.self)
    }
}
