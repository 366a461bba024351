internal import ApusClient
internal import ApusWire

/// Records which tasks may have been lost with controllers that died, and excuses the errors that follow from such a loss.
///
/// A controller with a durable store takes up the unfinished tasks that the store still has; a controller with a store in memory
/// takes up none. Most errors are forgiven with either store. Everything that is forgiven for lost tasks is forgiven here;
/// ``ClientScript`` also excuses errors about engines and connections once a controller has died.
struct ControllerLosses: Sendable {
    /// Requests that a controller has and no engine has, each with the controller's process.
    private var holders: [String: Int] = [:]
    /// Requests that engines have, each with the engine's process and the process of the controller that gave the request.
    private var given: [String: (engine: Int, controller: Int)] = [:]
    private var lastController = 0
    /// Tasks that no engine had when their controller died, and tasks of an earlier controller whose engine was given up.
    private var tasks: Set<TaskID> = []
    /// Whether any controller has died.
    private(set) var hasDied = false

    // MARK: Who has what

    /// Called when a controller gets a request from its client, gets it back from an engine, or gets its answer to pass on.
    mutating func came(_ request: String, toController process: Int) {
        self.holders[request] = process
        self.given[request] = nil
        self.lastController = max(self.lastController, process)
    }

    mutating func came(_ request: String, toEngine process: Int) {
        self.holders[request] = nil
        self.given[request] = (process, self.lastController)
    }

    /// Called when the answer has come to the client.
    mutating func ended(_ request: String) { self.holders[request] = nil }

    /// Called when a controller gives up an engine, which then drops its requests. The controller still has the requests that it
    /// gave the engine itself; requests that an earlier controller gave are taken for lost.
    mutating func gaveUp(engine: Int, by controller: Int) {
        for (request, holder) in self.given where holder.engine == engine {
            self.given[request] = nil
            if holder.controller == controller { self.holders[request] = controller } else { self.tasks.insert(TaskID(request)) }
        }
    }

    mutating func died(_ process: Int) {
        self.hasDied = true
        for (request, holder) in self.holders where holder == process {
            self.tasks.insert(TaskID(request))
            self.holders[request] = nil
        }
    }

    // MARK: What is forgiven

    /// Whether one of the tasks may never end: it waited at a controller that died, was about to be tried again, or was dropped by
    /// its engine. Its record may still name an engine.
    func mayWaitForEver(_ request: Set<TaskID>) -> Bool { !self.tasks.isDisjoint(with: request) }
    /// Whether a task that a function submitted may never end. The ids of such tasks are not known for the client's request.
    var mayHaveLostInnerTasks: Bool { !self.tasks.isEmpty }
    /// Whether the code is a client's error for a task that was lost with its controller.
    ///
    /// - Parameter isSentAgain: Whether the store is durable, and the request one that its client sends again if the store has no record
    ///   of it, so that it cannot be lost.
    func excuses(_ code: ApusError.Code, isSentAgain: Bool) -> Bool { self.hasDied && code == .taskLost && !isSentAgain }
    /// Whether the error is a lie that a later controller may have recorded: this controller takes the first answer to a task of
    /// the dead controller, even from a lying engine that was not given the task.
    func excuses(_ error: RemoteError) -> Bool { self.hasDied && error.name == LyingTransport.errorName }
    /// Whether an engine may run a task that another engine has run.
    var mayRunAgain: Bool { self.hasDied }
    /// Whether records of tasks may stay unfinished.
    var mayLeaveRecords: Bool { self.hasDied }
}
