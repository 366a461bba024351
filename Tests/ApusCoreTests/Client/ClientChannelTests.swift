import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("A client whose connection breaks")
struct ClientChannelTests {
    private func session(patience: Duration = .seconds(60)) -> SessionTranscript {
        SessionTranscript(patience: patience, engines: ["0": "ada", "1": "bob"])
    }

    /// A client that has lost these tasks' channel, which is back, with the hub of that name.
    private func recovering(_ tasks: [TaskID], hub: String) -> SessionTranscript {
        var client = self.session()
        client.submit(tasks)
        client.on(.disconnected(.task))
        #expect(client.on(.connected(.task)) == [.announceChange, .identifyHub(recovery: 1)])
        client.answerAsHub(hub)
        return client
    }

    @Test("Questions that were under way are unanswered when their channel is back; later ones wait in the socket")
    func questions() {
        var client = self.session()
        client.submit(a, on: .control, to: [ada], output: .ignored)
        client.submit(b, on: .query, output: .ignored)
        #expect(client.on(.disconnected(.control)) == [])
        client.submit(c, on: .control, to: [ada], output: .ignored)
        #expect(client.on(.disconnected(.control)) == [], "a socket that fails to connect has lost nothing more")
        #expect(client.on(.connected(.control)) == [.announceChange, .fail(client[a], .unanswered)])
        #expect(client.reply(c) == [.keepReply(of: client[c], .end)])
        #expect(client.reply(b) == [.keepReply(of: client[b], .end)])
    }

    @Test("A question that changes nothing may be asked again")
    func mayBeAskedAgain() {
        let questions: [MessageType] = [
            .connectionRequest, .queueRequest, .loadRequest, .uptimeRequest, .resultRequest, .historyRequest, .databaseRequest,
        ]
        #expect(questions.allSatisfy { $0.isQuestion })
        let others: [MessageType] = [.purgeRequest, .resubmitRequest, .shutdownRequest, .abortRequest, .applyRequest]
        #expect(!others.contains { $0.isQuestion })
    }

    @Test("The hub is asked which engines are registered when notifications were missed")
    func missedNotifications() {
        var client = SessionTranscript()
        client.on(.disconnected(.notification))
        #expect(client.on(.connected(.notification)) == [.announceChange, .refreshEngines])
        #expect(client.on(.connected(.iopub)) == [.announceChange])
    }

    @Test("Only answers to our own questions tell which hub it is")
    func hub() {
        var client = self.session()
        #expect(client.session.hub == "hub")
        client.reply(TaskID("not asked"), hub: "mallory")
        #expect(client.session.hub == "hub")
        client.answerAsHub("another")
        #expect(client.session.hub == "another")
    }

    // MARK: Patience

    @Test("Waiting callers are told when the controller has been out of reach for long, and again while it stays so")
    func patience() {
        var client = self.session()
        client.submit(a)
        client.submit(b, on: .query, output: .ignored)
        #expect(client.on(.disconnected(.query)) == [client.timer(in: .seconds(60))])
        client.submit(c)
        let effects = client.fire(after: .seconds(60))
        #expect(
            effects == [
                .fail(client[a], .controllerOutOfReach), .fail(client[b], .controllerOutOfReach),
                .fail(client[c], .controllerOutOfReach),
                client.timer(in: .seconds(60)),
            ])
        client.submit(d)
        #expect(client.fire(after: .seconds(60)) == [.fail(client[d], .controllerOutOfReach), client.timer(in: .seconds(60))])
        client.submit(e)
        client.on(.connected(.query))
        #expect(client.fire(after: .seconds(60)) == [])
    }

    @Test("Patience begins anew with each loss")
    func patienceAgain() {
        var client = self.session()
        client.submit(a)
        client.on(.disconnected(.query))
        client.wait(.seconds(30))
        client.on(.connected(.query))
        client.on(.disconnected(.query))
        #expect(client.fire(after: .seconds(30)) == [client.timer(in: .seconds(30))])
        #expect(client.fire(after: .seconds(30)).first == .fail(client[a], .controllerOutOfReach))
    }

    // MARK: Recovery

    @Test("The hub is asked for the results of tasks that were on their way, until all have one")
    func recovers() {
        var client = self.recovering([a, b], hub: "hub")
        client.submit(c)
        #expect(client.on(.hubIdentified(recovery: 1)) == [.fetchResults([a, b], recovery: 1)])
        #expect(client.on(.resultsCame([b], recovery: 1)) == [.restore(client[b]), client.timer(in: .milliseconds(20))])
        #expect(client.fire(after: .milliseconds(20)) == [.fetchResults([a], recovery: 1)])
        #expect(client.on(.resultsCame([], recovery: 1)) == [client.timer(in: .milliseconds(40))])
        #expect(client.fire(after: .milliseconds(40)) == [.fetchResults([a], recovery: 1)])
        #expect(client.on(.resultsCame([a], recovery: 1)) == [.restore(client[a])])
        #expect(client.on(.resultsCame([a], recovery: 1)) == [])
    }

    @Test("A reply that comes after all ends the search, and pauses grow to a second")
    func repliesAfterAll() {
        var client = self.recovering([a], hub: "hub")
        client.on(.hubIdentified(recovery: 1))
        for pause in [20, 40, 80, 160, 320, 640, 1000, 1000] {
            #expect(client.on(.resultsCame([], recovery: 1)) == [client.timer(in: .milliseconds(pause))])
            #expect(client.fire(after: .milliseconds(pause)) == [.fetchResults([a], recovery: 1)])
        }
        #expect(client.reply(a) == [.keepReply(of: client[a], .end)])
        #expect(client.on(.resultsCame([a], recovery: 1)) == [])
    }

    @Test("A task whose result waits only for output is found with its output; one whose result is there is not looked for")
    func recoversOutput() {
        var client = self.session()
        client.submit(a, output: .awaited)
        client.submit(b)
        client.reply(a, outputs: nil)
        client.reply(b, outputs: nil)
        client.on(.disconnected(.task))
        client.on(.connected(.task))
        #expect(client.on(.hubIdentified(recovery: 1)) == [.fetchResults([a], recovery: 1)])
        #expect(client.on(.resultsCame([a], recovery: 1)) == [.restore(client[a])])
    }

    @Test("A hub that does not know one of the tasks is asked for each by itself")
    func asksOneByOne() {
        var client = self.recovering([a, b, c], hub: "hub")
        #expect(client.on(.hubIdentified(recovery: 1)) == [.fetchResults([a, b, c], recovery: 1)])
        #expect(client.on(.resultsFailed(.refused, recovery: 1)) == [.fetchResults([a], recovery: 1)])
        #expect(client.on(.resultsCame([a], recovery: 1)) == [.restore(client[a]), .fetchResults([b], recovery: 1)])
        #expect(
            client.on(.resultsFailed(.refused, recovery: 1)) == [
                .fail(client[b], .lost(.unknown(isAnotherHub: false))), .fetchResults([c], recovery: 1),
            ])
        #expect(client.on(.resultsFailed(.failed, recovery: 1)) == [.fail(client[c], .lost(.unreadable))])
    }

    @Test("No more than a thousand results are asked for at a time")
    func slices() {
        let tasks = (0..<2500).map { TaskID("\($0)") }
        var client = self.recovering(tasks, hub: "hub")
        #expect(client.on(.hubIdentified(recovery: 1)) == [.fetchResults(Array(tasks[..<1000]), recovery: 1)])
        #expect(client.on(.resultsCame([], recovery: 1)) == [.fetchResults(Array(tasks[1000..<2000]), recovery: 1)])
        #expect(client.on(.resultsCame([], recovery: 1)) == [.fetchResults(Array(tasks[2000...]), recovery: 1)])
        #expect(client.on(.resultsCame([], recovery: 1)) == [client.timer(in: .milliseconds(20))])
    }

    @Test("Another hub is also asked which engines have the tasks: a task that no engine has is lost")
    func anotherHub() {
        var client = self.recovering([a, b, c, d], hub: "another")
        #expect(client.on(.hubIdentified(recovery: 1)) == [.fetchResults([a, b, c, d], recovery: 1)])
        #expect(client.on(.resultsCame([a], recovery: 1)) == [.restore(client[a]), .findEngines([b, c, d], recovery: 1)])
        #expect(
            client.on(.enginesFound([c: ada, d: eve], recovery: 1)) == [
                .fail(client[b], .lost(.unassigned)), client.timer(in: .milliseconds(20)),
            ])
        // An engine has ten seconds to come.
        client.wait(.seconds(10))
        #expect(client.on(.timerFired) == [.fetchResults([c, d], recovery: 1)])
        #expect(client.on(.resultsCame([], recovery: 1)) == [.findEngines([c, d], recovery: 1)])
        #expect(
            client.on(.enginesFound([c: ada, d: eve], recovery: 1)) == [
                .fail(client[d], .lost(.engineStayedAway)), client.timer(in: .milliseconds(40)),
            ])
        #expect(client.reply(c) == [.keepReply(of: client[c], .end)])
    }

    @Test("Another hub that has no record of a task says that it is another")
    func unknownToAnother() {
        var client = self.recovering([a], hub: "another")
        client.on(.hubIdentified(recovery: 1))
        #expect(client.on(.resultsFailed(.refused, recovery: 1)) == [.fail(client[a], .lost(.unknown(isAnotherHub: true)))])
    }

    @Test("Where the hub cannot be asked, nobody waits for ever")
    func unaskable() {
        var client = self.recovering([a, b], hub: "hub")
        client.reply(a)
        #expect(client.on(.recoveryFailed(1)) == [.fail(client[b], .lost(.unaskable))])
        #expect(client.on(.hubIdentified(recovery: 1)) == [])
    }

    @Test("Where the hub cannot read its records, tasks are asked for again, and fail when that lasts as long as patience")
    func unreadableRecords() {
        var client = self.recovering([a, b], hub: "another")
        client.on(.hubIdentified(recovery: 1))
        #expect(client.on(.recordsUnreadable(recovery: 1)) == [.findEngines([a, b], recovery: 1)])
        #expect(client.on(.recordsUnreadable(recovery: 1)) == [client.timer(in: .milliseconds(20))])
        // An answer in between starts patience anew.
        client.wait(.seconds(40))
        #expect(client.on(.timerFired) == [.fetchResults([a, b], recovery: 1)])
        #expect(client.on(.resultsCame([a], recovery: 1)) == [.restore(client[a]), .findEngines([b], recovery: 1)])
        #expect(client.on(.recordsUnreadable(recovery: 1)) == [client.timer(in: .milliseconds(40))])
        client.wait(.seconds(59))
        #expect(client.on(.timerFired) == [.fetchResults([b], recovery: 1)])
        #expect(client.on(.recordsUnreadable(recovery: 1)) == [.findEngines([b], recovery: 1)])
        #expect(client.on(.recordsUnreadable(recovery: 1)) == [client.timer(in: .milliseconds(80))])
        client.wait(.seconds(1))
        #expect(client.on(.timerFired) == [.fetchResults([b], recovery: 1)])
        #expect(client.on(.recordsUnreadable(recovery: 1)) == [.fail(client[b], .lost(.unreadable))])
    }

    @Test("A hub that took up an earlier one's tasks is sent those that it does not know, and waited for with the others")
    func restoringHub() {
        var client = self.recovering([a, b], hub: "another")
        let question = client.ask()
        client.on(.enginesAnswered(question, SessionTranscript.answer([:], apus: ["features": ["restoration"]])))
        client.on(.hubIdentified(recovery: 1))
        // It refuses the question as a whole, for it does not know one of the two.
        #expect(client.on(.resultsFailed(.refused, recovery: 1)) == [.fetchResults([a], recovery: 1)])
        #expect(client.on(.resultsFailed(.unknown, recovery: 1)) == [.sendAgain(client[a]), .fetchResults([b], recovery: 1)])
        #expect(client.on(.resultsCame([], recovery: 1)) == [.findEngines([a, b], recovery: 1)])
        // Neither has an engine, and no engine of either is here: the hub will end them.
        #expect(client.on(.enginesFound([b: ada], recovery: 1)) == [client.timer(in: .milliseconds(20))])
        client.wait(.seconds(60))
        #expect(client.reply(a) == [.keepReply(of: client[a], .end)])
    }

    @Test(
        "A direct request is sent again where its engine can say whether it has had it, or the hub is the same",
        arguments: [true, false])
    func directRequest(isAnotherHub: Bool) {
        var client = self.session()
        client.submit(a, on: .mux, to: [ada])
        client.submit(b, on: .mux, to: [bob])
        client.answerAsHub("hub")
        client.on(.disconnected(.mux))
        client.on(.connected(.mux))
        client.answerAsHub(isAnotherHub ? "another" : "hub")
        let question = client.ask()
        let answer = SessionTranscript.answer([:], apus: ["features": ["restoration"], "reports": ["ada"]])
        client.on(.enginesAnswered(question, answer))
        client.on(.hubIdentified(recovery: 1))
        client.on(.resultsFailed(.refused, recovery: 1))
        #expect(client.on(.resultsFailed(.unknown, recovery: 1)).first == .sendAgain(client[a]))
        #expect(
            client.on(.resultsFailed(.unknown, recovery: 1)).first
                == (isAnotherHub ? .fail(client[b], .lost(.unknown(isAnotherHub: true))) : .sendAgain(client[b])))
    }

    @Test("A channel that breaks again starts another search, and both may end a task, once")
    func breaksAgain() {
        var client = self.recovering([a, b], hub: "hub")
        client.on(.hubIdentified(recovery: 1))
        client.on(.disconnected(.task))
        #expect(client.on(.connected(.task)) == [.announceChange, .identifyHub(recovery: 2)])
        client.answerAsHub("another")
        #expect(client.on(.hubIdentified(recovery: 2)) == [.fetchResults([a, b], recovery: 2)])
        #expect(client.on(.resultsCame([a], recovery: 1)) == [.restore(client[a]), client.timer(in: .milliseconds(20))])
        #expect(client.on(.resultsCame([a, b], recovery: 2)) == [.restore(client[b])])
        #expect(client.fire(after: .milliseconds(20)) == [])
    }

    // MARK: The end

    @Test("A closed client takes nothing more, and everyone who waits is told")
    func closes() {
        var client = self.recovering([a, b], hub: "hub")
        client.on(.hubIdentified(recovery: 1))
        #expect(client.on(.closing) == [])
        #expect(client.refusal(of: c) == .ended(.closed))
        #expect(client.on(.resultsCame([b], recovery: 1)) == [], "what is asked then is not")
        #expect(client.reply(b) == [.keepReply(of: client[b], .end)], "what was sent leaves, and answers come")
        #expect(client.on(.closed) == [.fail(client[a], .ended(.closed)), .announceChange])
        #expect(client.session.ending == .closed)
    }

    @Test("A reply counts even if the client is closed before all output has come")
    func closesAfterReply() {
        var client = self.session()
        client.submit(a, output: .awaited)
        client.reply(a, outputs: nil)
        client.on(.closing)
        #expect(client.on(.closed) == [.conclude(client[a]), .announceChange])
    }

    @Test("When the controller shuts down, last replies get a moment; then everyone who waits is told")
    func shutdown() {
        var client = self.session()
        client.submit(a)
        client.submit(b)
        #expect(client.on(.shutdownAnnounced) == [.announceChange, client.timer(in: .milliseconds(200))])
        #expect(client.session.directory.engines == [:])
        #expect(client.refusal(of: c) == .ended(.controllerShutDown))
        #expect(client.reply(a) == [.keepReply(of: client[a], .end)])
        #expect(client.on(.disconnected(.query)) == [], "that is expected now")
        #expect(client.fire(after: .milliseconds(200)) == [.fail(client[b], .ended(.controllerShutDown))])
        #expect(client.on(.closing) == [])
        #expect(client.session.ending == .controllerShutDown)
    }
}
