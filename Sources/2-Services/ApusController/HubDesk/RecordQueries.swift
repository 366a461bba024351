import ApusCore
import ApusStore
import ApusWire

/// Answers requests about task records from the store, and has recorded tasks run again.
struct RecordQueries {
    private let answers: HubAnswers
    private let engines: EngineRoster
    private let tasks: TaskDesk

    init(_ store: any TaskStore, engines: EngineRoster, tasks: TaskDesk) {
        self.answers = HubAnswers(store: store)
        self.engines = engines
        self.tasks = tasks
    }

    nonisolated(nonsending) func answer(to type: MessageType, _ content: JSONValue) async -> HubAnswer {
        switch type {
        case .historyRequest, .resultRequest, .databaseRequest:
            return await Self.lookUp(type, content, self.answers)
        case .purgeRequest:
            let engines = Dictionary(uniqueKeysWithValues: self.engines.all.map { ($0.id, $0.uuid) })
            return await self.answers.purge(content, engines: engines)
        default:
            do { return self.tasks.resubmit(try await self.answers.tasksToResubmit(content)) } catch { return HubAnswer(error) }
        }
    }

    /// Answers requests that only read, off the event loop: searching records with a pattern, or reading a thousand, may take
    /// seconds.
    @concurrent
    private static func lookUp(_ type: MessageType, _ content: JSONValue, _ answers: HubAnswers) async -> HubAnswer {
        switch type {
        case .historyRequest: await answers.history()
        case .resultRequest: await answers.results(content)
        default: await answers.query(content)
        }
    }
}
