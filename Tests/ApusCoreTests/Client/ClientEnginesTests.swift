import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("What a client makes of engines that come and go")
struct ClientEnginesTests {
    @Test("The hub's answer tells who is registered, what the controller can do, and whether engines are coming")
    func answer() {
        var client = SessionTranscript()
        let question = client.ask()
        let apus: JSONValue = ["features": ["limits", "unheard of", 3], "no_engine_is_coming": "all have died"]
        #expect(client.on(.enginesAnswered(question, SessionTranscript.answer(["0": "ada"], apus: apus))) == [.announceChange])
        #expect(client.session.directory.engines == [0: ada])
        #expect(client.session.features == [.limits])
        #expect(client.session.noEngineIsComing == "all have died")
        let next = client.ask()
        client.on(.enginesAnswered(next, SessionTranscript.answer([:])))
        #expect(client.session.directory.engines == [:])
        #expect(client.session.features == [])
        #expect(client.session.noEngineIsComing == nil)
    }

    @Test("A question without an answer, or with one that lists no engines, leaves engines as they are")
    func noAnswer() {
        var client = SessionTranscript(engines: ["0": "ada"])
        let (first, second) = (client.ask(), client.ask())
        #expect(client.on(.enginesAnswered(first, nil)) == [])
        #expect(client.on(.enginesAnswered(second, ["status": "error"])) == [])
        #expect(client.session.directory.engines == [0: ada])
    }

    @Test("News that come while questions are under way are newer than their answers")
    func newsDuringQuestions() {
        var client = SessionTranscript(engines: ["0": "ada"])
        let first = client.ask()
        #expect(client.on(.engineNews(.added(1, bob, [:]))) == [.announceChange])
        let second = client.ask()
        client.on(.engineNews(.removed(0, ada)))
        client.on(.enginesAnswered(first, SessionTranscript.answer(["0": "ada"])))
        #expect(client.session.directory.engines == [1: bob])
        client.on(.enginesAnswered(second, SessionTranscript.answer(["0": "ada", "1": "bob"])))
        #expect(client.session.directory.engines == [1: bob])
        let third = client.ask()
        client.on(.enginesAnswered(third, SessionTranscript.answer(["2": "eve"])))
        #expect(client.session.directory.engines == [2: eve])
    }

    // MARK: No engines

    @Test("The client says once that tasks wait because there are no engines, and again after engines have been there")
    func warns() {
        var client = SessionTranscript()
        #expect(client.submit(a) == [.warnOfNoEngines(waiting: 1)])
        #expect(client.submit(b) == [])
        client.on(.engineNews(.added(0, ada, [:])))
        #expect(client.submit(c) == [])
        let effects = client.on(.engineNews(.removed(0, ada)))
        #expect(effects == [.announceChange, client.timer(in: .seconds(1)), client.timer(in: .milliseconds(100))])
        #expect(client.fire(after: .milliseconds(100)) == [client.timer(in: .milliseconds(900))])
        #expect(client.fire(after: .milliseconds(900)) == [.warnOfNoEngines(waiting: 3)])
        #expect(client.submit(d) == [])
    }

    @Test("Nothing is said when another engine takes the last one's place in time, or no task is left to wait")
    func warnsNot() {
        var client = SessionTranscript(engines: ["0": "ada"])
        client.submit(a)
        client.on(.engineNews(.removed(0, ada)))
        client.wait(.milliseconds(500))
        client.on(.engineNews(.added(0, bob, [:])))
        #expect(client.fire(after: .milliseconds(500)) == [])
        client.on(.engineNews(.removed(0, bob)))
        client.reply(a)
        #expect(client.fire(after: .seconds(1)) == [])
    }

    @Test("Nothing is said of direct tasks, nor while the hub is out of reach")
    func warnsOnlyOfWaiting() {
        var client = SessionTranscript()
        #expect(client.submit(a, on: .mux, to: [ada]) == [])
        client.on(.disconnected(.query))
        #expect(client.submit(b) == [])
    }
}
