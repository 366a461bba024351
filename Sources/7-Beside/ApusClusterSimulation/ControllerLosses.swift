internal import ApusClient
internal import ApusWire

/// What the death of a controller may cost, for the next one does not take up what the first had not finished.
///
/// Everything that is forgiven for that reason is forgiven here and nowhere else, so that it can be taken away in one piece when a controller
/// queues again what its store says is unfinished: this file, and the places that do not compile without it.
struct ControllerLosses: Sendable {
    /// Requests that a controller has and no engine does: each with the process of the controller.
    private var holders: [String: Int] = [:]
    /// Requests that engines have, each with the process of the engine and that of the controller which gave it.
    private var given: [String: (engine: Int, controller: Int)] = [:]
    private var lastController = 0
    /// Tasks that nobody had any more when their controller died.
    private var tasks: Set<TaskID> = []
    /// Whether any controller has died.
    private(set) var hasDied = false

    // MARK: Who has what

    /// A request has come to a controller from its client, or back from an engine; or the answer that the controller has yet to pass on.
    mutating func came(_ request: String, toController process: Int) {
        self.holders[request] = process
        self.given[request] = nil
        self.lastController = max(self.lastController, process)
    }

    mutating func came(_ request: String, toEngine process: Int) {
        self.holders[request] = nil
        self.given[request] = (process, self.lastController)
    }

    /// The answer has come to the client.
    mutating func ended(_ request: String) { self.holders[request] = nil }

    /// A controller gives up an engine, which will drop what it has. What came from this controller is the controller's again; of what came
    /// from an earlier one it does not know.
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

    /// Nobody will end a task that waited at the controller or was about to be tried again, or that its engine has dropped. Its record may
    /// say that an engine has it.
    func mayWaitForEver(_ request: Set<TaskID>) -> Bool { !self.tasks.isDisjoint(with: request) }
    /// The same of tasks that functions of engines submitted, whose ids are not known by their request.
    var mayHaveLostInnerTasks: Bool { !self.tasks.isEmpty }
    /// A client finds that a task was lost with its controller.
    func excuses(_ code: ApusError.Code) -> Bool { self.hasDied && code == .taskLost }
    /// The record of a task that the dead controller had takes the first answer, even that of an engine which lies of tasks that others have.
    func excuses(_ error: RemoteError) -> Bool { self.hasDied && error.name == LyingTransport.errorName }
    /// An engine may run again what another has run.
    var mayRunAgain: Bool { self.hasDied }
    /// A record may never be finished.
    var mayLeaveRecords: Bool { self.hasDied }
}
