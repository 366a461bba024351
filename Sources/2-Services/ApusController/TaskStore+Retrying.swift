import ApusStore
import ApusWire

extension TaskStore {
    /// The existing records of these tasks. A store that lasts and cannot be read, because its disk is full for example, is tried again
    /// for some six seconds; another kind of store never becomes readable.
    nonisolated(nonsending) func recordsRetrying(
        of ids: [TaskID], fields: Set<TaskField>
    ) async throws(TaskStoreError) -> [TaskRecord] {
        var pause = Duration.milliseconds(100)
        while true {
            do { return try await self.records(of: ids, fields: fields) } catch {
                guard self.isDurable, pause < .seconds(5), (try? await Task.sleep(for: pause)) != nil else { throw error }
                pause *= 2
            }
        }
    }
}
