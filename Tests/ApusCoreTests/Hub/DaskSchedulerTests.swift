import ApusWire
import Testing

@testable import ApusCore

@Suite("Dask's scheduler")
struct DaskSchedulerTests {
    typealias Scheduler = DaskScheduler<String>

    let address = Scheduler.Address(ip: "10.0.0.1", address: "tcp://10.0.0.1:8786", port: 8786)
    let gone = ErrorContent(name: "RuntimeError", value: "it ended")

    @Test("Is started for the first client that asks; all that ask meanwhile get its address, and so do later ones")
    func oneForAll() {
        var scheduler = Scheduler()
        #expect(scheduler.handle(.wanted("a", arguments: ["port": 1])) == [.start(arguments: ["port": 1])])
        #expect(scheduler.handle(.wanted("b", arguments: ["port": 2])) == [])
        #expect(
            scheduler.handle(.listening(self.address)) == [
                .answer("a", .address(self.address)), .answer("b", .address(self.address)),
            ])
        #expect(scheduler.handle(.wanted("c", arguments: [:])) == [.answer("c", .address(self.address))])
    }

    @Test("That cannot start says why to all that asked, and the next client has another try")
    func failure() {
        var scheduler = Scheduler()
        _ = scheduler.handle(.wanted("a", arguments: [:]))
        _ = scheduler.handle(.wanted("b", arguments: [:]))
        #expect(
            scheduler.handle(.ended(self.gone)) == [.answer("a", .failed(self.gone)), .answer("b", .failed(self.gone))])
        #expect(scheduler.handle(.wanted("c", arguments: [:])) == [.start(arguments: [:])])
    }

    @Test("Is ended when a client asks for that, and asking again changes nothing")
    func stop() {
        var scheduler = Scheduler()
        #expect(scheduler.handle(.unwanted("a")) == [.answer("a", .stopped)])
        _ = scheduler.handle(.wanted("b", arguments: [:]))
        _ = scheduler.handle(.listening(self.address))
        #expect(scheduler.handle(.unwanted("c")) == [.stop, .answer("c", .stopped)])
        #expect(scheduler.handle(.unwanted("d")) == [.answer("d", .stopped)])
        #expect(scheduler.handle(.ended(self.gone)) == [])
        #expect(scheduler.handle(.wanted("e", arguments: [:])) == [.start(arguments: [:])])
    }

    @Test("That is asked for while the one before it ends is started when that has ended, because both may want one port")
    func again() {
        var scheduler = Scheduler()
        _ = scheduler.handle(.wanted("a", arguments: [:]))
        _ = scheduler.handle(.listening(self.address))
        _ = scheduler.handle(.unwanted("b"))
        #expect(scheduler.handle(.wanted("c", arguments: ["port": 3])) == [])
        #expect(scheduler.handle(.wanted("d", arguments: [:])) == [])
        #expect(scheduler.handle(.ended(self.gone)) == [.start(arguments: ["port": 3])])
        #expect(
            scheduler.handle(.listening(self.address)) == [
                .answer("c", .address(self.address)), .answer("d", .address(self.address)),
            ])
    }

    @Test("That is ended before it listens disappoints those that wait, with a reason")
    func stopWhileStarting() {
        var scheduler = Scheduler()
        _ = scheduler.handle(.wanted("a", arguments: [:]))
        let effects = scheduler.handle(.unwanted("b"))
        #expect(effects.count == 3 && effects.first == .stop && effects.last == .answer("b", .stopped))
        guard case .answer("a", .failed(let error)) = effects[1] else { return #expect(Bool(false), "\(effects)") }
        #expect(error.value == "dask's scheduler was stopped by a client before it could be reached")
        // What the process says as it ends comes too late.
        #expect(scheduler.handle(.listening(self.address)) == [])
        // Nor does a client that asked in between, and then is disappointed too, have it started.
        #expect(scheduler.handle(.wanted("c", arguments: [:])) == [])
        #expect(scheduler.handle(.unwanted("d")).count == 2)
        #expect(scheduler.handle(.ended(self.gone)) == [])
    }

    @Test("Whose process ends by itself is reported, and started anew for the next client")
    func death() {
        var scheduler = Scheduler()
        _ = scheduler.handle(.wanted("a", arguments: [:]))
        _ = scheduler.handle(.listening(self.address))
        #expect(scheduler.handle(.ended(self.gone)) == [.report(self.gone)])
        #expect(scheduler.handle(.wanted("b", arguments: [:])) == [.start(arguments: [:])])
    }
}
