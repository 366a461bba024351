import ApusCore
import ApusTestKit
import ApusWire
import NIOCore
import Testing

@Suite("The queues of direct requests")
struct DirectQueuesTests {
    private func request(_ client: String, buffers: [ByteBuffer] = []) -> DirectRequest {
        let parts = MessageParts(
            header: ByteBuffer(string: "header"), parent: MessageParts.emptyObject, metadata: ByteBuffer(string: "metadata"),
            content: MessageParts.emptyObject)
        return DirectRequest(
            Message(
                identities: [ByteBuffer(string: client)], signature: ByteBuffer(), parts: parts, buffers: buffers), at: .mux)
    }

    private func queues(_ requests: [(TaskID, EngineUUID)]) throws -> DirectQueues {
        var queues = DirectQueues()
        queues.engineJoined(ada)
        queues.engineJoined(bob)
        for (task, engine) in requests { queues.submitted(task, to: engine, self.request("client")) }
        try queues.checkInvariants()
        return queues
    }

    @Test("Requests are listed in the order sent, until they are answered")
    func order() throws {
        var queues = try self.queues([(c, ada), (a, ada), (b, bob), (d, ada)])
        #expect(queues.queue(of: ada) == [c, a, d])
        #expect(queues.queueCount(of: ada) == 3)
        #expect(queues.isQueued(b))
        queues.replied(a, by: ada, wasAborted: false)
        queues.replied(b, by: bob, wasAborted: true)
        #expect(queues.queue(of: ada) == [c, d])
        #expect(!queues.isQueued(b))
        #expect(queues.completed(of: ada) == [a])
        #expect(queues.completedCount(of: bob) == 0, "what was aborted is not completed")
        try queues.checkInvariants()
    }

    @Test("A request that is sent under an id that waits already takes that one's place")
    func again() throws {
        var queues = try self.queues([(a, ada), (b, ada)])
        queues.submitted(a, to: ada, self.request("other"))
        #expect(queues.queue(of: ada) == [a, b])
        #expect(
            queues.engineLeft(ada).map(\.request.identities) == [[ByteBuffer(string: "other")], [ByteBuffer(string: "client")]])
        try queues.checkInvariants()
    }

    @Test("What an engine leaves unanswered is given out in order, once")
    func left() throws {
        var queues = try self.queues([(b, ada), (a, ada), (c, bob)])
        #expect(queues.engineLeft(ada).map(\.task) == [b, a])
        #expect(queues.engineLeft(ada).map(\.task) == [])
        #expect(queues.queue(of: bob) == [c])
        // A request to an engine that is not there is not waited for.
        queues.submitted(d, to: ada, self.request("client"))
        queues.replied(d, by: ada, wasAborted: false)
        queues.finished(e, on: ada)
        #expect(queues.queueCount(of: ada) == 0)
        #expect(queues.completedCount(of: ada) == 0)
    }

    @Test("Load-balanced tasks count as completed too; of many the last ids are kept, and the count is exact")
    func completed() throws {
        var queues = try self.queues([])
        for number in 0..<2000 { queues.finished(TaskID("task \(number)"), on: ada) }
        #expect(queues.completedCount(of: ada) == 2000)
        #expect(queues.completed(of: ada).count == DirectQueues.completedLimit)
        #expect(queues.completed(of: ada).first == TaskID("task 976"))
        try queues.checkInvariants()
        queues.engineJoined(ada)
        #expect(queues.completedCount(of: ada) == 0)
    }

    @Test("Of a request only what its answer needs is kept: of its buffers only the function's, if that may have a name")
    func kept() {
        let (short, long) = (ByteBuffer(string: "function"), ByteBuffer(repeating: 1, count: 4096))
        #expect(self.request("client", buffers: [short, long]).function == short)
        #expect(self.request("client", buffers: [long]).function == nil)
        #expect(self.request("client").function == nil)
    }

    // MARK: After a controller that was killed

    @Test("A request to an engine that has yet to say what it holds is kept, and sent if the engine does not have it")
    func inDoubt() throws {
        var queues = DirectQueues()
        queues.engineExpected(ada, reports: true)
        #expect(queues.reporting == [ada])
        let isExpected = queues.restored(a, to: ada, self.request("client"))
        #expect(isExpected)
        for task in [b, c] {
            #expect(queues.reception(of: task, for: ada) == .keep)
            queues.submitted(task, to: ada, self.request("client"), isInDoubt: true)
        }
        queues.engineJoined(ada)
        let settlement = queues.engineReported(ada, EngineReport(asked: [a, b], has: [c, d]))
        #expect(settlement.missing == [a, b])
        // Its answer may be among those that were lost.
        #expect(settlement.found == [c])
        #expect(settlement.lost.isEmpty)
        #expect(queues.reception(of: c, for: ada) == .drop, "it waits already")
        #expect(queues.reception(of: d, for: ada) == .ask, "the engine has it, from the controller before")
        #expect(queues.reception(of: e, for: ada) == .send)
        try queues.checkInvariants()
    }

    @Test("A request whose answer the engine cannot repeat is lost")
    func lostAnswer() {
        var queues = DirectQueues()
        queues.engineExpected(ada, reports: true)
        _ = queues.restored(a, to: ada, self.request("client"))
        queues.engineJoined(ada)
        #expect(queues.engineReported(ada, EngineReport(asked: [a], has: [], lost: [a])).lost.map(\.task) == [a])
        #expect(queues.queue(of: ada) == [])
    }

    @Test("A request that was sent again and of which the engine knows nothing after a while is lost")
    func neverDelivered() {
        var queues = DirectQueues()
        queues.engineExpected(ada, reports: true)
        _ = queues.restored(a, to: ada, self.request("client"))
        queues.engineJoined(ada)
        let report = EngineReport(asked: [a], has: [])
        #expect(queues.engineReported(ada, report).missing == [a])
        // The same report once more may have left the engine before the request came.
        #expect(queues.engineReported(ada, report).lost.isEmpty)
        #expect(queues.engineHadTime(ada, for: [a, b]) == [a])
        #expect(queues.engineReported(ada, report).lost.map(\.task) == [a])
        #expect(queues.engineHadTime(ada, for: [a]) == [])
    }

    @Test("Requests to an engine that cannot say what it holds are sent, and restored ones end by its report")
    func stockEngine() {
        var queues = DirectQueues()
        queues.engineExpected(ada)
        #expect(queues.reporting == [])
        _ = queues.restored(a, to: ada, self.request("client"))
        queues.engineJoined(ada)
        #expect(queues.reception(of: b, for: ada) == .send)
        queues.submitted(b, to: ada, self.request("client"))
        #expect(queues.engineReported(ada, EngineReport(asked: [a], has: [], lost: [a])).lost.map(\.task) == [a])
        #expect(queues.queue(of: ada) == [b])
    }

    @Test("A request that is sent again after its engine has answered is answered from the records")
    func answeredBefore() {
        var queues = DirectQueues()
        queues.engineExpected(ada, reports: true)
        queues.engineJoined(ada)
        _ = queues.engineReported(ada, EngineReport(asked: [], has: [a]))
        let isFirst = queues.answeredUnknown(a, by: ada)
        #expect(isFirst)
        queues.replied(a, by: ada, wasAborted: false)
        let isFirstAgain = queues.answeredUnknown(a, by: ada)
        #expect(!isFirstAgain)
        #expect(queues.reception(of: a, for: ada) == .answerFromRecords)
    }
}
