import ApusStore
import ApusWire
import Foundation
import NIOCore
import Testing

/// Answers that were captured from Python's hub. A store with the same records must give the same answers.
@Suite("The answers of Python's hub")
struct PythonAnswersTests {
    @Test("A result")
    func result() async throws {
        let exchange = try Exchange("result_request")
        let answer = await exchange.answers().results(exchange.request)
        #expect(answer.content.withoutOutputs == exchange.reply.withoutOutputs)
        #expect(answer.buffers == exchange.buffers)
    }

    @Test("A query with buffers")
    func query() async throws {
        let exchange = try Exchange("db_query")
        let answer = await exchange.answers(from: try Exchange("result_request")).query(exchange.request)
        #expect(answer.content == exchange.reply)
        #expect(answer.buffers == exchange.buffers)
    }

    @Test("History")
    func history() async throws {
        let exchange = try Exchange("history")
        let store = MemoryTaskStore()
        let ids = exchange.reply["history"]?.array?.compactMap { $0.string } ?? []
        #expect(ids.count == 12)
        let header = JSONValue.object(["msg_type": "apply_request"]).packed
        for (index, id) in ids.enumerated().reversed() {
            let request = Message(
                identities: [], signature: ByteBuffer(), parts: MessageParts(header: header), buffers: [])
            store.apply([
                .submitted(
                    TaskID(id), request: request, client: "c", date: WireDate(microseconds: Int64(index)), queue: .direct,
                    engine: nil)
            ])
        }
        #expect(await HubAnswers(store: store).history().content == exchange.reply)
    }

    @Test("A resubmission, and the message that it sends")
    func resubmission() async throws {
        let exchange = try Exchange("resubmit")
        // The last answer of that exchange shows the new task's record.
        let last = try Exchange("resubmit", message: -1)
        let ids = exchange.reply["resubmitted"]?.object ?? [:]
        let newID = try #require(ids.values.first?.string)
        let new = try #require(last.reply[newID])
        let date = try #require(new["header"]?["date"]?.string.flatMap { WireDate($0) })

        let answers = try Exchange("result_request").answers()
        let records = try await answers.tasksToResubmit(exchange.request)
        let tasks = records.compactMap { Resubmission(of: $0, as: TaskID(newID), at: date) }
        #expect(HubAnswers.resubmitted(tasks).content == exchange.reply)
        #expect(try tasks.map { try JSONValue(parsing: $0.parts.header) } == [new["header"]])
        #expect(try tasks.map { try JSONValue(parsing: $0.parts.metadata) } == [new["metadata"]])
    }

    @Test("A purge")
    func purge() async throws {
        let exchange = try Exchange("purge")
        let answers = try Exchange("result_request").answers()
        #expect(await answers.purge(exchange.request, engines: [:]).content == exchange.reply)
        #expect(try await answers.store.counts() == TaskCounts())
    }
}

/// A request to the hub and its reply.
private struct Exchange {
    let request: JSONValue
    let reply: JSONObject
    let buffers: [ByteBuffer]

    init(_ name: String, message: Int = 1) throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: folder.appending(path: "Vectors/hub_queries.json"), encoding: .utf8)
        let exchanges = try JSONValue(parsing: text)["exchanges"]?.array ?? []
        let messages = try #require(exchanges.first { $0["name"]?.string == name }?["messages"]?.array)
        let reply = messages[message < 0 ? messages.count + message : message]
        self.request = try #require(messages[0]["decoded"]?["content"])
        self.reply = try #require(reply["decoded"]?["content"]?.object)
        let frames = (reply["frames"]?.array ?? []).map { ByteBuffer(bytes: Data(base64Encoded: $0.string ?? "") ?? Data()) }
        self.buffers = Array(try Message(frames: frames).buffers)
    }

    /// A store with the tasks that this reply shows, and with these buffers.
    func answers(from other: Exchange? = nil) -> HubAnswers {
        let store = MemoryTaskStore()
        let shown = other ?? self
        let lengths = (self.reply["buffer_lens"]?.array?.first?.int, self.reply["result_buffer_lens"]?.array?.first?.int)
        let (own, result) = (self.buffers.prefix(lengths.0 ?? 0), self.buffers.suffix(lengths.1 ?? self.buffers.count))
        for (id, entry) in shown.reply {
            guard let header = entry["header"], let session = header["session"]?.string else { continue }
            func message(_ header: String, _ metadata: String, _ content: String, _ buffers: ArraySlice<ByteBuffer>) -> Message {
                let parts = MessageParts(
                    header: (entry[header] ?? [:]).packed, metadata: (entry[metadata] ?? [:]).packed,
                    content: (entry[content] ?? [:]).packed)
                return Message(identities: [], signature: ByteBuffer(), parts: parts, buffers: Array(buffers))
            }
            store.apply([
                .submitted(
                    TaskID(id), request: message("header", "metadata", "content", own), client: session,
                    date: header["date"]?.string.flatMap { WireDate($0) }, queue: .balanced, engine: nil),
                .completed(
                    TaskID(id), reply: message("result_header", "result_metadata", "result_content", result),
                    received: entry["received"]?.string.flatMap { WireDate($0) } ?? .now),
            ])
        }
        return HubAnswers(store: store)
    }
}

extension JSONObject {
    /// The answer without the members that Apus adds to Python's answers.
    fileprivate var withoutOutputs: JSONObject {
        self.mapValues { value in
            guard var entry = value.object, var outputs = entry["io"]?.object else { return value }
            outputs["outputs"] = nil
            entry["io"] = .object(outputs)
            return .object(entry)
        }
    }
}
