import ApusCore
import ApusStore
import ApusWire
import NIOCore

// Requests about task records, answered from the store.
extension ControllerService {
    func answerFromRecords(_ message: Message, _ header: MessageHeader, _ content: JSONValue) async {
        let answers = HubAnswers(store: self.store)
        let answer: HubAnswer
        switch header.type {
        case .historyRequest: answer = await answers.history()
        case .resultRequest: answer = await answers.results(content)
        case .databaseRequest: answer = await answers.query(content)
        case .purgeRequest:
            let engines = Dictionary(uniqueKeysWithValues: self.registry.engines.map { ($0.id, $0.uuid) })
            answer = await answers.purge(content, engines: engines)
        default: answer = await self.resubmit(content, answers)
        }
        self.answer(message, header, answer.content, buffers: answer.buffers)
        self.flushSockets()
    }

    /// Runs recorded tasks again under new ids. Nobody waits for their replies: whoever wants them asks for the records.
    private func resubmit(_ content: JSONValue, _ answers: HubAnswers) async -> HubAnswer {
        let records: [TaskRecord]
        do { records = try await answers.tasksToResubmit(content) } catch { return HubAnswer(error) }
        let tasks = records.compactMap { Resubmission(of: $0, as: self.session.nextMessageID(), at: .now) }
        for task in tasks {
            let request = self.session.signed(task.parts, identities: [Self.ownIdentity], buffers: task.buffers)
            self.changes += task.changes(request: request)
            self.resubmitted.insert(task.id)
            var again = TaskRequest(task.id)
            again.inputs = (try? ResultPlaces(scanning: request.metadata)).map { Array($0.results.values) } ?? []
            self.submit(request, again, try? self.inputs(of: request, again))
        }
        self.scheduleFlush()
        return HubAnswers.resubmitted(tasks)
    }
}
