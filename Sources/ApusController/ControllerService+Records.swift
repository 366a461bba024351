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
        case .historyRequest, .resultRequest, .databaseRequest: answer = await Self.lookUp(header.type, content, answers)
        case .purgeRequest:
            let engines = Dictionary(uniqueKeysWithValues: self.registry.engines.map { ($0.id, $0.uuid) })
            answer = await answers.purge(content, engines: engines)
        default: answer = await self.resubmit(content, answers)
        }
        self.answer(message, header, answer.content, buffers: answer.buffers)
        self.flushSockets()
    }

    /// Answers what only reads. A pattern or a thousand records may take seconds to go through, so it is done beside the loop.
    @concurrent
    private nonisolated static func lookUp(_ type: MessageType, _ content: JSONValue, _ answers: HubAnswers) async -> HubAnswer {
        switch type {
        case .historyRequest: await answers.history()
        case .resultRequest: await answers.results(content)
        default: await answers.query(content)
        }
    }

    /// Runs recorded tasks again under new ids. Nobody waits for their replies: whoever wants them asks for the records.
    private func resubmit(_ content: JSONValue, _ answers: HubAnswers) async -> HubAnswer {
        let records: [TaskRecord]
        do { records = try await answers.tasksToResubmit(content) } catch { return HubAnswer(error) }
        let tasks = records.compactMap { Resubmission(of: $0, as: self.session.nextMessageID(), at: .now) }
        var again: [(task: Resubmission, message: Message, request: TaskRequest, inputs: TaskInputs?)] = []
        for task in tasks {
            let message = self.signedAgain(task.parts, identities: [Self.ownIdentity], buffers: task.buffers)
            var request = TaskRequest(task.id)
            do {
                request.inputs = Array(try ResultPlaces(scanning: message.metadata).results.values)
                again.append((task, message, request, try self.inputs(of: message, request)))
            } catch {
                // Of a request to an engine, what it says of results was not read when it came.
                return HubAnswer(TaskStoreError(.valueError, "task '\(task.original)' cannot be run again: \(error)"))
            }
        }
        for (task, message, request, inputs) in again {
            self.changes += task.changes(request: message)
            self.resubmitted.insert(task.id)
            self.submit(message, request, inputs)
        }
        self.scheduleFlush()
        return HubAnswers.resubmitted(tasks)
    }
}
