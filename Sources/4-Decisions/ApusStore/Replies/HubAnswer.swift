package import ApusWire
package import NIOCore

/// The hub's answer to a request: the reply's content and buffers. Errors are contents too, under Python's names.
package struct HubAnswer: Sendable, Hashable {
    package var content: JSONObject
    package var buffers: [ByteBuffer]

    package init(content: JSONObject, buffers: [ByteBuffer] = []) {
        self.content = content
        self.buffers = buffers
    }

    package init(_ error: TaskStoreError) { self.init(content: error.content.json) }
}

/// Answers the requests that are about task records (protocol article, "Queries"), from a store.
///
/// The methods run where they are called from, and wait only for the store.
package struct HubAnswers: Sendable {
    package let store: any TaskStore

    package init(store: any TaskStore) { self.store = store }
}

// MARK: - History

extension HubAnswers {
    /// `history_request`: all ids, by submission.
    package nonisolated(nonsending) func history() async -> HubAnswer {
        do throws(TaskStoreError) {
            let ids = try await self.store.history()
            return HubAnswer(content: ["status": "ok", "history": JSONValue(ids.map { $0.text })])
        } catch { return HubAnswer(error) }
    }
}

// MARK: - Results

extension HubAnswers {
    private static let resultFields: Set<TaskField> = TaskField.ofOutputs.union([
        .id, .header, .metadata, .resultHeader, .resultMetadata, .resultContent, .resultBuffers, .received,
    ])

    /// `result_request`: which of some tasks have ended, and unless only that is asked, their results.
    ///
    /// The buffers of the results follow each other in the order of the sorted ids, which is how clients take them apart.
    package nonisolated(nonsending) func results(_ content: JSONValue) async -> HubAnswer {
        do throws(TaskStoreError) {
            // Sorted by code points, as the client sorts them to take the buffers apart.
            let ids = Set(try Self.ids(content)).sorted { $0.text.utf8.lexicographicallyPrecedes($1.text.utf8) }
            return content["status_only"] == true ? try await self.states(of: ids) : try await self.results(of: ids)
        } catch { return HubAnswer(error) }
    }

    private nonisolated(nonsending) func states(of ids: [TaskID]) async throws(TaskStoreError) -> HubAnswer {
        var (pending, completed): ([String], [String]) = ([], [])
        for (id, state) in zip(ids, try await self.store.states(of: ids)) {
            switch state {
            case .unfinished: pending.append(id.text)
            case .finished, .culled: completed.append(id.text)
            case .unknown, .stub: throw Self.missing(id, state)
            }
        }
        return HubAnswer(content: ["status": "ok", "pending": JSONValue(pending), "completed": JSONValue(completed)])
    }

    private nonisolated(nonsending) func results(of ids: [TaskID]) async throws(TaskStoreError) -> HubAnswer {
        let records = try await self.store.records(of: ids, fields: Self.resultFields)
        let missing = Set(ids).subtracting(records.lazy.filter { !$0.isStub }.map { $0.id })
        if let id = ids.first(where: { missing.contains($0) }) {
            throw Self.missing(id, try await self.store.states(of: [id]).first ?? .unknown)
        }
        var (pending, completed): ([String], [String]) = ([], [])
        var answer = HubAnswer(content: ["status": "ok"])
        for record in records {
            guard let reply = record.reply else {
                pending.append(record.id.text)
                continue
            }
            completed.append(record.id.text)
            answer.content[record.id.text] = [
                "header": record.json(.header), "metadata": record.json(.metadata),
                "result_metadata": record.json(.resultMetadata), "result_header": record.json(.resultHeader),
                "result_content": record.json(.resultContent), "received": record.json(.received),
                "io": [
                    "execute_input": record.json(.executeInput), "execute_result": record.json(.executeResult),
                    "error": record.json(.error), "stdout": record.json(.stdout), "stderr": record.json(.stderr),
                    // Not in Python's answers; its clients have a member of this name for displayed contents.
                    "outputs": record.json(.outputs),
                ],
            ]
            answer.buffers.append(contentsOf: reply.buffers)
        }
        answer.content["pending"] = JSONValue(pending)
        answer.content["completed"] = JSONValue(completed)
        return answer
    }

    static func missing(_ id: TaskID, _ state: TaskState) -> TaskStoreError {
        let reason =
            switch state {
            case .culled: " (it has ended; its record went when the task database was full)"
            case .stub: " (output of it came, but no request: broadcasts are not recorded)"
            case .unknown, .unfinished, .finished: ""
            }
        return TaskStoreError(.keyError, "No such message: \(id)\(reason)")
    }

    static func ids(_ content: JSONValue) throws(TaskStoreError) -> [TaskID] {
        guard let ids = content["msg_ids"]?.array else {
            throw TaskStoreError(.typeError, "msg_ids is a list of ids, not \((content["msg_ids"] ?? .null).brief)")
        }
        return try ids.map { (id) throws(TaskStoreError) in
            guard let text = id.string else { throw TaskStoreError(.typeError, "msg_ids is a list of ids; \(id.brief) is none") }
            return TaskID(text)
        }
    }
}

// MARK: - Queries

extension HubAnswers {
    /// `db_request`: the fields asked for of the records that match.
    ///
    /// Buffers are never inside a record. If they are asked for, each record's own and then its result's are added to the
    /// reply's, and their numbers listed. If no keys are named, all fields but the buffers are given.
    package nonisolated(nonsending) func query(_ content: JSONValue) async -> HubAnswer {
        do throws(TaskStoreError) {
            let query = try TaskQuery(content["query"].flatMap { $0.isNull ? nil : $0 } ?? [:])
            let keys = try TaskField.keys(content["keys"] ?? .null)
            let fields = keys ?? TaskField.allButBuffers
            let records = try await self.store.records(matching: query, fields: fields)

            var (buffers, counts, resultCounts): ([ByteBuffer], [JSONValue], [JSONValue]) = ([], [], [])
            var members: [JSONValue] = []
            members.reserveCapacity(records.count)
            for record in records {
                members.append(.object(Self.members(of: record, fields, named: keys != nil)))
                if fields.contains(.buffers) {
                    counts.append(.int(record.request?.buffers.count ?? 0))
                    buffers.append(contentsOf: record.request?.buffers ?? [])
                }
                if fields.contains(.resultBuffers) {
                    resultCounts.append(.int(record.reply?.buffers.count ?? 0))
                    buffers.append(contentsOf: record.reply?.buffers ?? [])
                }
            }
            return HubAnswer(
                content: [
                    "status": "ok", "records": .array(members),
                    "buffer_lens": fields.contains(.buffers) ? .array(counts) : .null,
                    "result_buffer_lens": fields.contains(.resultBuffers) ? .array(resultCounts) : .null,
                ], buffers: buffers)
        } catch { return HubAnswer(error) }
    }

    private static func members(of record: TaskRecord, _ fields: Set<TaskField>, named: Bool) -> JSONObject {
        var members: JSONObject = ["msg_id": .string(record.id.text)]
        for field in fields where field != .buffers && field != .resultBuffers {
            let value = record.json(field)
            // Python's records have this one only when something was displayed.
            if field == .displayData && value.isNull && !named { continue }
            members[field.rawValue] = value
        }
        return members
    }
}

// MARK: - Purging

extension HubAnswers {
    /// `purge_request`: forgets tasks that have ended: all, or some, and all that some engines ran.
    ///
    /// If any part of the request is wrong, nothing is forgotten.
    ///
    /// - Parameter engines: The engines that requests may name, also those that are gone.
    package nonisolated(nonsending) func purge(_ content: JSONValue, engines: [EngineID: EngineUUID]) async -> HubAnswer {
        do throws(TaskStoreError) {
            if content["msg_ids"] == "all" {
                // Called only for the error that a store which keeps nothing throws for every request.
                _ = try await self.store.states(of: [])
                self.store.apply([.dropCompleted])
                return HubAnswer(content: ["status": "ok"])
            }
            let ids = content["msg_ids"].map { $0.isNull } ?? true ? [] : try Self.ids(content)
            for (id, state) in zip(ids, try await self.store.states(of: ids)) where state == .unfinished {
                throw TaskStoreError(.indexError, "msg pending: '\(id)'")
            }
            var changes: [TaskChange] = ids.isEmpty ? [] : [.drop(ids)]
            for number in content["engine_ids"]?.array ?? [] {
                guard let engine = number.int.flatMap({ engines[EngineID($0)] }) else {
                    throw TaskStoreError(.indexError, "No such engine: \(number.brief)")
                }
                changes.append(.dropCompletedOf(engine))
            }
            self.store.apply(changes)
            return HubAnswer(content: ["status": "ok"])
        } catch { return HubAnswer(error) }
    }
}
