public import ApusFunctions

/// Runs work on a load-balanced view in the manner of an executor: submit, map, shut down.
///
/// ```swift
/// let executor = client.executor()
/// let result = try executor.submit($simulate, seed)
/// try await executor.shutdown()
/// ```
public final class ViewExecutor: Sendable {
    /// The view through which the work goes.
    public let view: LoadBalancedView
    private let work: ExecutorWork

    init(_ view: LoadBalancedView) {
        self.view = view
        self.work = ExecutorWork()
    }

    /// Calls the function on an engine of the scheduler's choice, without waiting.
    ///
    /// - Throws: ``ApusError`` with code `closed` after ``shutdown(wait:)``.
    public func submit<Output, each Input>(
        _ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input
    ) throws -> AsyncResult<Output> {
        try self.work.checkIsOpen()
        let result = try self.view.applyAsync(function, repeat each arguments)
        self.work.add(result.tasks)
        return result
    }

    /// Calls the function on every element; the results are iterated as they come, in the order of the input.
    ///
    /// - Parameter chunkSize: How many calls a task makes; see ``LoadBalancedView/map(_:_:chunkSize:)-(_,_,Int?)``.
    /// - Throws: ``ApusError`` with code `closed` after ``shutdown(wait:)``.
    public func map<Input, Output>(
        _ function: RemoteFunction<Output, Input>, _ elements: some Sequence<Input>, chunkSize: Int? = nil
    ) throws -> AsyncMapResult<Output> {
        try self.work.checkIsOpen()
        let result = try self.view.mapAsync(function, elements, chunkSize: chunkSize)
        self.work.add(result.run)
        return result
    }

    /// Refuses further work; the engines run on. May be called again.
    ///
    /// - Parameter wait: Whether to wait until all submitted work has ended, with results or errors.
    public func shutdown(wait: Bool = true) async throws {
        let (tasks, maps) = self.work.close()
        guard wait else { return }
        for task in tasks { try await task.wait() }
        for map in maps { try await map.wait() }
    }
}

extension Client {
    /// An executor on a load-balanced view of the targets; nil: of any engine.
    public func executor(_ targets: Targets? = nil) -> ViewExecutor { self.loadBalancedView(targets).executor }
}

extension LoadBalancedView {
    /// An executor that sends its work through this view, with this view's flags.
    public var executor: ViewExecutor { ViewExecutor(self) }
}
